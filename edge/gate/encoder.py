"""Where the belt stands, by the counts of its encoder: the shift register of a line whose speed changes or that stops.

A part is decided when the belt has moved `gate_counts - window_counts` since its trigger. Counts come with every trigger and in
telegrams of their own; each carries the time at which it was read. They are believed as long as they can be true:

    back     fewer counts than before: parts no longer stand where the register has them; a trembling belt may go back a little
    jump     more counts than the belt's top speed allows for the time between, or a top speed that was set too low
    silence  no count while parts are under way: the belt may be moving
    stuck    parts come and the belt does not move: the encoder's shaft or cable is broken, or its sender repeats itself
    none     a trigger without a count

Each of these disarms, and every part under way is rejected, since nobody knows where it is. Trust comes back when the belt has
moved once from camera to rejector with counts that hold. While no part is under way nothing can be wrong: a counter that starts
anew, or a line that was switched off, is followed without a word.

Between two counts the belt may have gone on at its top speed, so "is there still time to act" is asked of `ahead`, the furthest
it can be by now, and "has the part come to its decision" of `position`, how far it surely is. Counts wrap at 32 bits.
"""

import math
from dataclasses import dataclass

WRAP = 1 << 32
STAMP_JITTER_MS = 2.0  # between the moment a sender reads its counter and its stamp
STRETCH_NS = 100_000_000  # the speed is asked over so long, too, where the jitter above is 2 %
STUCK_PARTS = 3  # one part may trigger twice by chattering; three times at one place it does not


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Distances in counts.

    Attributes:
        gate_counts: from light barrier to rejector.
        window_counts: a part is decided so many counts before the rejector.
        max_counts_per_s: the belt's top speed.
        lead_ms, margin_ms: what the actuator needs, and the loop's reserve: at top speed they must fit into the window.
        back_counts: so far a belt may tremble or settle back.
        silence_ms: longest time without a count while parts are under way.
    """

    gate_counts: int
    window_counts: int
    max_counts_per_s: float
    lead_ms: float
    margin_ms: float
    back_counts: int = 8
    silence_ms: float = 200.0

    def __post_init__(self) -> None:
        need = self.counts_in(self.lead_ms + self.margin_ms)
        if not need <= self.window_counts < self.gate_counts:
            raise ValueError(
                f"expected window_counts of at least {need} (lead_ms + margin_ms at max_counts_per_s) and below gate_counts, "
                f"{self.gate_counts}, got {self.window_counts}"
            )

    def counts_in(self, ms: float) -> int:
        """How far the belt goes at top speed, counts."""
        return math.ceil(self.max_counts_per_s * ms / 1000)

    @property
    def deadline_counts(self) -> int:
        """D: a part is decided so many counts after its trigger."""
        return self.gate_counts - self.window_counts

    @property
    def actuate_until_counts(self) -> int:
        """After this the output would no longer act in time: counts after the trigger."""
        return self.gate_counts - self.counts_in(self.lead_ms)

    @property
    def deadline_ms(self) -> float:
        """D at top speed: the least time a verdict has."""
        return self.deadline_counts / self.max_counts_per_s * 1000

    @property
    def gate_ms(self) -> float:
        """From light barrier to rejector at top speed."""
        return self.gate_counts / self.max_counts_per_s * 1000


class Encoder:
    """Follows the counts, and says when they cannot be believed.

    Args:
        settings: distances and limits.

    Attributes:
        settings: as given.
        position: counts since the first reading, wrapped counts undone; the furthest the belt has been.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        self.position = 0
        self._here = 0  # below `position` while the belt trembles
        self._raw: int | None = None
        self._at_ns = 0
        self._stretch = (0, 0)  # an earlier reading: where, when (ns)
        self._parts_here = 0
        self._part_at: int | None = None
        self._fault = ""
        self._void = False
        self._trusted_from: int | None = None

    def read(self, enc: int, at_ns: int, under_way: int) -> int:
        """Take a count that was read at `at_ns` while so many parts are under way; returns its position."""
        raw = enc % WRAP
        if self._raw is None:
            self._raw, self._at_ns, self._stretch = raw, at_ns, (0, at_ns)
            return 0
        moved = (raw - self._raw + WRAP // 2) % WRAP - WRAP // 2
        older = at_ns <= self._at_ns
        objection = self._older(moved, at_ns) if older else self._newer(moved, at_ns)
        if older and not objection:
            return self._here + moved
        self._raw, self._at_ns = raw, max(at_ns, self._at_ns)
        self._here += moved
        if objection:
            self.position = self._here
            self._stretch = (self._here, self._at_ns)
            if under_way or self._fault:
                self._doubt(objection)
        self.position = max(self.position, self._here)
        if self._at_ns - self._stretch[1] >= STRETCH_NS:
            self._stretch = (self._here, self._at_ns)
        if self._trusted_from is not None and self._here - self._trusted_from >= self.settings.gate_counts:
            self._fault, self._trusted_from = "", None
        return self._here

    def part(self, enc: int, at_ns: int, under_way: int) -> int:
        """A part's trigger came with this count; returns where it stands."""
        if not enc:
            self._doubt("a trigger came without a count: the light barrier's sender must read the encoder (0 is sent as 2^32)")
            return self.position
        where = self.read(enc, at_ns, under_way)
        if self._part_at is not None and abs(where - self._part_at) <= self.settings.back_counts:
            self._parts_here += 1
            if self._parts_here == STUCK_PARTS:
                self._doubt(f"{STUCK_PARTS} parts came and the belt has not moved: is the encoder's shaft or cable broken?")
        else:
            self._part_at, self._parts_here = where, 1
        return where

    def watch(self, now_ns: int, under_way: int) -> bool:
        """Look at the time; True once after each doubt: whatever is under way then must be rejected."""
        silence_ms = (now_ns - self._at_ns) / 1e6
        if under_way and self._raw is not None and not self._void and silence_ms >= self.settings.silence_ms:
            self._doubt(f"no count for {silence_ms:.0f} ms while parts are under way: is the encoder's sender alive?")
        void, self._void = self._void, False
        return void

    def silent_at_ns(self) -> int:
        """When silence from now on would be too long."""
        return self._at_ns + round(self.settings.silence_ms * 1e6)

    def ahead(self, now_ns: int) -> int:
        """The furthest the belt can be by now, if it has gone on at top speed since its last count."""
        return self.position + self.settings.counts_in(max(0, now_ns - self._at_ns) / 1e6)

    def reaches(self, part: int | None, now_ns: int) -> bool:
        """The belt has surely carried the part that stood there to its decision, and cannot have carried it past the actuator."""
        if part is None:
            return False
        return (
            part + self.settings.deadline_counts <= self.position
            and self.ahead(now_ns) < part + self.settings.actuate_until_counts
        )

    def reason(self) -> str:
        """Why the counts cannot be believed; empty when they can."""
        return self._fault

    def _older(self, moved: int, at_ns: int) -> str:
        """A trigger that a telegram has overtaken says where the belt was a moment ago."""
        if -self._reach(self._at_ns - at_ns) <= moved <= self.settings.back_counts:
            return ""
        return f"two counts disagree by {abs(moved)}: do trigger and telegram read the same encoder?"

    def _newer(self, moved: int, at_ns: int) -> str:
        back = self.position - (self._here + moved)
        if back > self.settings.back_counts:
            return f"the count went back by {back}, expected at most {self.settings.back_counts} (encoder.back_counts)"
        where, when_ns = self._stretch
        for counts, ns in ((moved, at_ns - self._at_ns), (self._here + moved - where, at_ns - when_ns)):
            if counts > self._reach(ns):
                return (
                    f"the count went on by {counts} in {ns / 1e6:.1f} ms, expected at most {self._reach(ns)} at "
                    f"{self.settings.max_counts_per_s:g} a second (encoder.max_counts_per_s)"
                )
        return ""

    def _reach(self, ns: int) -> int:
        return self.settings.counts_in(ns / 1e6 + STAMP_JITTER_MS) + self.settings.back_counts

    def _doubt(self, why: str) -> None:
        distance = self.settings.gate_counts
        self._fault = f"{why}; armed again when the belt has moved {distance} counts that hold"
        self._void = True
        self._trusted_from = self._here
