"""What another limit would do to good parts, from the scores of those the limit in force was fitted on: for page and report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.binomial import clopper_pearson_upper
from edge.bundle.manifest import Golden, Manifest

POINTS = 80
_END = 0.95  # of either end of an interval: 90 % in all


@dataclass(frozen=True, slots=True)
class Rate:
    """A share that was counted: how often, of how many, and its 90 % interval.

    Source of the interval: Clopper and Pearson, Biometrika 26 (1934).
    """

    count: int
    of: int
    low: float
    high: float

    @classmethod
    def counted(cls, count: int, of: int) -> "Rate":
        """From counts."""
        return cls(count, of, 1.0 - clopper_pearson_upper(of - count, of, _END), clopper_pearson_upper(count, of, _END))

    @property
    def share(self) -> float:
        """The share itself; 0 where nothing was counted."""
        return self.count / self.of if self.of else 0.0


def false_rejects(manifest: Manifest, golden: Sequence[Golden]) -> dict[str, Any]:
    """The curve in units of the limit in force, as plain JSON.

    Args:
        manifest: with the limit in force.
        golden: the golden frames: known bad ones among them show what a looser limit would let pass.

    Returns:
        `n` good parts; `points`, rows of (limit, good parts above it, lower and upper end of that rate) with rising limits;
        `highest`, the highest scores of good parts; `golden`, rows of (name, score, what it must get).
    """
    limit = manifest.limit.raw
    scores = np.asarray(manifest.calibration, np.float64) / limit
    n = int(scores.size)
    above = np.unique(np.concatenate([np.arange(min(n, 30)), np.geomspace(1, max(2, n - 1), POINTS - 30).astype(int)]))
    points = []
    for value in sorted({*(float(scores[n - 1 - i]) for i in above if i < n), 1.0}):
        rate = Rate.counted(int(n - np.searchsorted(scores, value, side="right")), n)
        points.append([value, rate.count, rate.low, rate.high])
    return {
        "n": n,
        "points": points,
        "highest": [float(value) for value in scores[::-1][:5]],
        "golden": [[one.picture, one.scores[0] / limit, one.verdict] for one in golden],
    }
