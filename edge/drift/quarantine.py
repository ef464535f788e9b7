"""Which parts are suspect: those judged since the last proof that judging was right, and how many of them may be bad.

A proof is a passed self-check, and only that: between the last one and the moment something was found wrong, every verdict may
be wrong. The window is exact by sequence number. What it holds is estimated from what the station found while it was proven: the
share it rejected bounds the share of bad parts from above (false rejects count as bad), and whoever was blind let all of them
pass. A fault that came and went between two passed proofs is not seen; so the window is as long as the time between proofs.
"""

from dataclasses import dataclass

from edge.binomial import clopper_pearson_upper, quantile

CONFIDENCE = 0.95
_EACH = 1.0 - (1.0 - CONFIDENCE) / 2.0  # the rate's bound and the count's hold together


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The suspect parts.

    Attributes:
        first, last: sequence numbers, both included; last < first when no part was judged since the proof.
        passed: parts among them that passed. cause: what was found wrong.
        expected: bad parts among those passed, on average, if the station saw nothing.
        bound: at most so many, with 95 % confidence.
        known_parts: parts judged under proof that expected and bound rest on; 0 means that nothing is known: bound = passed.
    """

    first: int
    last: int
    passed: int
    cause: str
    expected: float
    bound: int
    known_parts: int


class EscapeWindow:
    """Counts what is proven and what is not yet. Pure: the caller says what happened, in order.

    Example:
        >>> window = EscapeWindow()
        >>> window.proof()
        >>> for seq in range(1, 4):
        ...     window.judged(seq, passed=True)
        >>> window.failed("golden frame good-1").last
        3
    """

    def __init__(self) -> None:
        self._first = 0
        self._last = 0
        self._passed = 0
        self._rejected = 0
        self._proven = 0
        self._proven_rejected = 0

    def judged(self, seq: int, *, passed: bool) -> None:
        """A part was answered. Its picture was taken after the last proof, or it counts as if."""
        if not self._first:
            self._first = seq
        self._last = max(self._last, seq)
        self._passed += passed
        self._rejected += not passed

    def proof(self) -> None:
        """A self-check was passed: everything judged until now was judged rightly."""
        self._proven += self._passed + self._rejected
        self._proven_rejected += self._rejected
        self._clear()

    def failed(self, cause: str) -> Quarantine:
        """Something is wrong: give the window and begin a new one.

        What was judged in it never becomes proven: neither its passes nor its rejects say anything.

        Args:
            cause: what was found, for people.
        """
        passed = self._passed
        expected, bound = escapes(passed, self._proven, self._proven_rejected)
        found = Quarantine(self._first or self._last + 1, self._last, passed, cause, expected, bound, self._proven)
        self._clear()
        return found

    def _clear(self) -> None:
        self._first = self._passed = self._rejected = 0


def escapes(passed: int, known: int, rejected: int) -> tuple[float, int]:
    """How many bad parts are among those that passed a station that saw nothing.

    Args:
        passed: parts that passed in the window.
        known: parts judged while the station was right.
        rejected: those of them that it rejected.

    Returns:
        (expected number, bound that holds with 95 % confidence); without known parts both are `passed`.

    Source: the expected share is Laplace's rule of succession, (s + 1) / (n + 2), the mean of a rate that was uniform before s
    of n were seen ("Mémoire sur la probabilité des causes par les évènements", 1774). The bound is a quantile of
    Binomial(passed, r) at the upper Clopper-Pearson bound r of that rate, each at 97.5 % (Bonferroni).
    """
    if not known:
        return float(passed), passed
    expected = passed * (rejected + 1) / (known + 2)  # no bad part in few does not mean none ever
    return expected, quantile(_EACH, passed, clopper_pearson_upper(rejected, known, _EACH))
