"""EfficientAD and DFSC-EfficientAD: teacher, student and auto-encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from training.calibrate import fit_detector, measure, set_maps
from training.errors import TeacherFileError
from training.families.family import Family, Pretrained
from training.features import teacher_statistics
from training.networks.detector import Detector, HeadInput
from training.networks.pdn import Pdn
from training.recipe import FastKnobs
from training.teacher.store import hash_file, load_teacher
from training.trainers import FastTrainer, PaperTrainer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.balance import Branch
    from training.families.family import Sources
    from training.recipe import RunConfig
    from training.trainers import Trainer
    from training.trainers.trainer import NaturalPictures

STATISTICS_PICTURES = 128
"""Most pictures the fast recipe takes the teacher's statistics from: 128 x 576 patches fix a deviation to 0.4 % at worst."""


class EfficientAdFamily(Family[Detector, Pdn]):
    """See the module."""

    name = Detector.family

    def pretrained(self, config: RunConfig, sources: Sources) -> Pretrained[Pdn]:
        """See `Family`: the teacher."""
        teacher, info = load_teacher(sources.teacher)
        if teacher.size is not config.pdn:
            raise TeacherFileError(
                f"{config.model} needs a {config.pdn.value} teacher, but {sources.teacher} holds a {info.model}; "
                f"distil one with `onbelt distill --model {config.pdn.value}`"
            )
        return Pretrained(teacher, info, hash_file(sources.teacher))

    def empty(self, config: RunConfig) -> Detector:
        """See `Family`."""
        return Detector(config.pdn, config.size, HeadInput(config.head_input), config.map_directions, config.student_width)

    def assemble(
        self, config: RunConfig, pretrained: Pretrained[Pdn], frames: NDArray[np.uint8], device: torch.device
    ) -> Detector:
        """See `Family`."""
        torch.manual_seed(config.seed)
        detector = self.empty(config)
        detector.teacher.load_state_dict(pretrained.network.state_dict())
        detector.teacher.requires_grad_(requires_grad=False)
        detector.to(device)
        if isinstance(config.knobs, FastKnobs):
            frames = frames[:: -(-len(frames) // STATISTICS_PICTURES)]
        mean, std = teacher_statistics(detector.teacher, frames, device)
        detector.teacher_mean.copy_(mean)
        detector.teacher_std.copy_(std)
        return detector

    def trainer(
        self,
        config: RunConfig,
        detector: Detector,
        frames: NDArray[np.uint8],
        natural: NaturalPictures,
        device: torch.device,
    ) -> Trainer:
        """See `Family`."""
        make_trainer = FastTrainer if isinstance(config.knobs, FastKnobs) else PaperTrainer
        return make_trainer(config, detector, frames, natural, device)

    def fit(
        self, config: RunConfig, detector: Detector, train: NDArray[np.uint8], shaping: NDArray[np.uint8], device: torch.device
    ) -> dict[str, float]:
        """See `Family`."""
        return fit_detector(detector, train, shaping, device, config.head_weight)

    def refit_maps(self, detector: Detector, frames: NDArray[np.uint8], inspected: NDArray[np.bool_]) -> tuple[Branch, Branch]:
        """See `Family`."""
        map_st, map_ae, _ = measure(detector, frames, detector.fusion.device)
        return set_maps(detector, map_st, map_ae, inspected)

    def cautions(self, detector: Detector, figures: dict[str, float]) -> list[str]:  # noqa: ARG002 the interface's
        """See `Family`: an auto-encoder that explains too little."""
        if figures["ae_weight"] >= 1:
            return []
        return [
            f"the auto-encoder leaves {figures['validation_d_ta']:.2f} of the teacher's variance on held-out parts unexplained, "
            f"so its map counts {figures['ae_weight']:.2f} only: logical defects may be missed; train more steps"
        ]
