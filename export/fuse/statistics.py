"""Fold the teacher's channel statistics into its last convolution: (W h + b - mean) / std is itself a convolution."""

from dataclasses import replace

from export.fuse.layers import Array, Conv


def fold_teacher_statistics(conv: Conv, mean: Array, std: Array) -> Conv:
    """Make the last convolution give normalized features.

    Args:
        conv: weight (384, in, kh, kw), no ReLU after it.
        mean: (384,) teacher_mean.
        std: (384,) teacher_std.

    Raises:
        ValueError: a ReLU or a pooling follows, behind which the rewrite would not be exact, or a deviation is not above 0.
    """
    if conv.relu or conv.pool:
        raise ValueError("expected a last convolution with nothing after it, got one with a ReLU or a pooling")
    if not (std > 0).all():
        raise ValueError(f"expected deviations above 0, got {int((~(std > 0)).sum())} channels without; train again")
    return replace(conv, weight=conv.weight / std[:, None, None, None], bias=(conv.bias - mean) / std)
