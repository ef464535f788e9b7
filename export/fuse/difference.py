"""The difference of two networks as one convolution over both hidden maps.

T - S = W_T h_T + b_T - (W_S h_S + b_S) = [W_T, -W_S] [h_T; h_S] + (b_T - b_S): the subtraction happens in the accumulator,
before any rounding, and two 384-channel maps are never written. The same for A - S, once the auto-encoder's padded 3x3 kernel
is embedded in the student's unpadded 4x4 kernel: its hidden map is padded by one cell above and left and two below and right,
its kernel by a last row and column of zeros.
"""

from dataclasses import replace

import numpy as np

from export.fuse.layers import Conv

HIDDEN_PADDING = (1, 1, 2, 2)
"""(top, left, bottom, right) cells by which the auto-encoder's hidden map is padded to the student's."""


def difference(minuend: Conv, subtrahend: Conv) -> Conv:
    """One convolution over the two inputs stacked: minuend's channels first.

    Args:
        minuend: weight (c, a, kh, kw), no ReLU after it.
        subtrahend: weight (c, b, kh, kw), of equal kernel, stride and padding.

    Raises:
        ValueError: the two do not run over the same windows.
    """
    shapes = [(c.weight.shape[0], *c.weight.shape[2:], c.stride, c.padding, c.relu, c.pool) for c in (minuend, subtrahend)]
    if shapes[0] != shapes[1] or minuend.relu:
        raise ValueError(f"expected two convolutions over the same windows without activation, got {shapes[0]} and {shapes[1]}")
    weight = np.concatenate([minuend.weight, -subtrahend.weight], axis=1)
    return replace(minuend, weight=weight, bias=minuend.bias - subtrahend.bias)


def embed_padded_kernel(conv: Conv) -> Conv:
    """A 3x3 convolution with padding 1 as an unpadded 4x4 one over a map padded by HIDDEN_PADDING.

    Raises:
        ValueError: another kernel or padding.
    """
    if conv.weight.shape[2:] != (3, 3) or conv.padding != (1, 1, 1, 1) or conv.stride != 1:
        raise ValueError(f"expected 3x3, padding 1, stride 1; got {conv.weight.shape[2:]}, {conv.padding}, {conv.stride}")
    weight = np.pad(conv.weight, ((0, 0), (0, 0), (0, 1), (0, 1)))
    return replace(conv, weight=weight, padding=(0, 0, 0, 0))
