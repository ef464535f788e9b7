"""Ten thousand parts through mosquitto while one thing after another breaks: escapes, late and double actuations.

    python benchmarks/soak.py --report docs/soak.md
    python benchmarks/soak.py --parts 600 --rate 15

The real daemon and the real gate, a real mosquitto, a belt of 30 parts/s with every fourth part bad, sealed verdicts. Each fault
lasts a moment, is mended, and parts must go through again before the next one. The truth is in the line, the verdicts are read
from the station's journal, what the gate drove is read from its wire; the three are compared after every fault. Exit status:
0 nothing escaped and nothing acted late or twice, 1 otherwise, 2 there is no mosquitto.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the cell is test code

from benchmarks.page import made_by  # noqa: E402
from edge.broker.launch import BrokerKind, find_mosquitto  # noqa: E402
from edge.demo.book import Tally  # noqa: E402
from tests.support.gate_cell import LEAD_MS, Cell, pause  # noqa: E402

GATE_MS = 400.0  # camera to rejector: 12 parts are on their way at 30/s
MARGIN_MS = 80.0
PASSES = 30  # parts that must go through before the next fault: a second of the line


@dataclass
class Cost:
    """What one kind of fault has cost: times it was done, parts that came meanwhile, good parts ejected, seconds until mended."""

    times: int = 0
    parts: int = 0
    good_lost: int = 0
    back_s: list[float] = field(default_factory=list)


def broker_killed(cell: Cell) -> None:
    """SIGKILL, and a second without one."""
    assert cell.broker is not None
    cell.broker.kill()
    pause(1.0)
    cell.broker.start()


def partition(cell: Cell) -> None:
    """Connections stay, nothing arrives, in both directions."""
    for wire in (cell.station_wire, cell.gate_wire):
        wire.swallow = True
    pause(1.5)
    for wire in (cell.station_wire, cell.gate_wire):
        wire.swallow = False


def daemon_frozen(cell: Cell) -> None:
    """SIGSTOP for a second."""
    cell.daemon.signal(signal.SIGSTOP)
    pause(1.0)
    cell.daemon.signal(signal.SIGCONT)


def daemon_killed(cell: Cell) -> None:
    """SIGKILL, started anew at once."""
    cell.daemon.kill()
    cell.daemon.start()


def gate_frozen(cell: Cell) -> None:
    """SIGSTOP for a second."""
    cell.gate.signal(signal.SIGSTOP)
    pause(1.0)
    cell.gate.signal(signal.SIGCONT)


def broker_frozen(cell: Cell) -> None:
    """SIGSTOP; what it held comes as a flood afterwards."""
    assert cell.broker is not None
    words = [str(cell.broker.pid)]
    subprocess.run(["kill", "-STOP", *words], check=True)
    pause(1.0)
    subprocess.run(["kill", "-CONT", *words], check=True)


def acknowledgements_lost(cell: Cell) -> None:
    """What the broker says to the station vanishes: no verdict is confirmed."""
    cell.station_wire.deaf = True
    pause(1.5)
    cell.station_wire.deaf = False


def slow_link(cell: Cell) -> None:
    """A link that holds everything as long as a verdict lives."""
    for delay_s in (0.1, (GATE_MS - LEAD_MS - MARGIN_MS) / 1000):
        cell.station_wire.delay_s = delay_s
        pause(1.0)
    cell.station_wire.delay_s = 0.0


def connections_cut(cell: Cell) -> None:
    """Both, at once."""
    cell.station_wire.cut()
    cell.gate_wire.cut()


def triggers_lost(cell: Cell) -> None:
    """Every third datagram of each wire."""
    for relay in (cell.to_station, cell.to_gate):
        relay.lose_every = 3
    pause(1.0)
    for relay in (cell.to_station, cell.to_gate):
        relay.lose_every = 0


FAULTS: dict[str, Callable[[Cell], None]] = {
    "broker killed": broker_killed,
    "network swallows everything": partition,
    "daemon frozen": daemon_frozen,
    "gate frozen": gate_frozen,
    "acknowledgements lost": acknowledgements_lost,
    "slow link": slow_link,
    "daemon killed": daemon_killed,
    "broker frozen, then a flood": broker_frozen,
    "connections cut": connections_cut,
    "trigger datagrams lost": triggers_lost,
}


def soak(cell: Cell, parts: int) -> tuple[dict[str, Cost], Tally]:
    """Faults in turn, spread over the parts; then the rest of the parts, and the books."""
    costs = {name: Cost() for name in FAULTS}
    rounds = max(1, parts // (len(FAULTS) * 250))
    every = parts // (rounds * len(FAULTS) + 1)
    order = [name for _ in range(rounds) for name in FAULTS]
    cell.start()
    for number, name in enumerate(order, 1):
        while cell.line.count < number * every:
            pause(0.1)
        before, parts_before, began = cell.verify(), cell.line.count, time.monotonic()
        FAULTS[name](cell)
        mended = time.monotonic()
        cell.wait_for_passes(4)
        cost = costs[name]
        cost.back_s.append(time.monotonic() - mended)
        cell.wait_for_passes(PASSES)
        after = cell.verify()
        cost.times += 1
        cost.parts += cell.line.count - parts_before
        cost.good_lost += after.good_lost - before.good_lost
        print(f"part {cell.line.count}: {name}: {after.good_lost - before.good_lost} good parts lost, "
              f"{time.monotonic() - began:.1f} s", flush=True)  # fmt: skip
    while cell.line.count < parts:
        pause(0.1)
    return costs, cell.finish()


def actuations(cell: Cell) -> tuple[int, int]:
    """(parts the output was opened for twice, openings after the part had gone), from the gate's own wire."""
    times = Counter(count for count, _ in cell.output.opens)
    return sum(n > 1 for n in times.values()), cell.line.counts["open-gone"]


