"""LGFDR: a frozen pyramid rebuilt by two towers (`training.lgfdr`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.families.family import Family, Pretrained
from training.lgfdr.detector import LgfdrDetector
from training.lgfdr.fit import fit_lgfdr, measure, set_maps, warnings_of
from training.lgfdr.knobs import LgfdrKnobs, check_knobs
from training.lgfdr.pretrained import load_pyramid
from training.lgfdr.pyramid import Pyramid
from training.lgfdr.trainer import LgfdrTrainer, assemble_detector

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from training.balance import Branch
    from training.families.family import Sources
    from training.recipe import RunConfig
    from training.trainers import Trainer
    from training.trainers.trainer import NaturalPictures


class LgfdrFamily(Family[LgfdrDetector, Pyramid]):
    """See the module."""

    name = LgfdrDetector.family

    def pretrained(self, config: RunConfig, sources: Sources) -> Pretrained[Pyramid]:
        """See `Family`: the pyramid; its backbone is named by the recipe."""
        pyramid, sha256 = load_pyramid(_knobs(config).backbone, config.size, sources.weights)
        return Pretrained(pyramid, None, sha256)

    def empty(self, config: RunConfig) -> LgfdrDetector:
        """See `Family`."""
        return LgfdrDetector(check_knobs(_knobs(config), config.size), config.size)

    def assemble(
        self, config: RunConfig, pretrained: Pretrained[Pyramid], frames: NDArray[np.uint8], device: torch.device
    ) -> LgfdrDetector:
        """See `Family`."""
        return assemble_detector(_knobs(config), pretrained.network, config.seed, frames, device)

    def trainer(
        self,
        config: RunConfig,
        detector: LgfdrDetector,
        frames: NDArray[np.uint8],
        natural: NaturalPictures,
        device: torch.device,
    ) -> Trainer:
        """See `Family`."""
        return LgfdrTrainer(_knobs(config), config.seed, detector, frames, natural, device)

    def fit(
        self,
        config: RunConfig,  # noqa: ARG002 the interface's
        detector: LgfdrDetector,
        train: NDArray[np.uint8],
        shaping: NDArray[np.uint8],
        device: torch.device,
    ) -> dict[str, float]:
        """See `Family`."""
        return fit_lgfdr(detector, train, shaping, device)

    def refit_maps(
        self, detector: LgfdrDetector, frames: NDArray[np.uint8], inspected: NDArray[np.bool_]
    ) -> tuple[Branch, Branch]:
        """See `Family`."""
        (errors_st, errors_ae, _), _ = measure(detector, frames, detector.fusion.device)
        return set_maps(detector, errors_st, errors_ae, inspected)

    def cautions(self, detector: LgfdrDetector, figures: dict[str, float]) -> list[str]:
        """See `Family`."""
        return warnings_of(detector, figures)


def _knobs(config: RunConfig) -> LgfdrKnobs:
    assert isinstance(config.knobs, LgfdrKnobs)
    return config.knobs
