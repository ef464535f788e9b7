"""Normalization of a map as one scale and one offset per cell on the sum of squares.

0.1 (((mean_c d^2) - m) / s - q_a) / (q_b - q_a) = scale * sum_c d^2 + offset, with m and s what good parts show at this cell
(`training.networks.detector.normalize_map`) and q_a, q_b of EfficientAD, arXiv 2303.14535v3, section 3.4.
"""

from dataclasses import dataclass

import numpy as np

from export.fuse.layers import Array

SCALE_AT_QB = 0.1


@dataclass(frozen=True, slots=True)
class MapScale:
    """normalized = scale * (sum over channels of the squared difference) + offset; both (n, n)."""

    scale: Array
    offset: Array

    def sums(self, normalized: Array) -> Array:
        """Take a normalized map back: (..., n, n) -> sums over channels."""
        taken: Array = (normalized - self.offset) / self.scale
        return taken


def fold_map(cell: Array, quantiles: Array, channels: int) -> MapScale:
    """Give scale and offset.

    Args:
        cell: (2, n, n) mean and scale of good parts at each cell.
        quantiles: (2,) q_a and q_b of what that leaves.
        channels: number of channels the squared difference is averaged over.

    Raises:
        ValueError: q_b is not above q_a or a cell's scale not above 0, so that there is no scale.
    """
    q_a, q_b = (float(q) for q in quantiles)
    mean, scale = cell
    if not q_b > q_a or not (scale > 0).all():
        raise ValueError(
            f"expected q_b > q_a and scales above 0, got {q_b}, {q_a} and {float(scale.min())}: the map was constant on the "
            "validation parts; train again"
        )
    step = SCALE_AT_QB / (q_b - q_a)
    return MapScale(step / (scale * channels), -step * (mean / scale + q_a) * np.ones_like(scale))
