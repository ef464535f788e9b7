"""What the passes work on: plain numpy layers, taken from the trained modules once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import nn

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution and what follows it.

    Attributes:
        weight: (out, in, kh, kw) float64; passes compute in double and the graph rounds once, to float32 or to integers.
        bias: (out,) float64.
        relu: whether a ReLU follows. pool: whether a 2x2 average pooling follows that.
        stride: in both directions. padding: zeros added at (top, left, bottom, right).
    """

    weight: Array
    bias: Array
    relu: bool = False
    pool: bool = False
    stride: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def scaled(self, factors: Array) -> "Conv":
        """The same convolution with each output channel, and what a ReLU lets through, multiplied by a factor: (out,), > 0."""
        return replace(self, weight=self.weight * factors[:, None, None, None], bias=self.bias * factors)

    def outputs(self, first: int, last: int) -> "Conv":
        """The same convolution with the output channels first to last - 1 only."""
        return replace(self, weight=self.weight[first:last], bias=self.bias[first:last])


def array(tensor: "torch.Tensor") -> Array:
    """A torch tensor as float64."""
    return np.asarray(tensor.detach().cpu().numpy(), np.float64)


def read_conv(module: "nn.Module") -> Conv:
    """Read a Conv2d.

    Raises:
        TypeError: another module, or a convolution with groups or dilation, which no pass knows how to fuse.
    """
    if type(module).__name__ != "Conv2d":
        raise TypeError(f"expected a Conv2d, got {type(module).__name__}")
    conv = cast("nn.Conv2d", module)
    if conv.groups != 1 or conv.dilation != (1, 1) or isinstance(conv.padding, str) or conv.stride[0] != conv.stride[1]:
        raise TypeError(f"expected one group, no dilation, numbers as padding and one stride, got {conv}")
    vertical, horizontal = conv.padding
    bias = np.zeros(conv.out_channels) if conv.bias is None else array(conv.bias)
    return Conv(array(conv.weight), bias, stride=conv.stride[0], padding=(vertical, horizontal, vertical, horizontal))


def read_convs(modules: Iterable["nn.Module"]) -> list[Conv]:
    """Read a sequence of Conv2d, ReLU and AvgPool2d modules.

    Raises:
        TypeError: a module of another kind, or in another order than convolution, ReLU, pooling.
    """
    convs: list[Conv] = []
    for module in modules:
        kind = type(module).__name__
        if kind == "ReLU" and convs and not convs[-1].relu:
            convs[-1] = replace(convs[-1], relu=True)
        elif kind == "AvgPool2d" and convs and not convs[-1].pool:
            pool = cast("nn.AvgPool2d", module)
            if (pool.kernel_size, pool.stride, pool.padding) != (2, 2, 0):
                raise TypeError(f"expected 2x2 pooling, stride 2, unpadded, got {pool}")
            convs[-1] = replace(convs[-1], pool=True)
        else:
            convs.append(read_conv(module))
    return convs
