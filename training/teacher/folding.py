"""A backbone as plain convolutions: every batch normalization folded into the convolution before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class FoldedConv:
    """One convolution of a backbone with its normalization folded in.

    Attributes:
        name: Where the backbone keeps it, for errors.
        weight: (outputs, inputs / groups, kernel, kernel) float32.
        bias: (outputs,) float32.
        pads: Zeros at (top and left, bottom and right); (-1, -1) where the directions differ.
    """

    name: str
    weight: torch.Tensor
    bias: torch.Tensor
    pads: tuple[int, int]


def fold(name: str, kernel: torch.Tensor, norm: Sequence[torch.Tensor], eps: float, pads: tuple[int, int]) -> FoldedConv:
    """Folds a normalization into its convolution, in float64.

    Args:
        name: For errors.
        kernel: (outputs, inputs / groups, kernel, kernel), without bias.
        norm: Weight, bias, running mean and running variance, (outputs,) each.
        eps: Added to the variance.
        pads: The convolution's.
    """
    weight, bias, mean, variance = (one.detach().to(torch.float64) for one in norm)
    factor = weight / (variance + eps).sqrt()
    folded = kernel.detach().to(torch.float64) * factor[:, None, None, None]
    return FoldedConv(name, folded.to(torch.float32), (bias - mean * factor).to(torch.float32), pads)
