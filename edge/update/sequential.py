"""Tests that may be looked at after every part and still keep their word: the chance of ever crying wolf is at most alpha.

For a share p of parts with some property, and the claim "p <= r": the likelihood ratio of an alternative q > r against r is a
supermartingale under every p <= r, and so is the mean over several alternatives. Ville's inequality: it ever reaches 1/alpha
with probability at most alpha. The same the other way round for the claim "p >= r".

Source: Wald, "Sequential Tests of Statistical Hypotheses", 1945; Ramdas et al., "Game-theoretic statistics and safe anytime-valid
inference", Statistical Science 38, 2023, section 3.
"""

import math

ALTERNATIVES = 6
Z_95 = 1.6449  # one-sided 95 %


class ShareTest:
    """Watches one share against a bound.

    Args:
        bound: r, in (0, 1). above: True alarms when the share is above it, False when it is below.
        alpha: chance of an alarm while the claim holds, over any number of parts.
    """

    def __init__(self, bound: float, *, above: bool, alpha: float) -> None:
        self.count = 0
        self.hits = 0
        self._alpha = alpha
        room = 1.0 - bound if above else -bound
        # Halving steps away from the bound: the first finds a small change late, the last a gross one within a few parts.
        self._steps = [
            (math.log(q / bound), math.log((1.0 - q) / (1.0 - bound)))
            for q in (bound + 0.98 * room * 2.0**-k for k in range(ALTERNATIVES))
        ]
        self._logs = [0.0] * ALTERNATIVES

    def add(self, *, hit: bool) -> None:
        """Take one part."""
        self.count += 1
        self.hits += hit
        self._logs = [log + (step[0] if hit else step[1]) for log, step in zip(self._logs, self._steps, strict=True)]

    @property
    def alarm(self) -> bool:
        """The claim does not hold."""
        top = max(self._logs)
        return top + math.log(sum(math.exp(log - top) for log in self._logs) / ALTERNATIVES) >= math.log(1.0 / self._alpha)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """One-sided 95 % bounds of a share, (0, 1) where nothing was counted. Source: Wilson, JASA 22, 1927."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = hits / count, Z_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
