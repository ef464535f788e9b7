"""The auto-encoder of EfficientAD: what it gives back of a picture has passed through 64 numbers.

It predicts the teacher's normalized vectors from the whole picture, so it knows rules that no 33 px patch shows: how many parts,
which ones, where. At 256 px it is the paper's network exactly. Other sides (multiples of 32) scale its sizes by side / 256: the
last encoder kernel covers its whole input, the decoder's grids are s/64 - 1, s/32, s/16 - 1, s/8, s/4 - 1, s/2 - 1.

Source: EfficientAD, arXiv 2303.14535v3, table 7.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from training.networks.pdn import TEACHER_CHANNELS, grid_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIDE_STEP_PX = 32
"""Five convolutions of stride 2 need a side they divide."""

MIN_SIDE_PX = 128
MAX_SIDE_PX = 512
DROPOUT = 0.2
BOTTLENECK = 64


def decoder_sides(size: int) -> tuple[int, ...]:
    """Grid sides the decoder passes through before the feature grid: 3, 8, 15, 32, 63, 127 at 256 px."""
    return (size // 64 - 1, size // 32, size // 16 - 1, size // 8, size // 4 - 1, size // 2 - 1)


class Autoencoder(nn.Module):
    """The auto-encoder for one picture side.

    Args:
        size: Side of the picture in pixels: a multiple of 32 from 128 to 512.

    Raises:
        ValueError: Another side.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size % SIDE_STEP_PX or not MIN_SIDE_PX <= size <= MAX_SIDE_PX:
            raise ValueError(f"expected a side from {MIN_SIDE_PX} to {MAX_SIDE_PX} px, a multiple of {SIDE_STEP_PX}; got {size}")
        self.size = size
        widths = (3, 32, 32, 64, 64, 64)
        encoder: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            encoder += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        encoder.append(nn.Conv2d(64, BOTTLENECK, size // SIDE_STEP_PX))
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.ModuleList(
            nn.Conv2d(BOTTLENECK if i == 0 else 64, 64, 4, padding=2) for i in range(len(decoder_sides(size)))
        )
        self.last_hidden: nn.Module = nn.Conv2d(64, 64, 3, padding=1)
        self.output = nn.Conv2d(64, TEACHER_CHANNELS, 3, padding=1)

    def forward(
        self,
        x: torch.Tensor,
        dropout: Sequence[torch.Tensor] | None = None,
        noise: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Predicts the teacher's normalized vectors.

        Args:
            x: (N, 3, size, size) float32, normalized by ImageNet's mean and standard deviation.
            dropout: One factor map a decoder stage, broadcastable to (N, 64, side + 1, side + 1); None drops nothing. Factors
                are drawn by the caller, so that a resumed run drops what an unbroken one drops.
            noise: Draws what is added to the code, (N, 64, 1, 1), given the code; None adds nothing.

        Returns:
            (N, 384, n, n) float32 with n = size / 4 - 8.
        """
        h = self.encoder(x)
        if noise is not None:
            h = h + noise(h)
        for i, (side, conv) in enumerate(zip(decoder_sides(self.size), self.decoder, strict=True)):
            h = functional.interpolate(h, size=(side, side), mode="bilinear", align_corners=False)
            h = functional.relu(conv(h))
            if dropout is not None:
                h = h * dropout[i]
        side = grid_side(self.size)
        h = functional.interpolate(h, size=(side, side), mode="bilinear", align_corners=False)
        out: torch.Tensor = self.output(functional.relu(self.last_hidden(h)))
        return out

    def draw_dropout(self, pictures: int, generator: torch.Generator) -> list[torch.Tensor]:
        """Draws the factors of `forward`: 0 with probability 0.2, else 1 / 0.8, element by element.

        Args:
            pictures: N.
            generator: CPU generator; the factors lie on the CPU.
        """
        keep = 1 - DROPOUT
        return [
            (torch.rand(pictures, 64, side + 1, side + 1, generator=generator) < keep).to(torch.float32) / keep
            for side in decoder_sides(self.size)
        ]
