"""What a backbone is to a teacher: maps of one picture on a few levels, read at the middles of a PDN's patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from training.networks.pdn import RECEPTIVE_FIELD_PX, STRIDE_PX

BACKBONE_SCALE = 2
"""The backbone sees the picture at this multiple of the PDN's side (paper: 512 against 256)."""


@dataclass(frozen=True, slots=True)
class Level:
    """One feature map of a backbone.

    Attributes:
        channels: Channels of the map.
        stride_px: Pixels of the backbone's input between two cells.
        offset_px: Where the middle of cell 0 lies in the backbone's input, in pixels from its left edge.
        share: Part of the target's variance this level provides; the shares of a backbone sum to 1.
    """

    channels: int
    stride_px: int
    offset_px: float
    share: float


class Backbone(Protocol):
    """A frozen network that gives several maps of one picture."""

    name: str
    levels: tuple[Level, ...]

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Gives one map a level.

        Args:
            x: (N, 3, H, W) float32, normalized by ImageNet's mean and standard deviation.

        Returns:
            One (N, channels, H / stride, W / stride) float32 map a level.
        """
        ...


def sample_levels(maps: list[torch.Tensor], levels: tuple[Level, ...], cells: int) -> torch.Tensor:
    """Reads every level at the middles of the PDN's patches (bilinear) and stacks them.

    Args:
        maps: What the backbone gave for pictures of `BACKBONE_SCALE` times the PDN's side.
        levels: Geometry of the maps.
        cells: Side of the PDN's grid without padding.

    Returns:
        (N, sum of channels, cells, cells) float32.
    """
    # Cell j of a PDN without padding spans pixels 4j .. 4j+32, so its middle lies at 4j + 16.5.
    middle = torch.arange(cells, dtype=torch.float32, device=maps[0].device) * STRIDE_PX + RECEPTIVE_FIELD_PX / 2
    stacked = []
    for level_map, level in zip(maps, levels, strict=True):
        side = level_map.shape[-1]
        cell = (middle * BACKBONE_SCALE - level.offset_px) / level.stride_px
        at = (cell + 0.5) / side * 2 - 1  # grid_sample's coordinates: -1 and 1 are the outer edges
        grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).expand(level_map.shape[0], -1, -1, -1)
        stacked.append(functional.grid_sample(level_map, grid, padding_mode="border", align_corners=False))
    return torch.cat(stacked, dim=1)


def orthogonal_projection(inputs: int, outputs: int, seed: int) -> torch.Tensor:
    """A fixed random matrix with orthonormal rows (outputs <= inputs) or columns.

    Returns:
        (outputs, inputs) float32, the same for the same seed on every machine (drawn and factored in float64 on the CPU).
    """
    generator = torch.Generator().manual_seed(seed)
    tall = torch.randn(max(inputs, outputs), min(inputs, outputs), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    q = q * torch.sign(torch.diagonal(r))
    projection: torch.Tensor = (q.T if outputs <= inputs else q).to(torch.float32)
    return projection
