"""What a teacher is to say: a backbone's features at the patches, normalized, weighted and projected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.networks.pdn import TEACHER_CHANNELS, grid_side
from training.teacher.levels import Backbone, orthogonal_projection, sample_levels

if TYPE_CHECKING:
    from collections.abc import Iterable


class Targets(nn.Module):
    """Normalized, weighted and projected backbone features at the patches of a PDN.

    Args:
        backbone: The network to imitate.
        size: Side of a picture as the PDN sees it.
        seed: Seed of the projection.
        device: Where to work.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    projection: torch.Tensor
    out_mean: torch.Tensor
    out_std: torch.Tensor

    def __init__(self, backbone: Backbone, size: int, seed: int, device: torch.device) -> None:
        super().__init__()
        self._backbone = backbone
        self._cells = grid_side(size)
        channels = sum(level.channels for level in backbone.levels)
        self.register_buffer("mean", torch.zeros(channels, device=device))
        self.register_buffer("scale", torch.ones(channels, device=device))
        self.register_buffer("projection", orthogonal_projection(channels, TEACHER_CHANNELS, seed).to(device))
        self.register_buffer("out_mean", torch.zeros(TEACHER_CHANNELS, device=device))
        self.register_buffer("out_std", torch.ones(TEACHER_CHANNELS, device=device))

    def _features(self, large: torch.Tensor) -> torch.Tensor:
        return sample_levels(self._backbone(large), self._backbone.levels, self._cells)

    def fit(self, batches: Iterable[torch.Tensor]) -> None:
        """Takes the statistics of every channel before and after the projection.

        Args:
            batches: (N, 3, S, S) normalized pictures at the backbone's side.
        """
        total = torch.zeros(self.mean.shape[0], dtype=torch.float64, device=self.mean.device)
        outer = torch.zeros(len(total), len(total), dtype=torch.float64, device=self.mean.device)
        count = 0
        for large in batches:
            vectors = self._features(large).permute(0, 2, 3, 1).reshape(-1, len(total)).to(torch.float64)
            total += vectors.sum(0)
            outer += vectors.T @ vectors
            count += len(vectors)
        mean = total / count
        covariance = outer / count - torch.outer(mean, mean)
        level_scale = torch.cat(
            [torch.full((lv.channels,), math.sqrt(lv.share / lv.channels)) for lv in self._backbone.levels]
        ).to(covariance)
        std = covariance.diagonal().clamp_min(1e-12).sqrt()
        # A channel that is nearly always 0 would dominate the one picture where it fires (seen: a loss of 93): its deviation
        # counts as at least a third of its level's median.
        floor = torch.cat(
            [part.median().expand(len(part)) for part in torch.split(std, [lv.channels for lv in self._backbone.levels])]
        )
        scale = level_scale / torch.maximum(std, floor / 3)
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        projection = self.projection.to(torch.float64)
        projected = projection @ (covariance * scale[:, None] * scale[None, :]) @ projection.T
        self.out_std.copy_(projected.diagonal().clamp_min(1e-12).sqrt())  # the mean is 0 by construction

    @torch.no_grad()
    def forward(self, large: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalized pictures -> (N, 384, cells, cells), every channel of unit variance."""
        features = (self._features(large) - self.mean[:, None, None]) * self.scale[:, None, None]
        projected = torch.einsum("oc,nchw->nohw", self.projection, features)
        return (projected - self.out_mean[:, None, None]) / self.out_std[:, None, None]
