"""Percentiles without keeping the samples: a histogram with logarithmic buckets, updated in under a microsecond.

Neighbouring bounds differ by 10^(1/100), so a percentile is known within 2.4 % whatever the number of samples, in fixed memory.
"""

import math
from bisect import bisect_left, bisect_right
from copy import copy
from itertools import accumulate

BUCKETS_PER_DECADE = 100  # bounds 2.33 % apart
_FIRST_MS = -2  # 10^-2 ms: below every stage we time
_DECADES = 7  # up to 10^5 ms = 100 s: above every timeout of the box
_POSITIVE = [10.0 ** (_FIRST_MS + k / BUCKETS_PER_DECADE) for k in range(_DECADES * BUCKETS_PER_DECADE + 1)]
_SIGNED = [-bound for bound in reversed(_POSITIVE)] + [0.0, *_POSITIVE]


class Histogram:
    """Counts of one quantity in milliseconds; not thread-safe, its owner holds the lock.

    Args:
        signed: True for a quantity that can be negative (slack).
        worst: "high" where large values are bad (a latency), "low" where small ones are (slack). A percentile is rounded to
            the bad side of its bucket, so it never flatters.
    """

    def __init__(self, *, signed: bool = False, worst: str = "high") -> None:
        if worst not in {"high", "low"}:
            raise ValueError(f"expected worst to be 'high' or 'low', got {worst!r}")
        self._bounds = _SIGNED if signed else _POSITIVE
        self._counts = [0] * (len(self._bounds) + 1)  # counts[i]: bounds[i-1] < value <= bounds[i]
        self._worst = worst
        self.count = 0
        self.total_ms = 0.0
        self.min_ms = 0.0
        self.max_ms = 0.0

    def add(self, value_ms: float) -> None:
        """Count one value in milliseconds; a value that is not a number is ignored."""
        if value_ms != value_ms:  # noqa: PLR0124 - the cheapest test for NaN
            return
        self._counts[bisect_left(self._bounds, value_ms)] += 1
        if self.count == 0 or value_ms < self.min_ms:
            self.min_ms = value_ms
        if self.count == 0 or value_ms > self.max_ms:
            self.max_ms = value_ms
        self.count += 1
        self.total_ms += value_ms

    def copy(self) -> "Histogram":
        """The same counts, to be read outside the owner's lock."""
        twin = copy(self)
        twin._counts = self._counts.copy()  # noqa: SLF001 - our own class
        return twin

    def percentiles(self, *shares: float) -> list[float | None]:
        """Values that these shares of the samples are at least as good as, milliseconds; None without samples.

        Args:
            shares: 0.5, 0.99, 0.999 and so on; 0.999 of a latency is its upper end, 0.999 of slack its lower end.
        """
        if not self.count:
            return [None] * len(shares)
        running = list(accumulate(self._counts))
        return [self._percentile(running, share) for share in shares]

    def _percentile(self, running: list[int], share: float) -> float:
        # The k-th best sample, k counted from 1 and rounded up: with 10 samples p99 is the worst of them.
        rank = min(self.count, max(1, math.ceil(share * self.count)))
        if self._worst == "low":
            rank = self.count + 1 - rank
        index = bisect_left(running, rank)
        if self._worst == "low":
            edge = self._bounds[index - 1] if index > 0 else self.min_ms
        else:
            edge = self._bounds[index] if index < len(self._bounds) else self.max_ms
        return min(max(edge, self.min_ms), self.max_ms)

    def cumulative(self, bounds_ms: list[float]) -> list[int]:
        """How many samples are at or below each bound; exact where the bound is one of ours, else of the bucket below."""
        running = list(accumulate(self._counts))
        # A bound computed by another formula may differ from ours in its last bit: look a hair above it.
        return [running[max(0, bisect_right(self._bounds, bound * (1 + 1e-9)) - 1)] for bound in bounds_ms]
