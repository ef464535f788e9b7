"""How far a figure from few parts may be off: exact binomial intervals, and intervals for the area under the ROC curve."""

import math
from collections.abc import Callable
from statistics import NormalDist

from scipy import special

_BISECTIONS = 60  # halves [0, 1] below the resolution of a double


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval for a proportion.

    Args:
        k: events seen.
        n: trials.
        confidence: chance that the interval covers the true proportion, at least.

    Returns:
        Lower and upper end; (0, 1) for no trials.

    Raises:
        ValueError: k is not from 0 to n, or the confidence is not between 0 and 1.

    Source: Clopper and Pearson, Biometrika 26 (1934): the lower end p has P(X >= k | p) = alpha/2, the upper one
    P(X <= k | p) = alpha/2; both are quantiles of beta distributions.
    """
    if not 0 <= k <= n:
        raise ValueError(f"expected 0 <= k <= n, got k = {k}, n = {n}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    tail = (1.0 - confidence) / 2.0
    lower = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, tail))
    upper = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1.0 - tail))
    return lower, upper


def auroc_interval(area: float, good: int, bad: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for an area under the ROC curve; unlike DeLong's it has a width at an area of 1.

    Args:
        area: the area seen.
        good: number of good parts.
        bad: number of bad parts.
        confidence: nominal coverage.

    Returns:
        Lower and upper end within [0, 1].

    Source: Newcombe, Statistics in Medicine 25 (2006) 559-573, method 5: the areas t with |area - t| <= z * sqrt(V(t)), V being
    Hanley and McNeil's variance with both class sizes replaced by their mean.
    """
    if good < 1 or bad < 1:
        raise ValueError(f"expected parts of both classes, got {good} good and {bad} bad")
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    extra = (good + bad) / 2.0 - 1.0

    def excess(t: float) -> float:
        variance = t * (1 - t) * (1 + extra * (1 - t) / (2 - t) + extra * t / (1 + t)) / (good * bad)
        return z * math.sqrt(max(variance, 0.0)) - abs(area - t)

    lower = 0.0 if area <= 0.0 else _root(lambda u: excess(u * area)) * area
    upper = 1.0 if area >= 1.0 else 1.0 - _root(lambda u: excess(1.0 - u * (1.0 - area))) * (1.0 - area)
    return lower, upper


def _root(rising: Callable[[float], float]) -> float:
    """Where a function of [0, 1] that goes from below 0 to above 0 crosses it."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if rising(middle) < 0.0:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
