"""Stored features: of every training picture, and of versions of them with painted damage.

The pyramid is frozen, so what it says of a picture is computed once; a step costs towers or discriminator only. All of it is
ours: the paper adds noise to features and knows no painted damage.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from training.damage import paint_damage
from training.features import to_input
from training.networks.pdn import STRIDE_PX
from training.progress import told

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.lgfdr.detector import LgfdrDetector
    from training.lgfdr.knobs import LgfdrKnobs
    from training.trainers.trainer import NaturalPictures

_FILL_BATCH = 8
WINDOW_PX = 3
FULL_SHARE = 1 / 3
"""A cell counts as damaged in full when a third of the 3 x 3 px around its middle are: a scratch across it."""


class StoredFeatures:
    """Features under a detector's normalization, as float16 on the CPU.

    Painted picture j is version j // N of picture j % N; the last pictures have fewer where the memory allowed ends.

    Args:
        knobs: How many painted pictures, and how much memory.
        seed: Of the painted damage.
        detector: Pyramid and statistics in place.
        frames: (N, S, S, 3) uint8 training pictures.
        natural: Draws pictures of other things, to paint with.
        device: Where to compute.

    Attributes:
        clean: (N, C, g, g) of the pictures themselves.
        painted: (M, C, g, g) of painted ones.
        damaged: (M, g, g) float16, how far each cell of those is damaged, 0 to 1.
    """

    def __init__(
        self,
        knobs: LgfdrKnobs,
        seed: int,
        detector: LgfdrDetector,
        frames: NDArray[np.uint8],
        natural: NaturalPictures,
        device: torch.device,
    ) -> None:
        count = len(frames)
        shape = (detector.pyramid.channels, detector.pyramid.grid, detector.pyramid.grid)
        room = int(knobs.store_mib * 2**20 / (2 * math.prod(shape))) - count
        wanted = max(count * knobs.damage_versions, knobs.damage_pictures) if knobs.paints else 0
        marks = max(0, min(room, wanted))
        self.clean = torch.empty(count, *shape, dtype=torch.float16)
        self.painted = torch.empty(marks, *shape, dtype=torch.float16)
        self.damaged = torch.empty(marks, *shape[1:], dtype=torch.float16)
        for start in told(range(0, count, _FILL_BATCH), f"features of {count} pictures"):
            self._put(self.clean, start, detector, frames[start : start + _FILL_BATCH], device)
        for start in told(range(0, marks, _FILL_BATCH), f"features of {marks} pictures with painted damage"):
            made = []
            for j in range(start, min(marks, start + _FILL_BATCH)):
                rng = np.random.default_rng([seed, j % count, j // count, 0x66])
                made.append(paint_damage(np.asarray(frames[j % count], np.uint8), natural, rng))
            self._put(self.painted, start, detector, np.stack([frame for frame, _ in made]), device)
            self.damaged[start : start + len(made)] = damaged_cells(np.stack([changed for _, changed in made]))

    @staticmethod
    @torch.no_grad()
    def _put(into: torch.Tensor, start: int, detector: LgfdrDetector, frames: NDArray[np.uint8], device: torch.device) -> None:
        into[start : start + len(frames)] = detector.features(to_input(frames, device)).to("cpu", torch.float16)

    def versions(self, index: int) -> range:
        """Painted pictures of picture `index`."""
        return range(index, len(self.painted), len(self.clean))


def damaged_cells(changed: NDArray[np.bool_]) -> torch.Tensor:
    """(N, S, S) bool changed pixels -> (N, S / 4, S / 4) float32: how far a cell counts as damaged, 0 to 1.

    The window lies around the cell's own middle (`training.lgfdr.pyramid.FIRST_MIDDLE_PX`). 4 x 4 px from 4 k to 4 k + 3 lie
    1.5 px too far right and down, and so did the discriminator's map: pixel AP of commutator .304 so and .350 as it is, of the
    vials' structural defects .497 and .562.
    """
    pixels = torch.from_numpy(changed[:, None].astype(np.float32))
    share = functional.avg_pool2d(pixels, WINDOW_PX, STRIDE_PX, padding=WINDOW_PX // 2, count_include_pad=False)
    return (share[:, 0] / FULL_SHARE).clamp_max(1.0)
