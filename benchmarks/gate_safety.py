"""The daemon is killed and frozen a hundred times each under a running line: when is the gate safe, what gets through?

    python benchmarks/gate_safety.py --report docs/gate_safety.md
    python benchmarks/gate_safety.py --times 5

Safe means: nothing opens any more. A part judged good before the signal may still open at its own deadline, which is why the
deadline here is shorter than two heartbeats; no part triggered after the signal may ever open. Disarmed is when the gate says so.
Exit status: 0 safe within two heartbeats every time, 1 otherwise, 2 there is no mosquitto.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the cell is test code

from benchmarks.page import made_by  # noqa: E402
from edge.broker.launch import BrokerKind, find_mosquitto, wait_until  # noqa: E402
from edge.daemon.talk.announce import BEAT_HZ  # noqa: E402
from edge.mqtt.connection import Connection  # noqa: E402
from edge.mqtt.settings import Broker  # noqa: E402
from edge.wire import topics as channels  # noqa: E402
from tests.support.gate_cell import GATE, LEAD_MS, PATIENCE_S, TOPICS, Cell, pause  # noqa: E402

GATE_MS, MARGIN_MS = 220.0, 30.0  # decided 170 ms after the trigger
RATE_HZ = 20.0
WATCH_S = 1.0
SAFE_NS = round(2e9 / BEAT_HZ)


@dataclass(frozen=True)
class Trial:
    """One signal.

    Attributes:
        last_open_ms: from the signal to the last opening, 0 when none followed.
        younger: openings for parts triggered after the signal. disarmed_ms: until the gate's alarm, None when it raised none.
    """

    last_open_ms: float
    younger: int
    disarmed_ms: float | None

    @property
    def safe(self) -> bool:
        """Nothing opened from two heartbeats on, and nothing triggered after the signal ever."""
        return self.younger == 0 and self.last_open_ms * 1e6 <= SAFE_NS


class Alarm:
    """When the gate last said that it is disarmed, CLOCK_MONOTONIC ns, 0 while it is armed."""

    def __init__(self) -> None:
        self.since_ns = 0

    def hear(self, payload: bytes) -> None:
        """The alarm's topic: empty when it was cleared."""
        self.since_ns = time.monotonic_ns() if payload else 0


@contextlib.contextmanager
def listening(cell: Cell) -> Iterator[Alarm]:
    """Hear the gate's alarm."""
    alarm = Alarm()
    connection = Connection(
        Broker("127.0.0.1", cell.broker_port),
        "safety",
        subscriptions=[(TOPICS.topic(channels.ALARM, f"gate-{GATE}-disarmed"), 1)],
        on_message=lambda message: alarm.hear(message.payload),
        quiet=True,
    )
    connection.start()
    try:
        yield alarm
    finally:
        connection.close(0.2)


def trial(cell: Cell, alarm: Alarm, what: signal.Signals) -> Trial:
    """One signal, and what opened after it; then all is mended."""
    if not wait_until(lambda: alarm.since_ns == 0, PATIENCE_S):
        raise RuntimeError(f"the gate stays disarmed; {cell.logs()}")
    cell.wait_for_passes(4)
    newest, at_ns = cell.line.count, time.monotonic_ns()
    cell.daemon.signal(what)
    pause(WATCH_S)
    opens = [(count, ns) for count, ns in cell.output.opens if ns > at_ns]
    told_ns = alarm.since_ns
    if what is signal.SIGSTOP:
        cell.daemon.signal(signal.SIGCONT)
    else:
        cell.daemon.kill()  # reaps it
        cell.daemon.start()
    cell.recovers()
    return Trial(
        max((ns - at_ns for _, ns in opens), default=0) / 1e6,
        sum(count > newest for count, _ in opens),
        (told_ns - at_ns) / 1e6 if told_ns > at_ns else None,
    )


def row(name: str, trials: list[Trial]) -> str:
    """One line of the table."""
    last = sorted(one.last_open_ms for one in trials)
    told = sorted(one.disarmed_ms for one in trials if one.disarmed_ms is not None)
    disarmed = f"{told[len(told) // 2]:.0f}, {told[-1]:.0f}" if told else "-"
    return (
        f"| {name} | {len(trials)} | {sum(one.safe for one in trials)} | {last[len(last) // 2]:.0f}, {last[-1]:.0f} | "
        f"{sum(one.younger for one in trials)} | {disarmed} | {len(trials) - len(told)} |"
    )


def page(found: dict[str, list[Trial]], missed_beats: int) -> str:
    """docs/gate_safety.md."""
    lines = [
        "# The daemon dies or freezes: the gate",
        made_by("gate-safety"),
        f"A line of {RATE_HZ:g} parts/s decided {GATE_MS - LEAD_MS - MARGIN_MS:.0f} ms after the trigger, ten beats a second, "
        f"`missed_beats = {missed_beats}`, mosquitto between the two.",
        "Safe: no opening from two heartbeats (200 ms) after the signal on, and never one for a part triggered after it.",
        "",
        "D is 170 ms for a reason: a part judged good before the signal opens at its own D, up to D after the signal, and "
        "nothing can or should prevent it. With a D above two beats, 200 ms, the gate would open later than that by "
        "design, as one with the usual 400 ms does. What holds at every D is the other half: no part that came after the "
        "signal goes through.",
        "",
        f"The alarm is for people and no part of this. It is due {missed_beats} beats and a half after the last one, with "
        "three 250 to 350 ms after the signal, and takes its way through the broker. The gate must not take another "
        "connection then: it did so at each line stop, 0.3 s after the signal, and the alarm waited for it. It does so "
        "now only while beats come.",
        "",
        "| signal | times | safe | signal to last opening, ms (median, worst) | openings for parts triggered after it | "
        "signal to the gate's alarm, ms (median, worst) | no alarm within 1 s |",
        "|---|---|---|---|---|---|---|",
        *(row(name, trials) for name, trials in found.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=100, metavar="N", help="signals of each kind")
    parser.add_argument("--missed-beats", type=int, default=3, metavar="N", help="the gate's rules.missed_beats")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    args = parser.parse_args()
    if not find_mosquitto():
        print("gate_safety: mosquitto is not installed (apt-get install mosquitto)", file=sys.stderr)
        return 2
    found: dict[str, list[Trial]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cell = Cell(
            Path(folder),
            BrokerKind.MOSQUITTO,
            rate_hz=RATE_HZ,
            gate_ms=GATE_MS,
            margin_ms=MARGIN_MS,
            missed_beats=args.missed_beats,
            journal_mb=8.0 + args.times / 2,
        )
        try:
            cell.start()
            with listening(cell) as alarm:
                for what in (signal.SIGKILL, signal.SIGSTOP):
                    trials = found[what.name] = []
                    for number in range(1, args.times + 1):
                        trials.append(trial(cell, alarm, what))
                        print(f"{what.name} {number}: {trials[-1]}", flush=True)
        finally:
            cell.close()
    text = page(found, args.missed_beats)
    print(text)
    if args.report:
        args.report.write_text(text)
    return 0 if all(one.safe for trials in found.values() for one in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
