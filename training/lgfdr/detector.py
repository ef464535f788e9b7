"""The float reference of LGFDR's graph: one uint8 frame in, scores and two small maps out, under the contract of all detectors.

    F = (pyramid(I) - mean) * scale                  (N, C, g, g), g = size / 4
    L = local(F)    G = global(F)    R = gate(L, G)
    error_st = softplus(discriminator(F, F - R)) * sqrt(mean over channels of (F - R)^2)
                                    or smooth(mean of (F - R)^2) in its place by the knob `weighed_error`; by the knob `maps`
                                    that alone, or of (F - L)^2
    error_ae = smooth(mean over channels of (F - G)^2)
    map = fold(0.1 (cell(error) - q_a) / (q_b - q_a))      st, ae = mean of the map's loudest cells
    global = (sqrt((v - head_mean)^T precision (v - head_mean)) - center) / scale,  v = spatial mean of F
    raw = as `training.networks.detector.Fusion` says

Stated by the paper: F - R is what scores. Our reading: its length over the channels, weighed by how much it looks like damage
(`training.lgfdr.discriminator`); the two maps, which attribute a cause (what the fused or local reconstruction misses is
structural, what the global one misses is logical); `cell`, the comparison with good parts cell by cell, and the pooled head,
which are the other detectors'; several loud cells instead of the loudest, for one cell of 4 px may be loud on a good part now and
then. Where nothing makes a map it is 0 everywhere and its weight is 0.

The grid is that of a padded patch description network, four cells larger on each side than the contract's map. `fold` lets each
cell of the map's rim take the largest of the cells beyond it, so that damage at a picture's edge is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from training.lgfdr.discriminator import Discriminator
from training.lgfdr.gates import make_gate
from training.lgfdr.pyramid import Pyramid
from training.lgfdr.towers import GlobalTower, LocalTower
from training.networks.detector import fuse, normalize_map
from training.networks.pdn import BORDER_CELLS
from training.networks.scoring import ScoringNetwork

if TYPE_CHECKING:
    from training.lgfdr.knobs import LgfdrKnobs


class LgfdrDetector(ScoringNetwork):
    """Pyramid, towers, gate, discriminator, normalization and pooled head in one module.

    Buffers: `feature_mean` and `feature_scale` (C), `cell_st` and `cell_ae` (2, g, g: mean and scale), `q_st` and `q_ae`,
    `head_mean` (C), `head_precision` (C, C), `head_z`, `fusion` (7 numbers in the order of `Fusion`'s fields).

    Args:
        knobs: Which parts there are, and their sizes.
        size: Side of the picture in pixels.
    """

    family = "lgfdr"
    beyond_cells = BORDER_CELLS

    feature_mean: torch.Tensor
    feature_scale: torch.Tensor
    cell_st: torch.Tensor
    cell_ae: torch.Tensor
    q_st: torch.Tensor
    q_ae: torch.Tensor
    head_z: torch.Tensor
    fusion: torch.Tensor

    def __init__(self, knobs: LgfdrKnobs, size: int) -> None:
        super().__init__()
        self.knobs, self.size = knobs, size
        self.pyramid = Pyramid(knobs.backbone, size)
        channels, grid = self.pyramid.channels, self.pyramid.grid
        self.local = LocalTower(channels, knobs.local_width, knobs.local_depth) if knobs.has_local else None
        self.whole = (
            GlobalTower(
                channels, grid, knobs.token_width, knobs.token_layers, knobs.token_heads, knobs.token_cells, knobs.token_blind
            )
            if knobs.has_global
            else None
        )
        self.gate = make_gate(knobs.gate, channels) if knobs.has_gate else None
        self.discriminator = Discriminator(channels, knobs.discriminator_width) if knobs.has_discriminator else None
        self.register_buffer("feature_mean", torch.zeros(channels))
        self.register_buffer("feature_scale", torch.ones(channels))
        plain = torch.stack([torch.zeros(grid, grid), torch.ones(grid, grid)])
        self.register_buffer("cell_st", plain)
        self.register_buffer("cell_ae", plain.clone())
        self.register_buffer("q_st", torch.tensor([0.0, 1.0]))
        self.register_buffer("q_ae", torch.tensor([0.0, 1.0]))
        self.register_buffer("head_mean", torch.zeros(channels))
        self.register_buffer("head_precision", torch.eye(channels))
        self.register_buffer("head_z", torch.tensor([0.0, 1.0]))
        self.register_buffer("fusion", torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]))

    @property
    def side(self) -> int:
        """Cells per side of the maps."""
        return self.pyramid.grid - 2 * BORDER_CELLS

    def rebuilding_parts(self) -> nn.ModuleDict:
        """What the first phase of training changes: towers and gate."""
        parts = {"local": self.local, "whole": self.whole, "gate": self.gate}
        return nn.ModuleDict({name: part for name, part in parts.items() if part is not None})

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, size, size) normalized pictures -> (N, C, g, g) features, every channel of mean 0."""
        out: torch.Tensor = (self.pyramid(x) - self.feature_mean[:, None, None]) * self.feature_scale[:, None, None]
        return out

    def rebuild(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, g, g) features -> reconstructions: "local", "global" and "fused", as far as the switches leave them."""
        found: dict[str, torch.Tensor] = {}
        if self.local is not None:
            found["local"] = self.local(features)
        if self.whole is not None:
            found["global"] = self.whole(features)
        if len(found) == 2:
            local, whole = found["local"], found["global"]
            found["fused"] = 0.5 * (local + whole) if self.gate is None else self.gate(local, whole)
        return found

    def errors(self, features: torch.Tensor, rebuilt: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and what `rebuild` gave -> (N, g, g) error_st and error_ae; zeros where nothing makes that map."""
        ae = self._error(features, rebuilt.get("global"))
        if self.discriminator is not None:
            damage = functional.softplus(self.discriminator(features, self.residual(features, rebuilt)))
            if self.knobs.weighed_error == "root":
                return damage * mean_square(features, scored(rebuilt)).sqrt(), ae
            return damage * self._error(features, scored(rebuilt)), ae
        structural = "fused" if self.knobs.maps == "fused" and "fused" in rebuilt else "local"
        return self._error(features, rebuilt.get(structural)), ae

    @staticmethod
    def residual(features: torch.Tensor, rebuilt: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, C, g, g): F - R."""
        return features - scored(rebuilt)

    def _error(self, features: torch.Tensor, rebuilt: torch.Tensor | None) -> torch.Tensor:
        if rebuilt is None:
            return torch.zeros_like(features[:, 0])
        error = mean_square(features, rebuilt)
        side = self.knobs.smooth_cells
        if side == 1:
            return error
        return functional.avg_pool2d(error[:, None], side, stride=1, padding=side // 2, count_include_pad=False)[:, 0]

    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, 3, size, size) normalized pictures -> error_st and error_ae (N, g, g) and pooled features (N, C)."""
        features = self.features(x)
        st, ae = self.errors(features, self.rebuild(features))
        return st, ae, features.mean((2, 3))

    def scores(
        self, map_st: torch.Tensor, map_ae: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalizes and fuses what `maps` gave.

        Returns:
            (N, 4) float32 [raw, st, ae, global], and the normalized maps (N, n, n).
        """
        map_st = self._map(map_st, self.cell_st, self.q_st, on=self.knobs.has_structural)
        map_ae = self._map(map_ae, self.cell_ae, self.q_ae, on=self.whole is not None)
        st, ae = loudest(map_st, self.knobs.loudest_st), loudest(map_ae, self.knobs.loudest_ae)
        z_global = (self.head_distance(pooled) - self.head_z[0]) / self.head_z[1]
        raw = fuse(st, ae, z_global, self.fusion)
        return torch.stack((raw, st, ae, z_global), dim=1), map_st, map_ae

    def _map(self, error: torch.Tensor, cell: torch.Tensor, quantiles: torch.Tensor, *, on: bool) -> torch.Tensor:
        return fold_rim(normalize_map(error, cell, quantiles) if on else error)


def scored(rebuilt: dict[str, torch.Tensor]) -> torch.Tensor:
    """R: the fused reconstruction where there are both towers, else the one there is."""
    return rebuilt.get("fused", next(iter(rebuilt.values())))


def mean_square(features: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
    """(N, C, g, g) features and a reconstruction -> (N, g, g) mean square over the channels of what is left."""
    return (features - rebuilt).square().mean(1)


def loudest(maps: torch.Tensor, cells: int) -> torch.Tensor:
    """(N, n, n) maps -> (N,) mean of each one's so many largest cells."""
    return maps.flatten(1).topk(cells, dim=1).values.mean(1)


def fold_rim(values: torch.Tensor) -> torch.Tensor:
    """(N, n + 8, n + 8) -> (N, n, n): the rim takes the largest of itself and the four cells beyond it, in each direction."""
    for axis in (1, 2):
        size = values.shape[axis]
        first = values.narrow(axis, 0, BORDER_CELLS + 1).amax(axis, keepdim=True)
        middle = values.narrow(axis, BORDER_CELLS + 1, size - 2 * BORDER_CELLS - 2)
        last = values.narrow(axis, size - BORDER_CELLS - 1, BORDER_CELLS + 1).amax(axis, keepdim=True)
        values = torch.cat((first, middle, last), axis)
    return values
