"""What another limit would do: false rejects against misses, the good parts that set the limit, and what more parts would give.

A limit guaranteed from few good parts is one of their highest scores: of 598 parts at 0.5 % the very highest. A few odd good
parts then decide how many bad ones pass. Nothing here leaves them out. It says which they are, so that a person looks at them;
what the limit and the misses would be if one of them turned out not to be good; and what else buys the same: a larger
false-reject rate, or more good parts.

Everything said of good parts is free of assumptions about the law of scores, but for `Setter.chance`, which says so. Misses are
those of the defect samples at hand, with their own intervals; they promise nothing about defects nobody has shown.

Sources: Clopper and Pearson, Biometrika 26 (1934), for the intervals of rates; for the k-th of N further scores the law of its
place among n present ones, P(r below) = C(k+r-1, r) C(N-k+n-r, n-r) / C(N+n, n), Wilks, "Mathematical Statistics" (1962), section
8.7 (exceedances); for spacings Renyi, "On the theory of order statistics", Acta Math. Hung. 4 (1953): those of an exponential
tail, the i-th from the top times i, are independent and exponential of one scale.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.limit import FittedLimit, LimitKind, fit_limit, guaranteed_rank, parts_needed
from calibration.rules import shares
from edge.binomial import clopper_pearson_upper
from edge.errors import DataError
from edge.limits.curve import Rate

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
MAP_RATES = (0.005, 0.01, 0.02, 0.05)
FURTHER = (2, 4, 10)  # times as many good parts as now
SHOWN = 12  # good parts that are named at most, and bad ones that pass
_END = 0.95  # of either end of an interval: 90 % in all
_TAIL = 20  # spacings the oddness of one is judged by

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """What one limit does.

    Attributes:
        limit: on the raw score. rejected: good parts at hand above it.
        promised: false-reject rate that may be promised of this order statistic at the confidence asked for.
        missed: bad parts at or below it, by kind.
    """

    limit: float
    rejected: Rate
    promised: float
    missed: dict[str, Rate]


@dataclass(frozen=True, slots=True)
class Setter:
    """A good part that decides where the limit is.

    Attributes:
        index: of the part in the scores given. raw: its score. place: 1 for the highest score.
        chance: how likely its distance to the next lower score is, if the highest scores thin out exponentially; small is odd.
        without: the limit if this part and all above it turned out not to be good; None when too few are left for any.
        missed: bad parts that would then pass, by kind.
    """

    index: int
    raw: float
    place: int
    chance: float
    without: FittedLimit | None
    missed: dict[str, Rate]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a limit from `parts` good parts drawn as the present ones would be.

    Attributes:
        parts: number of good parts. rank: its order statistic, 0 when even so many carry no guarantee.
        about, low, high: median and 90 % interval of the limit; high is None where it may lie above everything seen. All are
            None without a guarantee.
        missed: bad parts that pass at `about`, by kind.
    """

    parts: int
    rank: int
    about: float | None
    low: float | None
    high: float | None
    missed: dict[str, Rate]


