"""The loss of LGFDR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LEAST_SQUARE = 1e-16
"""Of a product of squared lengths, under the root of the cosine."""


@dataclass(frozen=True, slots=True)
class RebuildLoss:
    """What a step costs.

    Attributes:
        total: To be minimized: the sum over all reconstructions.
        distances: Mean square of what each reconstruction leaves, by its name; 1 is "predicts the mean".
    """

    total: torch.Tensor
    distances: dict[str, float]


def rebuild_loss(target: torch.Tensor, rebuilt: dict[str, torch.Tensor], cosine: float) -> RebuildLoss:
    """Mean square plus 1 - cosine of every reconstruction against the clean features, summed (our reading).

    Args:
        target: (N, C, g, g) float32: features without noise or damage.
        rebuilt: Reconstructions by name, each (N, C, g, g).
        cosine: Weight of 1 - cosine between the vectors of a cell.
    """
    # Both terms from three products a cell: a third of the time of two passes over the difference and torch's cosine.
    channels = target.shape[1]
    own = target.square().sum(1)
    total = target.new_zeros(())
    distances = {}
    for name, one in rebuilt.items():
        length, product = one.square().sum(1), (target * one).sum(1)
        square = (own + length - 2 * product).mean() / channels
        distances[f"d_{name}"] = square.item()
        total = total + square
        if cosine:
            total = total + cosine * (1 - product * (own * length).clamp_min(_LEAST_SQUARE).rsqrt()).mean()
    return RebuildLoss(total, distances)
