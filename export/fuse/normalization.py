"""Fold ImageNet's mean and standard deviation into a first convolution.

The graph feeds pixel - 128, which an INT8 input holds without loss. With y = W * ((x + 128) / 255 - mean) / std + b and no
padding, every output sees whole windows only, so the constants of all its inputs add up to one bias. A padded convolution has
no such form (its border windows see fewer inputs): it is refused, and its input is normalized in the graph instead.
"""

from dataclasses import replace

import numpy as np

from export.fuse.layers import Array, Conv

PIXEL_OFFSET = 128.0
PIXEL_SCALE = 255.0


def affine_of_pixels(mean: Array, std: Array) -> tuple[Array, Array]:
    """(scale, offset), each (3,): normalized = (pixel - 128) * scale + offset."""
    scale = 1.0 / (PIXEL_SCALE * std)
    return scale, PIXEL_OFFSET * scale - mean / std


def fold_normalization(conv: Conv, mean: Array, std: Array) -> Conv:
    """Make a convolution of normalized pictures one of pixel - 128.

    Args:
        conv: first convolution, weight (out, 3, kh, kw), unpadded.
        mean: (3,) of pixels in [0, 1].
        std: (3,) of pixels in [0, 1].

    Raises:
        ValueError: the convolution pads.
    """
    if any(conv.padding):
        raise ValueError(f"expected an unpadded convolution, got padding {conv.padding}: its border would see another constant")
    scale, offset = affine_of_pixels(mean, std)
    weight = conv.weight * scale[None, :, None, None]
    bias = conv.bias + np.einsum("oihw,i->o", conv.weight, offset)
    return replace(conv, weight=weight, bias=bias)
