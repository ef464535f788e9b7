"""The loss of LGFDR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    import torch


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
    total = target.new_zeros(())
    distances = {}
    for name, one in rebuilt.items():
        square = (target - one).square().mean()
        distances[f"d_{name}"] = square.item()
        total = total + square
        if cosine:
            total = total + cosine * (1 - functional.cosine_similarity(target, one, dim=1)).mean()
    return RebuildLoss(total, distances)
