"""What every detector does with its maps, whatever networks made them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from training.networks.normalize import normalize_frames


class ScoringNetwork(nn.Module, ABC):
    """A detector's common ending: the global head's distance, and the contract the exporter writes and engines reproduce.

    Buffers, registered by the detector: `head_mean` (C), `head_precision` (C, C).
    """

    family: ClassVar[str]
    """Name in `training.families.FAMILIES`."""
    beyond_cells: ClassVar[int] = 0
    """How many cells its own maps (`cell_st`) reach beyond the contract's, on each side."""

    head_mean: torch.Tensor
    head_precision: torch.Tensor

    @abstractmethod
    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) normalized pictures -> two maps before their normalization, and (N, C) pooled features."""
        ...

    @abstractmethod
    def scores(
        self, map_st: torch.Tensor, map_ae: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalizes and fuses what `maps` gave: (N, 4) float32 [raw, st, ae, global], and the normalized maps (N, n, n)."""
        ...

    def head_distance(self, pooled: torch.Tensor) -> torch.Tensor:
        """(N, C) pooled features -> (N,) Mahalanobis distances from the good parts."""
        apart = pooled - self.head_mean
        return ((apart @ self.head_precision) * apart).sum(1).clamp_min(0).sqrt()

    def forward(self, frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores one frame.

        Args:
            frame: (1, size, size, 3) uint8 RGB.

        Returns:
            scores (4,) float32 [raw, st, ae, global], map_st (n, n) float32, map_ae (n, n) float32.
        """
        scores, map_st, map_ae = self.scores(*self.maps(normalize_frames(frame)))
        return scores[0], map_st[0], map_ae[0]
