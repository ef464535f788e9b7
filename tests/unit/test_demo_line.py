"""The simulated line: normally closed, and what a gate must do to get a part through."""

import itertools
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edge.demo.line import Line, LineSettings
from edge.wire.trigger import OUTPUT, OUTPUT_SCHEMA, TRIGGER, GateOutput, LineTrigger

GATE_MS = 60.0


class Wire:
    """A hand on the gate's side of the wire: answers triggers as it is told, and kicks the watchdog unless told not to."""

    def __init__(self, answer: Callable[["Wire", LineTrigger], None], *, kicking: bool = True) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.seen: list[LineTrigger] = []
        self.line: tuple[str, int] = ("", 0)
        self.answer = answer
        self.kicking = kicking
        self.toggle = False
        self.stop = False
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.ended.is_set():
            ready, _, _ = select.select([self.socket], [], [], 0.005)
            if self.kicking:
                self.toggle = not self.toggle
                self.send(None)
            if ready:
                trigger = TRIGGER.decode(self.socket.recv(600))
                self.seen.append(trigger)
                self.answer(self, trigger)

    def send(self, count: int | None, output: str = "closed") -> None:
        message = GateOutput(OUTPUT_SCHEMA, "g1", count, output, self.toggle, self.stop, 0)  # type: ignore[arg-type]
        self.socket.sendto(OUTPUT.encode(message), self.line)


@pytest.fixture
def run() -> Iterator[Callable[..., tuple[Line, Wire]]]:
    wires: list[Wire] = []

    def start(answer: Callable[[Wire, LineTrigger], None], parts: int = 4, **options: bool) -> tuple[Line, Wire]:
        wire = Wire(answer, **options)
        wires.append(wire)
        line = Line(
            LineSettings(rate_hz=40.0, gate_ms=GATE_MS, lead_ms=10.0, watchdog_ms=50.0),
            [wire.socket.getsockname()],
            is_good=lambda count: count % 2 == 1,
        )
        wire.line = line.address
        wire.thread.start()
        time.sleep(0.03)
        line.start()
        end = time.monotonic() + 5
        while line.count < parts and time.monotonic() < end:
            time.sleep(0.005)
        line.finish()
        return line, wire

    yield start
    for wire in wires:
        wire.ended.set()
        wire.thread.join()
        wire.socket.close()


def test_an_open_in_time_lets_the_part_through_and_triggers_carry_number_stamp_and_encoder(run):
    line, wire = run(lambda wire, trigger: wire.send(trigger.count, "open"))
    tally = line.book.tally()
    assert tally.parts == line.count >= 4
    assert tally.unjudged == tally.parts  # through, and nobody noted a verdict
    assert [t.count for t in wire.seen] == list(range(1, line.count + 1))
    assert all(a.mono_us < b.mono_us and a.enc < b.enc for a, b in itertools.pairwise(wire.seen))


@pytest.mark.parametrize("output", ["closed", None])
def test_without_an_open_everything_is_ejected(run, output):
    line, _ = run(lambda wire, trigger: wire.send(trigger.count, output) if output else None)
    assert line.book.tally().unjudged == 0
    assert line.counts["closed"] == line.count


def test_an_open_for_another_part_lets_nobody_through(run):
    line, _ = run(lambda wire, trigger: wire.send(trigger.count + 1000, "open"))
    assert line.book.tally().unjudged == 0
    assert line.counts["open-gone"] == line.count


def test_an_open_too_late_for_the_actuator_ejects(run):
    line, _ = run(lambda wire, trigger: threading.Timer(0.055, wire.send, (trigger.count, "open")).start())
    time.sleep(0.06)
    assert line.book.tally().unjudged == 0


def test_a_gate_whose_watchdog_stands_still_ejects(run):
    def answer(wire: Wire, trigger: LineTrigger) -> None:
        wire.send(trigger.count, "open")
        wire.kicking = False

    line, _ = run(answer, parts=5)
    assert line.counts["watchdog"] >= 3
    assert not line.gate_alive


def test_a_gate_that_never_kicked_opens_nothing(run):
    line, _ = run(lambda wire, trigger: wire.send(trigger.count, "open"), kicking=False)
    assert line.book.tally().unjudged <= 2  # the first datagram's toggle is a change, and holds 50 ms


def test_a_line_stop_brings_no_new_parts_and_a_dead_gate_cannot_hold_the_line(run):
    def answer(wire: Wire, trigger: LineTrigger) -> None:
        wire.stop = True
        threading.Timer(0.15, setattr, (wire, "stop", False)).start()

    line, _ = run(answer, parts=3)
    assert line.counts["stops"] >= 1
    assert line.counts["stopped-ms"] >= 50


def test_nonsense_on_the_wire_is_counted_and_ignored(run):
    line, _ = run(lambda wire, _trigger: wire.socket.sendto(b"open sesame", wire.line))
    assert line.counts["refused"] >= 3
    assert line.book.tally().unjudged == 0