def page(costs: dict[str, Cost], tally: Tally, cell: Cell, rate: float, seconds: float) -> str:
    """docs/soak.md."""
    twice, gone = actuations(cell)
    good = tally.good_passed + tally.good_lost
    lines = [
        "# Ten thousand parts while things break",
        made_by("soak", f"{seconds:.0f} s"),
        f"The real daemon, the real gate and a mosquitto, a belt of {rate:g} parts/s, every fourth part bad, sealed verdicts,",
        f"decided {GATE_MS - LEAD_MS - MARGIN_MS:.0f} ms after the trigger. Faults: [benchmarks/soak.py](../benchmarks/soak.py).",
        "",
        "| parts | through without a PASS | bad parts through | output opened after the part had gone | opened twice | "
        "opened too late for the actuator, and so ejected |",
        "|---|---|---|---|---|---|",
        f"| {tally.parts} | {tally.escapes} | {tally.misses} | {gone} | {twice} | {cell.line.counts['open-late']} |",
        "",
        f"Of {good} good parts {tally.good_passed} went through; {tally.good_lost} were ejected for want of a verdict in time:",
        "the price of default reject, by fault. A line stop keeps it low; the belt stood still for "
        f"{cell.line.counts['stopped-ms'] / 1000:.0f} s in all.",
        "",
        "| fault | times | parts that came from the fault until 34 had gone through again | good parts lost, each time | mended "
        "to the fourth part through, s (median, worst) |",
        "|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        if cost.times:
            back = sorted(cost.back_s)
            lines.append(
                f"| {name} | {cost.times} | {cost.parts} | {cost.good_lost / cost.times:.1f} | "
                f"{back[len(back) // 2]:.1f}, {back[-1]:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=int, default=10_000, metavar="N", help="parts in all")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="parts a second")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    args = parser.parse_args()
    if not find_mosquitto():
        print("soak: mosquitto is not installed (apt-get install mosquitto)", file=sys.stderr)
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        journal_mb = 4.0 + args.parts / 400  # every verdict of the run must still be there at its end
        cell = Cell(
            Path(folder),
            BrokerKind.MOSQUITTO,
            rate_hz=args.rate,
            gate_ms=GATE_MS,
            margin_ms=MARGIN_MS,
            journal_mb=journal_mb,
        )
        try:
            costs, tally = soak(cell, args.parts)
        finally:
            cell.close()
    twice, gone = actuations(cell)
    print(f"{tally}; opened twice {twice}, after the part had gone {gone}, line {dict(cell.line.counts)}")
    if args.report:
        args.report.write_text(page(costs, tally, cell, args.rate, time.monotonic() - began))
    return 0 if tally.escapes + tally.misses + twice + gone == 0 and tally.parts >= args.parts else 1


if __name__ == "__main__":
    sys.exit(main())
