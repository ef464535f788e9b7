"""Whether station and gate give the same part the same number.

A verdict finds its part by the number alone. Where a camera counts its own frames and the gate its own light barrier, one
exposure that is missed, or one part too many on either side, puts them out of step: each part then gets its neighbour's verdict,
and a PASS opens for the wrong one. Two signs tell of it.

    by time    the verdict says when its part was triggered (`clk.mono_us`). Where both read one clock, a PASS whose trigger is
               not this part's is none of this part's. That the clock is one is seen from the beats, which carry their time.
    by number  parts in a row stay without a verdict while verdicts come for numbers that no part here has.
"""

from collections import deque

NS_PER_MS = 1_000_000
NS_PER_US = 1_000
BEATS = 100  # ten seconds: a busy box delays some of them, not all
SHARED_NS = 100 * NS_PER_MS  # the quickest of so many beats is younger than this where the clock is one
RUN = 3  # parts in a row: fewer lost messages must not be taken for it, and it must not be believed over too soon


class InStep:
    """Compares times and numbers.

    Args:
        apart_ms: by so much the trigger a verdict names may differ from the part's own; 0 compares no times.
    """

    def __init__(self, apart_ms: float) -> None:
        self._apart_ns = round(apart_ms * NS_PER_MS)
        self._lags: deque[int] = deque(maxlen=BEATS)
        self._unanswered = 0
        self._strangers = 0
        self._stranger = 0
        self._alike = 0

    @property
    def shared(self) -> bool:
        """Station and gate read one clock: no beat comes before it was sent, and the quickest is young."""
        return bool(self._lags) and 0 <= min(self._lags) <= SHARED_NS

    @property
    def again(self) -> bool:
        """Parts in a row got verdicts of their own."""
        return self._alike >= RUN

    def new_boot(self) -> None:
        """Another start of the station, perhaps on another machine."""
        self._lags.clear()

    def beat(self, mono_us: int, at_ns: int) -> None:
        """A beat sent then came now."""
        self._lags.append(at_ns - mono_us * NS_PER_US)

    def apart(self, stamp_us: int, trigger_ns: int) -> str:
        """How far a verdict's trigger is from the part's, in words; empty where it fits or cannot be compared."""
        apart_ns = stamp_us * NS_PER_US - trigger_ns
        if not self._apart_ns or not self.shared or abs(apart_ns) <= self._apart_ns:
            return ""
        return f"{abs(apart_ns) / NS_PER_MS:.1f} ms {'before' if apart_ns < 0 else 'after'}"

    def disagreed(self) -> None:
        """A verdict named another trigger than its part's."""
        self._alike = 0

    def stranger(self, trig: int) -> None:
        """A verdict, good otherwise, came for a number that no part here has."""
        self._strangers += 1
        self._stranger = trig

    def decided(self, count: int, *, answered: bool) -> str:
        """A part was decided; what is wrong with the numbers, in words, or nothing."""
        if answered:
            self._unanswered = self._strangers = 0
            self._alike += 1
            return ""
        self._alike = 0
        self._unanswered += 1
        if self._unanswered < RUN or self._strangers < RUN:
            return ""
        return (
            f"{self._unanswered} parts in a row, the last with number {count}, got no verdict, while {self._strangers} came for "
            f"numbers no part here has, the last for {self._stranger}"
        )