@dataclass(frozen=True, slots=True)
class Beside:
    """A limit for each map beside the fused one, all three sharing one promise (`onbelt limit --also st=st ae=ae`).

    Attributes:
        false_reject: rate of all three together. guarantee: the good parts at hand suffice for it. needed: how many do.
        rejected: good parts at hand that are above one of them. missed: bad parts that are within all, by kind.
    """

    false_reject: float
    guarantee: bool
    needed: int
    rejected: Rate
    missed: dict[str, Rate]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The whole answer.

    Attributes:
        limit: fitted as asked for. now: what it does. rates: the same parts at other false-reject rates.
        setters: good parts that decide, highest first. forecasts: more good parts at the rate asked for.
        curve: every limit worth considering, ascending.
    """

    limit: FittedLimit
    now: Point
    rates: tuple[tuple[FittedLimit, Point], ...]
    setters: tuple[Setter, ...]
    forecasts: tuple[Forecast, ...]
    curve: tuple[Point, ...]


def explore(good: Scores, bad: dict[str, Scores], false_reject: float, confidence: float) -> WhatIf:
    """Answer for these parts.

    Args:
        good: (n,) raw scores of held-out good parts.
        bad: by kind (m,) raw scores of parts with defects; may be empty.
        false_reject: share of good parts that may be rejected, in (0, 1).
        confidence: probability that the promise holds, in (0, 1).

    Raises:
        DataError: as `fit_limit`, or a bad part's score is not finite.
        ValueError: a rate or a confidence outside (0, 1).
    """
    bad = {kind: np.sort(np.asarray(values, np.float64)) for kind, values in bad.items()}
    if not all(np.isfinite(values).all() for values in bad.values()):
        raise DataError("expected finite scores of bad parts, got some that are not")
    limit = fit_limit(good, false_reject, confidence)
    order = np.argsort(good, kind="stable")
    ordered = np.asarray(good, np.float64)[order]

    def point(value: float) -> Point:
        above = int(ordered.size - np.searchsorted(ordered, value, side="right"))
        promised = clopper_pearson_upper(above, ordered.size, confidence)
        return Point(value, Rate.counted(above, ordered.size), promised, _missed(bad, value))

    others = tuple(
        (other, point(other.value)) for rate in RATES if rate != false_reject for other in (fit_limit(good, rate, confidence),)
    )
    return WhatIf(
        limit,
        point(limit.value),
        others,
        _setters(ordered, order, bad, limit, confidence),
        tuple(_forecast(ordered, bad, times * ordered.size, false_reject, confidence) for times in FURTHER),
        tuple(point(value) for value in _places(ordered, limit.value)),
    )


def with_maps(good: Scores, bad: dict[str, Scores], false_reject: float, confidence: float) -> Beside:
    """What a limit on each map would add: the fused score weighs the branches, and the weights may not suit the line's defects.

    Args:
        good: (n, 4) raw, st, ae and global of held-out good parts.
        bad: by kind (m, 4) the same of parts with defects.
        false_reject: of all three limits together.
        confidence: likewise.

    Raises:
        DataError, ValueError: as `explore`.
    """
    each = shares(false_reject, confidence, 2)
    limits = [fit_limit(good[:, column], *each) for column in range(3)]
    values = np.array([limit.value for limit in limits])

    def within(scores: Scores) -> int:
        return int((scores[:, :3] <= values).all(axis=1).sum())

    return Beside(
        false_reject,
        all(limit.kind is LimitKind.GUARANTEE for limit in limits),
        parts_needed(*each),
        Rate.counted(len(good) - within(good), len(good)),
        {kind: Rate.counted(within(scores), len(scores)) for kind, scores in bad.items()},
    )


def _missed(bad: dict[str, Scores], limit: float) -> dict[str, Rate]:
    return {kind: Rate.counted(int((values <= limit).sum()), int(values.size)) for kind, values in bad.items()}


def _places(ordered: Scores, limit: float) -> list[float]:
    """Limits for the curve: the upper half of the scores, denser towards the top."""
    n = ordered.size
    above = np.unique(np.concatenate([np.arange(min(n // 2, 60)), np.geomspace(1, max(2, n // 2), 80).astype(int)]))
    return sorted({*(float(ordered[n - 1 - i]) for i in above if i < n), limit})


def _setters(
    ordered: Scores, order: NDArray[np.intp], bad: dict[str, Scores], limit: FittedLimit, confidence: float
) -> tuple[Setter, ...]:
    n = int(ordered.size)
    # Those above the limit, the one it stands on, and the next two, whose turn it would be.
    above = n - limit.rank if limit.rank else 0
    found = []
    for place in range(1, min(above + 3, SHOWN, n) + 1):
        left = ordered[: n - place]
        try:
            without = fit_limit(left, limit.false_reject, confidence)
        except DataError:
            without = None
        missed = {} if without is None else _missed(bad, without.value)
        found.append(Setter(int(order[n - place]), float(ordered[n - place]), place, _chance(ordered, place), without, missed))
    return tuple(found)


def _chance(ordered: Scores, place: int) -> float:
    """Probability of so wide a spacing below the `place`-th highest score, against the other spacings of the tail."""
    n = int(ordered.size)
    count = min(_TAIL, n // 2)
    if place > count or count < 3:
        return 1.0
    top = ordered[::-1]
    spacings = np.arange(1, count + 1) * (top[:count] - top[1 : count + 1])
    mine, others = float(spacings[place - 1]), float(np.delete(spacings, place - 1).sum())
    if others <= 0.0:
        return 0.0 if mine > 0 else 1.0
    # The ratio of one exponential to the sum of m others exceeds x with probability (1 + x)^-m.
    return float((1.0 + mine / others) ** -(count - 1))


def _forecast(ordered: Scores, bad: dict[str, Scores], parts: int, false_reject: float, confidence: float) -> Forecast:
    rank = guaranteed_rank(parts, false_reject, confidence)
    if rank is None:
        return Forecast(parts, 0, None, None, None, {})
    n = int(ordered.size)
    below = np.cumsum(_places_law(n, parts, rank))
    low, middle, high = (int(np.searchsorted(below, p)) for p in (1.0 - _END, 0.5, _END))
    about = float(ordered[min(max(middle, 1), n) - 1])
    top = None if high >= n else float(ordered[high])
    return Forecast(parts, rank, about, float(ordered[max(low, 1) - 1]), top, _missed(bad, about))


def _places_law(n: int, further: int, rank: int) -> Scores:
    """(n + 1,) probability that r of n present scores lie below the rank-th of so many further ones."""
    r = np.arange(n + 1)
    gamma = np.vectorize(math.lgamma, otypes=[np.float64])

    def ways(of: NDArray[np.int64], take: NDArray[np.int64]) -> Scores:
        return np.asarray(gamma(of + 1.0) - gamma(take + 1.0) - gamma(of - take + 1.0))

    logs = ways(rank + r - 1, r) + ways(further - rank + n - r, n - r) - ways(np.array([further + n]), np.array([n]))
    return np.asarray(np.exp(logs))
