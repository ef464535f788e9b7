"""Parts before the gate under test: triggers and messages at their times, and what became of each part.

What must not happen is judged once: a part let through without its PASS is a failure, whatever happens later. What should happen
(a good part is let through) may be kept from happening by a busy machine, so it is tried again before it is called a failure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from edge.clock import Clock
from edge.gate.kit.book import Book
from edge.gate.kit.line import LineSide
from edge.gate.kit.probes import EARLY, Probe, Send
from edge.gate.kit.station import KitStation

SPACING_MS = 60.0  # between parts: some are on their way at the same time, as on a line
GRACE_S = 0.6  # after D until an ack must have come
TRIES = 5  # a busy machine is late now and then; what must not happen is never tried again
EARLIEST = 0.9  # share of D before which no output may move; a tenth for the clocks of two machines
LATEST_NS = 5_000_000  # after the part's arrival at the rejector: from there on the output would let another part through


@dataclass(slots=True)
class Passage:
    """One part that went past the gate.

    Attributes:
        n: the gate's number of it. probe: what was said about it. trigger_ns: when it came.
    """

    n: int
    probe: Probe
    trigger_ns: int = 0


@dataclass(slots=True)
class Judged:
    """What became of a part.

    Attributes:
        escaped: failures for good. lacking: what may be tried again. why: the ack gives another reason than it must.
    """

    escaped: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)


GOOD = Probe(4, "PASS in time: let through at D", lambda s, n: [Send(EARLY, s.encode(s.verdict(n, "pass")))], opens=True)


class Bench:
    """Plays probes.

    Args:
        station, line, book: see there. clock: this machine's.
        deadline_ms: D of the gate under test, after its trigger. gate_ms: when the part reaches its rejector.
        pitch_ms: parts closer than this must not be told apart; the bench keeps them a quarter further.

    Attributes:
        passages: all parts so far, for the books at the end.
    """

    def __init__(
        self,
        station: KitStation,
        line: LineSide,
        book: Book,
        clock: Clock,
        deadline_ms: float,
        gate_ms: float,
        pitch_ms: float = 0.0,
    ) -> None:
        self.station = station
        self.line = line
        self.book = book
        self.passages: list[Passage] = []
        self._clock = clock
        self.deadline_ns = round(deadline_ms * 1e6)
        self._gone_ns = round(gate_ms * 1e6) + LATEST_NS
        self._spacing_ms = max(SPACING_MS, 1.25 * pitch_ms)
        self._made = 0
        self._offset = 0

    @property
    def newest(self) -> int:
        """Number of the newest part."""
        return self._made + self._offset

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.station.wait_until(lambda: False, seconds)

    def learn_numbers(self) -> bool:
        """Where the gate counts itself: make one part, and take its number from the ack. False when none came."""
        if self.line.sees_output:
            return True
        before = self.book.newest()
        self._made += 1
        self.line.part(self._made, self._clock.monotonic_ns())
        if not self.station.wait_until(lambda: self.book.newest() > before, self.deadline_ns / 1e9 + 5.0):
            return False
        self._offset = self.book.newest() - self._made
        return True

    def play(self, probes: Iterable[Probe], midway: Callable[[], None] | None = None, spacing_ms: float = 0.0) -> list[Passage]:
        """Let parts come, one probe each, and wait until all are decided.

        Args:
            probes: in the order of their parts.
            midway: called once half of D after the last trigger, before it is decided.
            spacing_ms: between two parts; 0 for the usual.
        """
        spacing_ms = spacing_ms or self._spacing_ms
        start_ns = self._clock.monotonic_ns() + round(2.2 * self.deadline_ns)  # room for what is said before the trigger
        passages: list[Passage] = []
        events: list[tuple[int, Callable[[], None]]] = []
        for index, probe in enumerate(probes):
            self._made += 1
            passage = Passage(self._made + self._offset, probe)
            passages.append(passage)
            at_ns = start_ns + round(index * spacing_ms * 1e6)
            events.append((at_ns, self._trigger(passage, self._made, at_ns)))
            self.station.part_ns = at_ns
            said = probe.sends(self.station, passage.n)
            events += [(at_ns + round(send.at * self.deadline_ns), self._say(send)) for send in said]
        last_ns = start_ns + round((len(passages) - 1) * spacing_ms * 1e6)
        if midway is not None:
            events.append((last_ns + self.deadline_ns // 2, midway))
        for at_ns, event in sorted(events, key=lambda pair: pair[0]):
            self.rest(max(0.0, (at_ns - self._clock.monotonic_ns()) / 1e9))
            event()
        self._await(passages)
        self.passages += passages
        return passages

    def judge(self, passage: Passage) -> Judged:
        """What became of one part."""
        judged, probe, opened = Judged(), passage.probe, self.line.opened(passage.n)
        if opened and not probe.opens:
            judged.escaped.append(f"part {passage.n} was let through")
        if len(opened) > 1:
            judged.escaped.append(f"part {passage.n} was let through {len(opened)} times")
        early_ns = passage.trigger_ns + round(EARLIEST * self.deadline_ns)
        if self.line.sees_output and any(at_ns < early_ns for at_ns in opened):
            before_ms = (passage.trigger_ns + self.deadline_ns - opened[0]) / 1e6
            judged.escaped.append(
                f"part {passage.n} was let through {before_ms:.0f} ms before D: a REJECT until D would be too late"
            )
        gone_ns = passage.trigger_ns + self._gone_ns
        if self.line.sees_output and any(at_ns > gone_ns for at_ns in opened):
            after_ms = (max(opened) - gone_ns + LATEST_NS) / 1e6
            judged.escaped.append(
                f"part {passage.n}: the output opened {after_ms:.0f} ms after it had gone, for whatever came next"
            )
        if probe.opens and not opened:
            judged.lacking.append(f"part {passage.n} was not let through{self._told(passage.n)}")
        if probe.quarantines and opened:
            if not self.book.suspects(passage.n):
                judged.lacking.append(f"part {passage.n} was not named in quarantine")
            elif not self.book.ever:
                judged.lacking.append("no alarm was raised")
        acks = self.book.acks(passage.n)
        if acks and probe.why and not opened and acks[0].why not in probe.why:
            wanted, what = " or ".join(sorted(probe.why)), probe.name or "station unfit"
            judged.why.append(f"part {passage.n} ({what}): expected {wanted}, got {acks[0].why}")
        return judged

    def good_parts_open(self, most: int, in_a_row: int = 1) -> bool:
        """Let good parts come until so many in a row were let through; False when none of `most` helped."""
        run, block = 0, 4
        for _ in range(0, most, block):
            for passage in self.play([GOOD] * block):
                run = run + 1 if self.line.opened(passage.n) else 0
            if run >= in_a_row:
                return True
        return False

    def _told(self, n: int) -> str:
        acks = self.book.acks(n)
        return f" (acked {acks[0].decision}, why {acks[0].why})" if acks else " (and not acked)"

    def _trigger(self, passage: Passage, made: int, at_ns: int) -> Callable[[], None]:
        def fire() -> None:
            passage.trigger_ns = self.line.part(made, at_ns)

        return fire

    def _say(self, send: Send) -> Callable[[], None]:
        return lambda: self.station.publish(send.channel, send.payload)

    def _await(self, passages: list[Passage]) -> None:
        """Until all are decided and acked, D and the grace at most after the last one; what is said after D is out by then."""
        end_ns = self._clock.monotonic_ns() + self.deadline_ns + round(GRACE_S * 1e9)
        latest = max((send_at for one in passages for send_at in (one.trigger_ns,)), default=0) + round(2.0 * self.deadline_ns)
        self.station.wait_until(
            lambda: self._clock.monotonic_ns() > latest and all(self.book.acks(one.n) for one in passages),
            max(0.0, (end_ns - self._clock.monotonic_ns()) / 1e9),
        )
        self.rest(0.05)  # a second ack or a second output would follow the first at once


Result = Literal["pass", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: the rule, what was tried, and what came of it."""

    rule: int
    name: str
    result: Result
    detail: str = ""
