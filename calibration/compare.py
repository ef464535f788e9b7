"""Do two samples of scores come from one law? Asked before scores of the line are pooled with those of the bundle."""

import math

import numpy as np
from numpy.typing import NDArray

_TERMS = 100  # of an alternating series whose terms fall like exp(-2 k^2 x^2)


def two_sample_p(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Probability of two samples at least so far apart when both come from one continuous law (two-sided).

    Args:
        first: (n,) scores.
        second: (m,) scores.

    Returns:
        Asymptotic p-value of the Kolmogorov-Smirnov statistic, with Stephens' correction for small samples.

    Raises:
        ValueError: a sample is empty.

    Source: Smirnov, "Table for estimating the goodness of fit of empirical distributions", Ann. Math. Stat. 19 (1948), eq. 2;
    the correction (sqrt(N) + 0.12 + 0.11 / sqrt(N)) D: Stephens, "EDF statistics", JASA 69 (1974), table 1A.
    """
    if not first.size or not second.size:
        raise ValueError(f"expected two samples of scores, got {first.size} and {second.size}")
    a, b = np.sort(first), np.sort(second)
    places = np.concatenate([a, b])
    gaps = np.searchsorted(a, places, side="right") / a.size - np.searchsorted(b, places, side="right") / b.size
    root = math.sqrt(a.size * b.size / (a.size + b.size))
    x = (root + 0.12 + 0.11 / root) * float(np.abs(gaps).max())
    if x < 0.2:  # the series converges slowly there, and its value is 1 to 12 digits
        return 1.0
    p = 2.0 * math.fsum((-1) ** (k - 1) * math.exp(-2.0 * k * k * x * x) for k in range(1, _TERMS + 1))
    return min(1.0, max(0.0, p))
