"""The global head without its convolution: pooling commutes with what is linear.

The spatial mean of W * h over the n x n grid is W applied once to the means of h over its shifted windows: a kernel of k x k
sees k x k different n x n windows of h. So instead of a 384-channel map (4.9 GMAC at 256 px) the head needs one average
pooling of the hidden map and one product of a 384 x 4096 matrix with a vector. Mean and centring fold into the bias.
"""

from dataclasses import dataclass

import numpy as np

from export.fuse.layers import Array, Conv


@dataclass(frozen=True, slots=True)
class Head:
    """distance = sqrt(v^T precision v) with v = conv(window means); global = (distance - center) / scale.

    Attributes:
        branch: "teacher" or "student": whose hidden map is pooled.
        conv: (384, hidden, k, k) over the k x k window means, centred: bias = b - head_mean.
        precision: (384, 384).
    """

    branch: str
    conv: Conv
    precision: Array
    center: float
    scale: float


def pooled_head(branch: str, last: Conv, mean: Array, precision: Array, center: float, scale: float) -> Head:
    """Fold the head's mean into the last convolution's bias.

    Args:
        branch: whose hidden map is pooled.
        last: the convolution that made the pooled features, weight (384, hidden, k, k).
        mean: (384,) of the pooled features over good parts.
        precision: (384, 384), made symmetric here.
        center: of the z-score.
        scale: of the z-score.

    Raises:
        ValueError: the z-score has no scale, or the precision matrix is of another shape.
    """
    if not scale > 0:
        raise ValueError(f"expected a positive scale of the global z-score, got {scale}")
    if precision.shape != (mean.size, mean.size):
        raise ValueError(f"expected a precision matrix of {(mean.size, mean.size)}, got {precision.shape}")
    centred = Conv(last.weight, last.bias - mean)
    return Head(branch, centred, 0.5 * (precision + np.swapaxes(precision, 0, 1)), center, scale)
