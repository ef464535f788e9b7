"""Bets against "nothing has changed": for every rank a score can take, what each bet pays.

What a good part's score may do is known from the n calibration scores, up to the luck of their draw: the share of good parts
above the (j+1)-th largest calibration score is Beta(j + 1, n - j), so with confidence 1 - d it is at most

    u_j = the upper Clopper-Pearson bound of j successes in n trials.

All bounds that are used hold together with confidence 1 - `risk` (Bonferroni). A share `bad` of the parts watched may be anything
at all: bad parts that pass. So a watched part ranks among the j + 1 highest with probability at most U_j = bad + (1 - bad) u_j.

A bet f with f(rank) >= 0 that never pays less for a higher score, and with sum f_i (U_i - U_(i-1)) = 1 over the cells between the
ranks, has mean at most 1 under every law these bounds allow (they bound it stochastically). That is an e-value; its product
over parts is a test martingale against all those laws at once. Testing against the uniform law instead would in the long run
raise an alarm at every station, since no finite calibration is exactly the truth: with 600 parts ranks are off by some 4 %.

Sources: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005), section 7.1 (conformal test martingales);
Vovk, "Conditional validity of inductive conformal predictors" (ACML 2012) for the Beta law; Clopper and Pearson, Biometrika 26
(1934); Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 86, 2024) for composite nulls.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.binomial import clopper_pearson_upper

# Where a change may show: shares of good parts above the place. 0 is "above all calibration scores".
_TAILS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
_MIDDLES = (0.2, 0.4, 0.6)  # shares of good parts in an interval around the median
_ODDS = (1.5, 3.0, 8.0, 40.0)  # how much more often than the bound a bet expects its event: from creeping to complete


@dataclass(frozen=True, slots=True)
class Bets:
    """What each bet pays for each rank.

    Attributes:
        pays: (n + 1, bets) float64; row c is paid when c calibration scores are at least as high as the part's.
        places: (bets,) of each bet, the highest probability its event may have.
    """

    pays: NDArray[np.float64]
    places: NDArray[np.float64]


def highest_bounds(n: int, rules: int = 0) -> int:
    """How many bounds `upward`, `downward` and `inward` use together: what the risk is shared among."""
    return 2 * len(_ranks(n)) + 1 + rules + len(_MIDDLES)


def upward(n: int, bad: float, risk: float, ruled: Sequence[int] = ()) -> Bets:
    """Bets on scores that have become higher.

    Watched are parts that pass. Without those above the fused limit high scores are a smaller share, and nothing has to be done:
    with h of the parts at least so high, f above that limit and at most q rejected by rules, whatever they score, the share
    is at most (h - f) / (1 - f - q), which is at most h / (1 - q) wherever that is below 1. So only rules widen these bounds.

    Args:
        n: calibration scores.
        bad: share of the watched parts that may be anything, in [0, 1).
        risk: probability, over the draw of the calibration parts, that one bound does not hold; for each bound.
        ruled: for each further rule, calibration parts above its limit.
    """
    count = np.arange(n + 1)  # calibration scores at least as high as the part's
    passing = _passing(n, risk, ruled)
    events = [(count <= j, _mixed(_among(clopper_pearson_upper(j, n, 1.0 - risk), passing), bad)) for j in _ranks(n)]
    return _stack(n + 1, events)


def downward(n: int, bad: float, risk: float, above: int = 0, ruled: Sequence[int] = ()) -> Bets:
    """Bets on scores that have become lower.

    Watched are parts that pass, and without those that do not, low scores are a larger share: F(x | pass) <= F(x) / P(pass). So
    each bound is divided by the least share that passes.

    Args:
        n: calibration scores.
        bad: as `upward`.
        risk: as `upward`.
        above: calibration scores above the fused limit.
        ruled: as `upward`.
    """
    count = np.arange(n + 1)
    passing = _passing(n, risk, (above, *ruled))
    events = [(count >= n - i, _mixed(_among(clopper_pearson_upper(i, n, 1.0 - risk), passing), bad)) for i in _ranks(n)]
    return _stack(n + 1, events)


def inward(n: int, bad: float, risk: float, above: int = 0, ruled: Sequence[int] = ()) -> Bets:
    """Bets on scores that crowd around the median: a picture that hardly changes.

    The share of good parts between two calibration scores with s - 1 others between them is Beta(s, n + 1 - s).

    Args:
        n: calibration scores.
        bad: as `upward`.
        risk: as `upward`.
        above: as `downward`.
        ruled: as `upward`.
    """
    count = np.arange(n + 1)
    passing = _passing(n, risk, (above, *ruled))
    events = []
    for share in _MIDDLES:
        low, high = round(n * (0.5 - share / 2)), round(n * (0.5 + share / 2))
        spacings = high - low
        if spacings < 1:
            continue
        bound = _among(clopper_pearson_upper(spacings - 1, n, 1.0 - risk), passing)
        events.append(((count > low) & (count <= high), _mixed(bound, bad)))
    return _stack(n + 1, events)


def above_limit(rate: float) -> Bets:
    """Bets on more parts above the limit than `rate`; row 0 is paid for a part above it, row 1 for one that is not."""
    return _stack(2, [(np.array([True, False]), rate)])


def _ranks(n: int) -> list[int]:
    """Ranks j of the places in `_TAILS`, each once."""
    return sorted({round(share * n) for share in _TAILS if round(share * n) < n})


def _passing(n: int, risk: float, above: Sequence[int]) -> float:
    """Least share of good parts within all limits above which so many calibration parts lie, whatever hangs together."""
    return max(0.0, 1.0 - math.fsum(clopper_pearson_upper(count, n, 1.0 - risk) for count in above))


def _among(bound: float, passing: float) -> float:
    """Bound of a share of all parts -> of the same parts as a share of those that pass."""
    return bound / passing if bound < passing else 1.0


def _mixed(bound: float, bad: float) -> float:
    return bad + (1.0 - bad) * bound


def _stack(rows: int, events: list[tuple[NDArray[np.bool_], float]]) -> Bets:
    """For every event and every odds ratio the likelihood ratio of "its probability is so much larger" against its bound.

    (q / u) where it happens and (1 - q) / (1 - u) where not: mean at most 1 whenever the probability is at most u, since q > u.
    """
    columns, places = [], []
    for happens, bound in events:
        if not 0.0 < bound < 1.0:
            continue  # an event that may always happen says nothing
        for odds in _ODDS:
            more = odds * bound / (1.0 - bound + odds * bound)
            columns.append(np.where(happens, more / bound, (1.0 - more) / (1.0 - bound)))
            places.append(bound)
    if not columns:  # too few calibration scores to say anything: one bet that never wins
        return Bets(np.ones((rows, 1)), np.ones(1))
    return Bets(np.stack(columns, axis=1), np.asarray(places))
