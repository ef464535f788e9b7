"""The interface of a family of detectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

from training.networks.scoring import ScoringNetwork

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from training.balance import Branch
    from training.recipe import RunConfig
    from training.teacher.store import TeacherInfo
    from training.trainers import Trainer
    from training.trainers.trainer import NaturalPictures

DetectorT = TypeVar("DetectorT", bound=ScoringNetwork)
NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where pretrained features come from.

    Attributes:
        teacher: The teacher file; a family without a teacher does not look at it.
        weights: The weight file of a backbone, where a backbone itself is part of the detector and no package brings it.
    """

    teacher: Path
    weights: Path | None = None


@dataclass(frozen=True, slots=True)
class Pretrained(Generic[NetworkT]):
    """Pretrained features, read once.

    Attributes:
        network: Frozen, on the CPU.
        teacher: What is known of the teacher, where it is one.
        sha256: What runs and bundles are traced by.
    """

    network: NetworkT
    teacher: TeacherInfo | None
    sha256: str


class Family(ABC, Generic[DetectorT, NetworkT]):
    """What a family does its own way."""

    name: str

    @abstractmethod
    def pretrained(self, config: RunConfig, sources: Sources) -> Pretrained[NetworkT]:
        """Reads the features a detector begins with.

        Raises:
            TrainingError: They are missing, damaged or not of this model.
        """

    @abstractmethod
    def empty(self, config: RunConfig) -> DetectorT:
        """The detector a configuration describes, before any weights are put into it.

        Raises:
            RecipeError: The configuration cannot be built.
        """

    @abstractmethod
    def assemble(
        self, config: RunConfig, pretrained: Pretrained[NetworkT], frames: NDArray[np.uint8], device: torch.device
    ) -> DetectorT:
        """Makes an untrained detector with its pretrained features and their statistics in place.

        Args:
            config: Model, size, seed and recipe.
            pretrained: As `pretrained` gave them.
            frames: (N, S, S, 3) uint8 training pictures.
            device: Where to work.
        """

    @abstractmethod
    def trainer(
        self,
        config: RunConfig,
        detector: DetectorT,
        frames: NDArray[np.uint8],
        natural: NaturalPictures,
        device: torch.device,
    ) -> Trainer:
        """The recipe that trains what `assemble` made.

        Args:
            config: Model, size, seed and recipe.
            detector: Untrained, on the device; trained in place.
            frames: (N, S, S, 3) uint8 training pictures.
            natural: Draws pictures of other things.
            device: Where to work.
        """

    @abstractmethod
    def fit(
        self, config: RunConfig, detector: DetectorT, train: NDArray[np.uint8], shaping: NDArray[np.uint8], device: torch.device
    ) -> dict[str, float]:
        """Fits the constants of the score to good parts, in place; returns figures for the record.

        Raises:
            RecipeError: Training gave nothing usable.
        """

    @abstractmethod
    def refit_maps(self, detector: DetectorT, frames: NDArray[np.uint8], inspected: NDArray[np.bool_]) -> tuple[Branch, Branch]:
        """Fits both maps' normalization anew so that only inspected cells count, in place.

        Args:
            detector: Trained and fitted.
            frames: (N, S, S, 3) uint8 held-out good parts that shape the score.
            inspected: (n, n), True where a cell of the detector's own maps counts.

        Returns:
            What good parts show in st and ae now.
        """

    @abstractmethod
    def cautions(self, detector: DetectorT, figures: dict[str, float]) -> list[str]:
        """What the user must know of this detector before trusting the run."""
