"""Keep only some directions of a difference: |P (W h + b)|^2 = |(P W) h + P b|^2.

A map needs nothing of the 384 channels but their squared norm, which no rotation changes; the directions that carry nothing are
never computed. Exact for the detector, whose maps are defined by the same directions (`training.networks.detector`).
"""

from dataclasses import replace

import numpy as np

from export.fuse.layers import Array, Conv


def keep_directions(conv: Conv, basis: Array) -> Conv:
    """Give a convolution's output in the directions of a basis.

    Args:
        conv: (c, in, kh, kw), nothing after it.
        basis: (k, c), orthonormal rows; with k = c the convolution stays as it is, since a rotation changes no square.

    Raises:
        ValueError: an activation follows, or the basis is of another width.
    """
    if conv.relu or conv.pool or basis.shape[1] != len(conv.weight):
        raise ValueError(f"expected {len(conv.weight)} channels and no activation, got a basis of {basis.shape[1]}, {conv.relu=}")
    if len(basis) == len(conv.weight):
        return conv
    return replace(conv, weight=np.tensordot(basis, conv.weight, 1), bias=basis @ conv.bias)
