"""Noise on features: who is to rebuild what others of its kind show must not lean on any single number."""

from __future__ import annotations

import torch


def feature_noise(features: torch.Tensor, alpha: float, generator: torch.Generator) -> torch.Tensor:
    """Draws noise for features.

    Stated by LGFDR's paper: noise is added to the features. Our reading is UniAD's law (You et al., NeurIPS 2022, section 3.3):
    each element of a cell's vector f gets a normal number of deviation alpha |f| / C. With channels of unit variance |f| is about
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
