"""Distillation of a teacher: a PDN learns to say of a 33 px patch what a backbone says of the whole picture.

After Algorithm 3 of EfficientAD (arXiv 2303.14535v3), with these differences, all for short runs on small machines:

- the backbone is any of `training.teacher.backbones`, not WideResNet-101, and its levels are projected, not pooled;
- the PDN sees crops of 128 px without padding (the paper: 256 px with padding), so no target is spent on patches that
  hang over the border; what the backbone says is sampled exactly at the middles of the patches;
- a few thousand pictures instead of 960,000: so the weights start at He's scale, hidden kernels learn by Muon (`training.muon`),
  rates warm up and fall as a cosine, and an exponential mean of the weights is what is kept;
- photographs and generated pictures are mixed.

As in the paper: the backbone sees the picture at twice the side, one picture in ten is grey, targets are normalized
by each channel's mean and standard deviation, the loss is the mean squared error.

Every picture, crop and batch follows from the seed and the number of the step: a run that was stopped and resumed
draws exactly what an unbroken run draws. Several workers (`training.workers`) draw a part of each batch each, other pictures than
one alone would.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from training.checkpoints import load_checkpoint, save_checkpoint
from training.errors import TeacherFileError
from training.muon import NetworkOptimizer, hidden_kernels
from training.networks.normalize import normalize_frames
from training.networks.pdn import Pdn, PdnSize
from training.progress import told
from training.teacher.backbones import load_backbone
from training.teacher.levels import BACKBONE_SCALE
from training.teacher.pictures import PicturePool, hash_pictures
from training.teacher.store import TeacherInfo, hash_file, save_teacher
from training.teacher.targets import Targets
from training.trainers.weights import WeightMean, initialize_at_he_scale
from training.workers import ALONE, Workers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.1
"""Part of the photographs kept for the held-out loss."""

STATISTICS_CROPS = 192
"""Crops over which the mean and deviation of each backbone channel are taken (192 x 576 vectors at 128 px)."""

HELD_OUT_CROPS = 32


@dataclasses.dataclass(frozen=True, slots=True)
class DistillConfig:
    """What a distillation is asked for.

    Attributes:
        backbone: Name in `training.teacher.backbones`.
        weights: The backbone's weight file, where it is read from one.
        model: Which PDN.
        steps: Steps in all.
        batch: Pictures a step.
        size: Side of a picture in pixels as the PDN sees it.
        seed: Seed of everything that is drawn.
        muon_rate: Peak length of Muon's steps on the hidden kernels, as a share of their norm.
        adam_rate: Peak learning rate of the rest.
        weight_decay: Adam's (paper: 1e-5).
        warmup_steps: Steps of linear growth.
        grey_chance: Chance that a picture loses its colour (paper: 0.1).
        textures: Generated pictures in the pool.
        textures_share: Part of the draws that come from them.
        mean_decay: Decay a step of the exponential mean of the weights.
        save_every_s: Seconds between checkpoints.
    """

    backbone: str = "efficientnet-lite2"
    weights: Path | None = None
    model: PdnSize = PdnSize.SMALL
    steps: int = 1000
    batch: int = 8
    size: int = 128
    seed: int = 0
    muon_rate: float = 0.01
    adam_rate: float = 1e-3
    weight_decay: float = 1e-5
    warmup_steps: int = 40
    grey_chance: float = 0.1
    textures: int = 256
    textures_share: float = 0.4
    mean_decay: float = 0.99
    save_every_s: float = 60.0


def height_at(step: int, config: DistillConfig) -> float:
    """The rates' height, 0 to 1 of their peaks: linear warm-up, then half a cosine down to 2 %."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Distillation:
    """One distillation: `step()` by step, with checkpoints.

    Args:
        config: What is asked for.
        photographs: (H, W, 3) uint8 each; one in ten is held out. May be empty.
        device: Where to work.
        workers: This process among those that distil together.
    """

    def __init__(
        self,
        config: DistillConfig,
        photographs: Sequence[np.ndarray[Any, np.dtype[np.uint8]]],
        device: torch.device,
        workers: Workers = ALONE,
    ) -> None:
        self.config, self.workers = config, workers
        self.device = device
        self.step_number = 0
        self.loss_mean = 1.0
        self._images = len(photographs)
        self._images_hash = hash_pictures(photographs)
        self._weights_sha256 = hash_file(config.weights) if config.weights else ""
        held = max(1, round(len(photographs) * HELD_OUT_SHARE)) if len(photographs) > 1 else 0
        # Neighbouring names are often crops of one photograph: held-out ones are taken from the end, in one block.
        train, held_out = photographs[: len(photographs) - held], photographs[len(photographs) - held :]
        share, textures = config.textures_share, config.textures
        self._pool = PicturePool(train, generated=textures, generated_share=share, rng=self._rng("pool"))
        self._held_pool = PicturePool(
            held_out, generated=max(8, textures // 10), generated_share=share, rng=self._rng("held-out pool")
        )
        self._targets = Targets(load_backbone(config.backbone, device, config.weights), config.size, config.seed, device)
        rng = self._rng("statistics")
        batches = told(range(STATISTICS_CROPS // 8), "statistics of the backbone's features")
        self._targets.fit(self._batch(self._pool, rng, 8)[1] for _ in batches)
        torch.manual_seed(config.seed)
        self.teacher = Pdn(config.model)
        initialize_at_he_scale(self.teacher)
        self.teacher.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._learner = workers.shared(self.teacher)
        self._mean = WeightMean(self.teacher, config.mean_decay)
        self._optimizer = NetworkOptimizer(
            self.teacher, hidden_kernels(self.teacher), betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        rng = self._rng("held-out crops")
        self._held_batches = [self._batch(self._held_pool, rng, 8) for _ in range(HELD_OUT_CROPS // 8)]

    @property
    def mean_teacher(self) -> Pdn:
        """The exponential mean of the weights: what is kept."""
        return self._mean.network

    def _rng(self, what: str, step: int = 0) -> np.random.Generator:
        """A generator of its own for every purpose and step, so that resuming needs no saved state of any."""
        return np.random.default_rng([self.config.seed, step, *what.encode()])

    def _step_rng(self) -> np.random.Generator:
        alone = self.workers.count == 1
        return self._rng("step" if alone else f"step of {self.workers.rank} in {self.workers.count}", self.step_number)

    def _batch(self, pool: PicturePool, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        side = self.config.size * BACKBONE_SCALE
        frames = np.stack([pool.draw(rng, side, grey_chance=self.config.grey_chance) for _ in range(count)])
        large = normalize_frames(torch.from_numpy(frames).to(self.device))
        # Exactly half the side: antialiased bilinear is what `Image.resize` does to the pictures of a product.
        small = functional.interpolate(
            large, size=(self.config.size, self.config.size), mode="bilinear", antialias=True, align_corners=False
        )
        return small.contiguous(memory_format=torch.channels_last), large

    def step(self) -> float:
        """Learns from one batch and returns its loss (1.0 is "predicts the mean")."""
        small, large = self._batch(self._pool, self._step_rng(), self.config.batch // self.workers.count)
        target = self._targets(large)
        loss = functional.mse_loss(self._learner(small), target)
        height = height_at(self.step_number, self.config)
        self._optimizer.descend(
            loss, muon_rate=height * self.config.muon_rate, adam_rate=height * self.config.adam_rate, clip_norm=1.0
        )
        self._mean.update(self.teacher, self.step_number)
        self.step_number += 1
        value = self.workers.mean(loss.item())
        self.loss_mean += (value - self.loss_mean) * max(0.02, 1 / self.step_number)
        return value

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Mean squared error on held-out crops as a share of their variance (0 perfect, 1 "predicts the mean")."""
        error = spread = 0.0
        for small, large in self._held_batches:
            target = self._targets(large)
            error += functional.mse_loss(self.mean_teacher(small), target, reduction="sum").item()
            spread += (target - target.mean((0, 2, 3), keepdim=True)).square().sum().item()
        return error / spread

    def info(self) -> TeacherInfo:
        """Where the teacher stands now."""
        config = self.config
        return TeacherInfo(
            model=config.model.value, backbone=config.backbone, images=self._images, images_sha256=self._images_hash,
            textures=config.textures, steps=self.step_number, batch=config.batch, size=config.size, seed=config.seed,
            train_loss=round(self.loss_mean, 5), held_out_loss=round(self.held_out_loss(), 5),
            complete=self.step_number >= config.steps, weights_sha256=self._weights_sha256, workers=self.workers.count,
        )  # fmt: skip

    def save(self, out: Path) -> TeacherInfo:
        """Writes the teacher as it is and, beside it, what is needed to go on."""
        info = self.info()
        save_teacher(out, self.mean_teacher, info)
        if not info.complete:
            state = {
                "step": self.step_number,
                "loss_mean": self.loss_mean,
                "config": repr(self.config),
                "images": self._images_hash,
                "weights": self._weights_sha256,
                "workers": str(self.workers.count),
                "teacher": self.teacher.state_dict(),
                "mean_teacher": self.mean_teacher.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            }
            save_checkpoint(checkpoint_path(out), state)
        else:
            checkpoint_path(out).unlink(missing_ok=True)
        return info

    def resume(self, out: Path) -> None:
        """Takes up a stopped distillation.

        Raises:
            TeacherFileError: There is no checkpoint beside `out`, or it was made with other settings or pictures.
        """
        path = checkpoint_path(out)
        if not path.is_file():
            raise TeacherFileError(f"nothing to resume: expected a checkpoint at {path}; start without --resume")
        names = ("step", "loss_mean", "config", "images", "teacher", "mean_teacher", "optimizer")
        state = load_checkpoint(path, names, self.device, TeacherFileError)
        ours = {
            "config": repr(self.config), "images": self._images_hash, "weights": self._weights_sha256,
            "workers": str(self.workers.count),
        }  # fmt: skip
        for key, wanted in ours.items():
            theirs = state.get(key, wanted)  # checkpoints of before name neither the backbone's weights nor the workers
            if theirs != wanted:
                raise TeacherFileError(
                    f"{path} was made with other {key}: expected {wanted}, got {theirs}; resume with the same, or remove it and "
                    "start without --resume"
                )
        self.step_number, self.loss_mean = state["step"], state["loss_mean"]
        self.teacher.load_state_dict(state["teacher"])
        self.mean_teacher.load_state_dict(state["mean_teacher"])
        self._optimizer.load_state_dict(state["optimizer"])


def checkpoint_path(out: Path) -> Path:
    """Where the state of an unfinished distillation lies."""
    return out.with_name(out.name + ".checkpoint")
