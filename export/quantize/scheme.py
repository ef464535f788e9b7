"""Where a graph is quantized and how: the numbers of an explicit, symmetric INT8 scheme.

Every activation tensor has one step and zero point 0. After a ReLU that would waste half of the integers, so a *shift* is taken
off the tensor: relu(y) - shift lies in [-128, 127] steps when shift is 128 steps. The shift costs nothing: it goes into the
bias before, and the next convolution, unpadded, adds it back through the sum of its weights. And because -128 is where the
quantizer saturates, QuantizeLinear *is* the ReLU: no such node is left. Exact in float; in INT8 it doubles the resolution
of every hidden map under rules (symmetric, zero point 0) that TensorRT, OpenVINO and ONNX Runtime all accept.

Means of the activations are kept to correct biases for the rounding of weights: W x + b and W_q x + b differ on average by
(W - W_q) E[x], which goes into the bias (Nagel et al., "Data-free quantization through weight equalization and bias
correction", ICCV 2019, section 4.2, with measured means).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from export.fuse.layers import Array, Conv
from export.quantize.rounding import Covariance, choose_scales, round_weight

Rounded = tuple[NDArray[np.int8], NDArray[np.float32]]
"""(out, in, kh, kw) integers and (out,) scales of a weight."""

LOWEST, HIGHEST = -128, 127
"""Integers of an activation."""

SAFE_WEIGHT_LEVELS = 63
"""7 bits: CPUs without VNNI add two products u8 x s8 in 16 bits, where 2 * 255 * 64 is the most that fits.

Measured on AVX2 with OpenVINO 2026.4 against exact integers, PDN-S shapes: with 127 levels the result is off by 0.3 to 3.3 % RMS
and by up to 29,745 counts, with 63 it is exact to the last bit. ONNX Runtime computes these graphs in float and is exact in
both cases."""

FULL_WEIGHT_LEVELS = 127


class Form(str, enum.Enum):
    """How a convolution is computed: each is dearer than the one before, and nearer to float.

    TWOFOLD: a second INT8 convolution over the same input holds what rounding left of the first one's weights, and both are
    added: weights of 13 bits for twice the multiplications, all of them integer. For differences of two networks that mostly
    cancel, whose weights' rounding does not.
    """

    INT8 = "int8"
    TWOFOLD = "twofold"
    FLOAT = "float"


Forms = Mapping[str, Form]


@dataclass(frozen=True, slots=True)
class Point:
    """One quantized activation.

    Attributes:
        step: real value of one integer.
        shift: (C,) what was taken off each channel; 0 or 128 steps.
        mean: (C,) mean of each channel before the shift was taken off. variance: (C,).
    """

    step: float
    shift: Array
    mean: Array
    variance: Array

    def __post_init__(self) -> None:
        if not self.step > 0 or not np.isin(self.shift, (0.0, -LOWEST * self.step)).all():
            raise ValueError(f"expected a step above 0 and shifts of 0 or {-LOWEST} steps, got {self.step} and {self.shift}")


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a graph is quantized.

    Attributes:
        points: the quantized activations by name; one without an entry stays in float, and so does the convolution it feeds.
        covariances: of the inputs of each quantized convolution, by its name.
        weight_levels: largest integer of a weight.
        forms: how convolutions are computed; INT8 where nothing is said.
        rounded: integers and scales found so far, by convolution: rounding takes seconds, and no mix changes what comes out.
    """

    points: Mapping[str, Point]
    covariances: Mapping[str, tuple[Covariance, ...]] = field(default_factory=dict)
    weight_levels: int = SAFE_WEIGHT_LEVELS
    forms: Forms = field(default_factory=dict)
    rounded: dict[str, Rounded] = field(default_factory=dict)

    def form(self, name: str) -> Form:
        """How a convolution is computed."""
        return self.forms.get(name, Form.INT8)

    def integers(self, name: str, conv: Conv, point: Point) -> "IntegerConv":
        """The integers of a convolution; see `quantize_conv`."""
        if name not in self.rounded:
            self.rounded[name] = round_conv(conv, point, self.weight_levels, self.covariances[name])
        return quantize_conv(conv, point, *self.rounded[name])


@dataclass(frozen=True, slots=True)
class IntegerConv:
    """A convolution with integer weights.

    Attributes:
        weight: (out, in, kh, kw) int8. scale: (out,) float32. bias: (out,) float64, with shift and rounding made good.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: Array


def round_conv(conv: Conv, point: Point, levels: int, covariances: tuple[Covariance, ...]) -> Rounded:
    """Give integer weights and their scales for an input."""
    scale = choose_scales(conv.weight, levels, point.variance)
    return round_weight(conv.weight, scale, levels, covariances), scale


def quantize_conv(conv: Conv, point: Point, weight: NDArray[np.int8], scale: NDArray[np.float32]) -> IntegerConv:
    """Give the bias that goes with integer weights: it takes up the input's shift and the mean of the rounding's error.

    The bias is a whole number of the accumulator's unit, the input's step times the channel's scale.

    Raises:
        ValueError: the convolution pads and its input is shifted: the padding would not be zero any more.
    """
    if any(conv.padding) and point.shift.any():
        raise ValueError(f"expected an unpadded convolution behind a shifted activation, got padding {conv.padding}")
    held = weight.astype(np.float64) * scale.astype(np.float64)[:, None, None, None]
    bias = conv.bias + held.sum(axis=(2, 3)) @ point.shift + (conv.weight - held).sum(axis=(2, 3)) @ point.mean
    # ONNX Runtime rounds float biases to the accumulator's unit and OpenVINO does not: rounded here, both compute the same.
    unit = np.float32(point.step).astype(np.float64) * scale.astype(np.float64)
    return IntegerConv(weight, scale, np.rint(bias / unit) * unit)


def quantize_twofold(conv: Conv, point: Point, levels: int) -> tuple[IntegerConv, IntegerConv]:
    """Give two integer convolutions whose sum is the convolution: a coarse one without a bias, and a fine one with it.

    The bias is a whole number of the fine one's unit.

    Raises:
        ValueError: the convolution pads and its input is shifted.
    """
    flat = np.abs(conv.weight).max(axis=(1, 2, 3))
    scale = np.where(flat > 0, flat / levels, 1.0).astype(np.float32)
    coarse = np.rint(conv.weight / scale[:, None, None, None].astype(np.float64)).clip(-levels, levels).astype(np.int8)
    left = conv.weight - coarse * scale[:, None, None, None].astype(np.float64)
    fine_scale = (0.5 * scale / levels).astype(np.float32)
    fine = np.rint(left / fine_scale[:, None, None, None].astype(np.float64)).clip(-levels, levels).astype(np.int8)
    held = (coarse * scale[:, None, None, None].astype(np.float64)).sum(axis=(2, 3)) @ point.shift
    second = quantize_conv(Conv(left, conv.bias + held, padding=conv.padding), point, fine, fine_scale)
    return IntegerConv(coarse, scale, np.zeros_like(conv.bias)), second
