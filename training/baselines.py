"""Baselines every result is to be read against.

A data set that a random network solves proves nothing, and a detector that does not beat a memory of the backbone's own features
has gained nothing by its training but speed. Both are fitted on good parts alone, like everything here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.features import to_input
from training.global_head import PooledGaussian, fit_pooled
from training.networks.pdn import Pdn, PdnSize, grid_side
from training.teacher.levels import BACKBONE_SCALE, Backbone, sample_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

Describe = Callable[[torch.Tensor], torch.Tensor]
"""(N, 3, S, S) normalized pictures -> (N, C, g, g) vectors."""

_BATCH = 8

BANK_VECTORS = 8192
"""Vectors kept of all training patches: a small bank, for a figure to compare with, not a product."""


class RandomPdn:
    """An untrained PDN with a pooled Mahalanobis head: what colour and amount alone give away.

    Args:
        frames: (N, S, S, 3) uint8 good parts.
        seed: Seed of the weights.
        device: Where to work.
    """

    def __init__(self, frames: NDArray[np.uint8], seed: int = 0, device: torch.device | None = None) -> None:
        self._device = device or torch.device("cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = Pdn(PdnSize.SMALL).to(self._device).eval()
        self._head: PooledGaussian = fit_pooled(self._pooled(frames))

    @torch.no_grad()
    def _pooled(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        parts = [
            self._network(to_input(frames[i : i + _BATCH], self._device)).mean((2, 3)).to("cpu", torch.float64).numpy()
            for i in range(0, len(frames), _BATCH)
        ]
        return np.concatenate(parts)

    def score(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, S, S, 3) uint8 -> (N,) distances, larger is more anomalous."""
        return self._head.distance(self._pooled(frames))


def backbone_vectors(backbone: Backbone) -> Describe:
    """What a backbone says of a picture at the patches of a PDN, every channel as it comes."""

    def describe(x: torch.Tensor) -> torch.Tensor:
        large = torch.nn.functional.interpolate(x, scale_factor=BACKBONE_SCALE, mode="bilinear", align_corners=False)
        return sample_levels(backbone(large), backbone.levels, grid_side(x.shape[-1]))

    return describe


class MemoryBank:
    """Nearest neighbours among a network's vectors of good parts, after PatchCore (arXiv 2106.08265) without its coreset.

    Args:
        describe: A teacher, or the backbone it was distilled from (`backbone_vectors`).
        frames: (N, S, S, 3) uint8 good parts.
        seed: Seed of the draw of vectors that are kept.
        device: Where to work.
    """

    def __init__(self, describe: Describe, frames: NDArray[np.uint8], seed: int = 0, device: torch.device | None = None) -> None:
        self._describe, self._device = describe, device or torch.device("cpu")
        vectors = torch.cat([self._vectors(frames[i : i + 1]) for i in range(len(frames))])
        # A channel that good parts hardly use must not drown the others by its rare words.
        std = vectors.std(0)
        self._std = std.clamp_min(max(0.1 * std.median().item(), 1e-6))
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(len(vectors), generator=generator)[:BANK_VECTORS]
        self._bank = vectors[kept.to(vectors.device)] / self._std

    @torch.no_grad()
    def _vectors(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        return self._describe(to_input(frames, self._device)).permute(0, 2, 3, 1).flatten(0, 2)

    def score(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, S, S, 3) uint8 -> (N,) largest distance of a patch from its nearest neighbour among good ones."""
        peaks = [
            torch.cdist(self._vectors(frames[i : i + 1]) / self._std, self._bank).amin(1).max().item() for i in range(len(frames))
        ]
        return np.asarray(peaks)
