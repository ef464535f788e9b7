"""The feature noise and the loss of LGFDR."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class RebuildLoss:
    """What a step costs.

    Attributes:
        total: To be minimized: the sum over all reconstructions.
        distances: Mean square of what each reconstruction leaves, by its name; 1 is "predicts the mean".
    """

    total: torch.Tensor
    distances: dict[str, float]


def feature_noise(features: torch.Tensor, alpha: float, generator: torch.Generator) -> torch.Tensor:
    """Draws noise for features.

    Stated by the paper: noise is added to the features. Our reading is UniAD's law (You et al., NeurIPS 2022, section 3.3): each
    element of a cell's vector f gets a normal number of deviation alpha |f| / C. With channels of unit variance |f| is about
    sqrt(C), so alpha = 12 at C = 160 is noise about as large as the signal.

    Args:
        features: (N, C, g, g) float32.
        alpha: Strength.
        generator: CPU generator; drawn there, so that a resumed run draws the same on any device.

    Returns:
        (N, C, g, g) float32 on the device of the features.
    """
    drawn = torch.randn(features.shape, generator=generator).to(features.device)
    noise: torch.Tensor = drawn * (alpha / features.shape[1]) * torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return noise


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
