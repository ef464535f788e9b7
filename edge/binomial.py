"""Binomial probabilities, exact and without a statistics library: what limits, drift alarms and flip rates are argued with.

Sums run in logarithms from `math.lgamma`, so thousands of parts and rates of a part in a million neither overflow nor vanish.
"""

import math

_SPACING = 1e-15  # relative; about that of float64 numbers


def _log_pmf(successes: int, n: int, rate: float) -> float:
    if rate <= 0.0:
        return 0.0 if successes == 0 else -math.inf
    if rate >= 1.0:
        return 0.0 if successes == n else -math.inf
    ways = math.lgamma(n + 1) - math.lgamma(successes + 1) - math.lgamma(n - successes + 1)
    return ways + successes * math.log(rate) + (n - successes) * math.log1p(-rate)


def cdf(successes: int, n: int, rate: float) -> float:
    """Give P(X <= successes) for X ~ Binomial(n, rate).

    Args:
        successes: upper end of the sum; below 0 gives 0, n or more gives 1.
        n: number of trials, >= 0.
        rate: probability of one success, in [0, 1].

    Raises:
        ValueError: n is negative or the rate is no probability.
    """
    if n < 0 or not 0.0 <= rate <= 1.0:
        raise ValueError(f"expected n >= 0 and a rate in [0, 1], got n = {n}, rate = {rate}")
    if successes < 0:
        return 0.0
    if successes >= n:
        return 1.0
    # The shorter tail is summed: its terms only fall, so a few times sqrt(n) of them matter, and the longer one follows.
    if successes <= n * rate:
        return min(1.0, _tail(successes, n, rate, -1))
    return max(0.0, 1.0 - _tail(successes + 1, n, rate, 1))


def _tail(first: int, n: int, rate: float, step: int) -> float:
    """Sum of the probabilities of first, first + step, ..., which must fall from the first on."""
    term = math.exp(_log_pmf(first, n, rate))
    total, i = term, first
    odds = rate / (1.0 - rate) if rate < 1.0 else math.inf
    while 0 < i < n or (i == 0 and step > 0) or (i == n and step < 0):
        term *= (n - i) / (i + 1) * odds if step > 0 else i / ((n - i + 1) * odds)
        total += term
        i += step
        if term <= 1e-17 * total:
            break
    return total


def clopper_pearson_upper(successes: int, n: int, confidence: float) -> float:
    """Give the exact one-sided upper bound of a rate.

    Args:
        successes: how often it happened, 0..n.
        n: how often it could have happened.
        confidence: probability that the bound holds, in (0, 1).

    Returns:
        The largest rate under which seeing so few is no rarer than 1 - confidence; 1.0 when n is 0.

    Raises:
        ValueError: counts or confidence are impossible.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
    """
    if not 0 <= successes <= n or not 0.0 < confidence < 1.0:
        raise ValueError(f"expected 0 <= successes <= n and confidence in (0, 1), got {successes}, {n}, {confidence}")
    if successes == n:
        return 1.0
    low, high = successes / n, 1.0
    while high - low > _SPACING * high:
        middle = 0.5 * (low + high)
        if cdf(successes, n, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def quantile(probability: float, n: int, rate: float) -> int:
    """Give the smallest k with P(X <= k) >= probability for X ~ Binomial(n, rate).

    Args:
        probability: in (0, 1).
        n: number of trials, >= 0.
        rate: probability of one success, in [0, 1].

    Raises:
        ValueError: a probability outside (0, 1), or as `cdf`.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"expected a probability in (0, 1), got {probability}")
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if cdf(middle, n, rate) >= probability:
            high = middle
        else:
            low = middle + 1
    return low
