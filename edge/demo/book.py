"""What became of every part, one byte each: a day at 12 parts/s is a megabyte.

Truth comes from the belt, passage from the line's own light barrier behind the rejector, verdicts from what the station wrote.
The three are noted by different hands and only compared here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_GOOD, _THROUGH, _EJECTED = 1, 2, 4
_VERDICTS = {"pass": 8, "reject": 16, "invalid": 32, "uncertain": 64}
_NO_PASS = _VERDICTS["reject"] | _VERDICTS["invalid"] | _VERDICTS["uncertain"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Parts by what they were and what became of them.

    Attributes:
        parts: that reached the rejector.
        good_passed: good and through. false_rejects: good, and the model said otherwise.
        good_lost: good and ejected for want of a verdict, or although it was a pass: the price of default reject.
        bad_rejected: bad and ejected.
        misses: bad, judged good by the model, and through.
        unjudged: through without any verdict. against_verdict: through although a verdict other than pass was written.
    """

    parts: int
    good_passed: int
    false_rejects: int
    good_lost: int
    bad_rejected: int
    misses: int
    unjudged: int
    against_verdict: int

    @property
    def escapes(self) -> int:
        """Parts that went through without a valid PASS: what the line must never allow. A bad part with a PASS is a miss."""
        return self.unjudged + self.against_verdict


class PartBook:
    """Notes by part number, beginning at 1. The line writes passages from its thread, everything else comes from one other."""

    def __init__(self) -> None:
        self._notes = bytearray(1)

    def launched(self, count: int, *, good: bool) -> None:
        """A part was put on the belt; numbers follow each other."""
        if count != len(self._notes):
            raise ValueError(f"expected part {len(self._notes)} next, got {count}")
        self._notes.append(_GOOD if good else 0)

    def passage(self, count: int, *, through: bool) -> None:
        """A part reached the rejector and went through, or was ejected."""
        self._notes[count] |= _THROUGH if through else _EJECTED

    def verdict(self, count: int, verdict: str) -> None:
        """The station wrote this verdict about the part; an unknown part is somebody else's."""
        if 0 < count < len(self._notes):
            self._notes[count] |= _VERDICTS[verdict]

    @property
    def last(self) -> int:
        """Number of the newest part."""
        return len(self._notes) - 1

    def is_good(self, count: int) -> bool:
        """The truth about a part that was launched."""
        return bool(self._notes[count] & _GOOD)

    def judged(self) -> int:
        """Parts with a verdict."""
        return sum(bool(note & (_VERDICTS["pass"] | _NO_PASS)) for note in self._notes)

    def verdicts(self) -> dict[str, int]:
        """Parts by verdict, and those without one."""
        found = {name: sum(bool(note & bit) for note in self._notes) for name, bit in _VERDICTS.items()}
        return found | {"none": len(self._notes) - 1 - self.judged()}

    def missed(self) -> Iterator[int]:
        """Bad parts that the model passed."""
        return (n for n, note in self._settled() if not note & _GOOD and note & _THROUGH and note & _VERDICTS["pass"])

    def falsely_rejected(self) -> Iterator[int]:
        """Good parts that the model rejected."""
        bits = _VERDICTS["reject"] | _VERDICTS["uncertain"]
        return (n for n, note in self._settled() if note & _GOOD and note & _EJECTED and note & bits)

    def tally(self) -> Tally:
        """Compare truth, passage and verdict of every part that has reached the rejector."""
        counts = dict.fromkeys(Tally.__dataclass_fields__, 0)
        for _, note in self._settled():
            counts["parts"] += 1
            counts[_what_became(note)] += 1
        return Tally(**counts)

    def _settled(self) -> Iterator[tuple[int, int]]:
        return ((n, note) for n, note in enumerate(bytes(self._notes)) if note & (_THROUGH | _EJECTED))


def _what_became(note: int) -> str:
    good, passed, refused = note & _GOOD, note & _VERDICTS["pass"], note & _NO_PASS
    if note & _THROUGH:
        if refused:
            return "against_verdict"
        if not passed:
            return "unjudged"
        return "good_passed" if good else "misses"
    if not good:
        return "bad_rejected"
    judged_bad = note & (_VERDICTS["reject"] | _VERDICTS["uncertain"])
    return "false_rejects" if judged_bad else "good_lost"
