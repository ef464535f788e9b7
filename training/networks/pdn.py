"""Patch description networks of EfficientAD: the teacher and the student.

A PDN describes every 33x33 patch of a picture, 4 px apart, by one vector. The teacher gives 384 channels. The
student has the same layers and twice the channels at the end: its first half learns the teacher (S_T), its second
half learns the auto-encoder (S_A).

With padding the grid of a picture of side s is s/4 (used while a teacher is distilled); without padding it is
s/4 - 8 (used to train and to infer: cheaper, and no vector sees a border that is not there). The weights are the
same: position (i, j) of the grid without padding is position (i + 4, j + 4) of the grid with padding.

Source: EfficientAD, arXiv 2303.14535v3, tables 5 and 6.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch

TEACHER_CHANNELS = 384
"""Channels of a teacher's vector (EfficientAD, section 3.1)."""

BORDER_CELLS = 4
"""Cells by which the grid with padding is larger than the grid without, on each side."""

FULL_WIDTH = 1.0
WIDTH_STEP = 0.125
"""A width is a part of the paper's hidden channels. The narrowest layer has 128, and INT8 kernels take 16 at a time."""

STRIDE_PX = 4
RECEPTIVE_FIELD_PX = 33


class PdnSize(str, enum.Enum):
    """Which of the paper's two patch description networks."""

    SMALL = "pdn-s"
    MEDIUM = "pdn-m"


def grid_side(size: int, *, padding: bool = False) -> int:
    """Side of the feature grid for a square picture.

    Args:
        size: Side of the picture in pixels, a multiple of 4.
        padding: Whether the network pads.

    Returns:
        Cells per side: size / 4, less 8 where nothing is padded.
    """
    return size // STRIDE_PX - (0 if padding else 2 * BORDER_CELLS)


def is_width(width: float) -> bool:
    """Whether a network can have this part of the paper's hidden channels."""
    return 0 < width <= FULL_WIDTH and width % WIDTH_STEP == 0


class Pdn(nn.Module):
    """A patch description network.

    Args:
        size: Small (4 convolutions) or medium (6).
        channels: Channels of the output: 384 for a teacher, 768 for a student.
        padding: True gives a grid of side s/4, False of s/4 - 8, from the same weights.
        width: Part of the paper's hidden channels that the hidden layers have; what a layer costs falls with its square.

    Raises:
        ValueError: `width` gives a layer a number of channels that is not a multiple of 16, or more than the paper's.
    """

    def __init__(
        self, size: PdnSize, channels: int = TEACHER_CHANNELS, *, padding: bool = False, width: float = FULL_WIDTH
    ) -> None:
        super().__init__()
        if not is_width(width):
            raise ValueError(f"expected a width above 0 and up to {FULL_WIDTH:g}, a multiple of {WIDTH_STEP:g}; got {width:g}")
        self.size = PdnSize(size)
        self.channels = channels
        self.padding = padding
        wide, one = (3, 1) if padding else (0, 0)

        def pool() -> nn.AvgPool2d:
            return nn.AvgPool2d(2, 2, padding=one)

        relu, first, second = nn.ReLU, round(128 * width), round(256 * width)
        if self.size is PdnSize.SMALL:
            layers: list[nn.Module] = [
                nn.Conv2d(3, first, 4, padding=wide), relu(), pool(),
                nn.Conv2d(first, second, 4, padding=wide), relu(), pool(),
                nn.Conv2d(second, second, 3, padding=one), relu(),
                nn.Conv2d(second, channels, 4),
            ]  # fmt: skip
        else:
            first, second = 2 * first, 2 * second
            layers = [
                nn.Conv2d(3, first, 4, padding=wide), relu(), pool(),
                nn.Conv2d(first, second, 4, padding=wide), relu(), pool(),
                nn.Conv2d(second, second, 1), relu(),
                nn.Conv2d(second, second, 3, padding=one), relu(),
                nn.Conv2d(second, channels, 4), relu(),
                nn.Conv2d(channels, channels, 1),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Describes every patch.

        Args:
            x: (N, 3, H, W) float32, RGB normalized by ImageNet's mean and standard deviation.

        Returns:
            (N, channels, h, w) float32 with h = H/4 - 8, or H/4 with padding.
        """
        out: torch.Tensor = self.layers(x)
        return out
