"""From camera bytes to what the networks see."""

from __future__ import annotations

import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Statistics of ImageNet's RGB pixels in [0, 1], as every backbone here was trained with."""


def normalize_frames(frames: torch.Tensor) -> torch.Tensor:
    """Brings frames to the networks' scale.

    Args:
        frames: (N, H, W, 3) uint8 RGB.

    Returns:
        (N, 3, H, W) float32: (x / 255 - mean) / std of each channel.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=frames.device).view(1, 3, 1, 1)
    return (frames.permute(0, 3, 1, 2).to(torch.float32) / 255 - mean) / std
