"""Ranking measures over whole pictures: the ROC curve and the area under it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auroc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a bad part scores above a good one, a tie counting half.

    Args:
        scores: (N,) numbers, larger is more anomalous; infinities are allowed, NaN is not.
        positive: (N,) bool, True for a bad part.

    Returns:
        0 to 1; None where all parts are good or all are bad, for then it is not defined.

    Raises:
        ValueError: the lengths differ, or a score is NaN.

    Source: Mann-Whitney U over the product of the class sizes (Hanley and McNeil, Radiology 143, 1982).
    """
    values, flags = _checked(scores, positive)
    bad = int(np.count_nonzero(flags))
    good = flags.size - bad
    if bad == 0 or good == 0:
        return None
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # Tied scores share the mean of the ranks they cover (midranks), which is what gives a tie half the credit.
    midranks = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(midranks[inverse][flags].sum())
    return (rank_sum - bad * (bad + 1) / 2.0) / (bad * good)


def roc_curve(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rate at every threshold that changes either.

    Args:
        scores: (N,) numbers, larger is more anomalous.
        positive: (N,) bool; both classes must occur.

    Returns:
        fpr, tpr, thresholds: (K + 1,) float64 each for K distinct scores, from (0, 0) at +inf to (1, 1); a part counts as bad
        when its score is at or above the threshold.

    Raises:
        ValueError: the lengths differ, a score is NaN, or a class is empty.
    """
    values, flags = _checked(scores, positive)
    if flags.all() or not flags.any():
        raise ValueError(f"expected good and bad parts, got {int(flags.sum())} bad of {flags.size}")
    distinct, inverse = np.unique(values, return_inverse=True)
    bad = np.bincount(inverse[flags], minlength=distinct.size)[::-1].cumsum()
    good = np.bincount(inverse[~flags], minlength=distinct.size)[::-1].cumsum()
    return (
        np.concatenate(([0.0], good / good[-1])),
        np.concatenate(([0.0], bad / bad[-1])),
        np.concatenate(([np.inf], distinct[::-1])),
    )


def area_up_to(fpr: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    """Area under a curve over the false positive rate up to a limit, divided by the limit so that the best is 1.

    Args:
        fpr: (K,) ascending from 0; the last value is at or above the limit.
        y: (K,) values of the curve, straight between its points.
        limit: where the area ends, above 0 and at most 1.

    Source: normalised as in Bergmann et al., MVTec AD (IJCV 2021), section 5.2.2; the curve is cut at the limit by linear
    interpolation.
    """
    if not 0.0 < limit <= 1.0:
        raise ValueError(f"expected a limit above 0 and at most 1, got {limit}")
    inside = fpr <= limit
    x = np.append(fpr[inside], limit)
    # np.interp takes the last of several points with one x, which is where a vertical step ends.
    values = np.append(y[inside], np.interp(limit, fpr, y))
    return float(np.sum(np.diff(x) * (values[1:] + values[:-1]) / 2.0) / limit)


def _checked(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(scores, dtype=np.float64)
    flags = np.asarray(positive, dtype=np.bool_)
    if values.ndim != 1 or values.shape != flags.shape:
        raise ValueError(f"expected one score and one label a part, got shapes {values.shape} and {flags.shape}")
    if np.isnan(values).any():
        raise ValueError(f"expected numbers, got NaN for part {int(np.flatnonzero(np.isnan(values))[0])} of {values.size}")
    return values, flags
