"""Distillation of a teacher: a PDN learns to say of a 33 px patch what a backbone says of the whole picture.

After Algorithm 3 of EfficientAD (arXiv 2303.14535v3), with these differences, all for short runs on small machines:

- the backbone is any of `training.teacher.backbones`, not WideResNet-101, and its levels are projected, not pooled;
- the PDN sees crops of 128 px without padding (the paper: 256 px with padding), so no target is spent on patches that
  hang over the border; what the backbone says is sampled exactly at the middles of the patches;
- a few thousand pictures instead of 960,000: so the weights start at He's scale, the last layer is fitted in closed form (ridge
  regression) before the first step and after the last one, the wide layers learn at a part of the rate (else the first steps
  undo that fit), rates warm up and fall as a cosine, and an exponential mean of the weights is kept and stored;
- photographs and generated pictures are mixed.

As in the paper: the backbone sees the picture at twice the side, one picture in ten is grey, targets are normalized
by each channel's mean and standard deviation, the loss is the mean squared error.

Every picture, crop and batch follows from the seed and the number of the step: a run that was stopped and resumed
draws exactly what an unbroken run draws.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.errors import TeacherFileError
from training.networks.normalize import normalize_frames
from training.networks.pdn import TEACHER_CHANNELS, Pdn, PdnSize, grid_side
from training.teacher.backbones import BACKBONE_SCALE, Backbone, load_backbone, orthogonal_projection, sample_levels
from training.teacher.pictures import PicturePool, find_pictures, hash_pictures, read_photograph
from training.teacher.ridge import fit_last_convolution, layered_rates
from training.teacher.store import TeacherInfo, save_teacher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.1
"""Part of the photographs kept for the held-out loss."""

STATISTICS_CROPS = 192
"""Crops over which the mean and deviation of each backbone channel are taken (192 x 576 vectors at 128 px)."""

HELD_OUT_CROPS = 32

RIDGE_CROPS = 400
RIDGE_POSITIONS = 128
"""Crops, and patches of each, the last layer is fitted on: 51,200 equations for 4,097 unknowns a channel."""


@dataclasses.dataclass(frozen=True, slots=True)
class DistillConfig:
    """What a distillation is asked for; defaults made the interim teacher.

    Attributes:
        backbone: Name in `BACKBONES`.
        model: Which PDN.
        steps: Steps in all.
        batch: Pictures a step.
        size: Side of a picture in pixels as the PDN sees it.
        seed: Seed of everything that is drawn.
        learning_rate: Peak of the schedule for the first layer; the others get less (`training.teacher.ridge.layered_rates`).
        weight_decay: Adam's (paper: 1e-5).
        warmup_steps: Steps of linear growth.
        grey_chance: Chance that a picture loses its colour (paper: 0.1).
        textures: Generated pictures in the pool.
        textures_share: Part of the draws that come from them.
        mean_decay: Decay a step of the exponential mean of the weights.
        save_every_s: Seconds between checkpoints.
    """

    backbone: str = "efficientnet-lite2"
    model: PdnSize = PdnSize.SMALL
    steps: int = 1000
    batch: int = 8
    size: int = 128
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    warmup_steps: int = 40
    grey_chance: float = 0.1
    textures: int = 256
    textures_share: float = 0.4
    mean_decay: float = 0.99
    save_every_s: float = 60.0


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

    def fit(self, batches: Sequence[torch.Tensor]) -> None:
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


def learning_rate_at(step: int, config: DistillConfig) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def initialize_at_he_scale(network: nn.Module) -> None:
    """He's normal initialization for every convolution: unit signal through ReLU layers from the first step on."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)


class Distillation:
    """One distillation: `step()` by step, with checkpoints.

    Args:
        config: What is asked for.
        photographs: (H, W, 3) uint8 each; one in ten is held out. May be empty.
        device: Where to work.
    """

    def __init__(
        self, config: DistillConfig, photographs: Sequence[np.ndarray[Any, np.dtype[np.uint8]]], device: torch.device
    ) -> None:
        self.config = config
        self.device = device
        self.step_number = 0
        self.loss_mean = 1.0
        self._images = len(photographs)
        self._images_hash = hash_pictures(photographs)
        held = max(1, round(len(photographs) * HELD_OUT_SHARE)) if len(photographs) > 1 else 0
        # Neighbouring names are often crops of one photograph: held-out ones are taken from the end, in one block.
        train, held_out = photographs[: len(photographs) - held], photographs[len(photographs) - held :]
        share, textures = config.textures_share, config.textures
        self._pool = PicturePool(train, generated=textures, generated_share=share, rng=self._rng("pool"))
        self._held_pool = PicturePool(
            held_out, generated=max(8, textures // 10), generated_share=share, rng=self._rng("held-out pool")
        )
        self._targets = Targets(load_backbone(config.backbone, device), config.size, config.seed, device)
        rng = self._rng("statistics")
        self._targets.fit([self._batch(self._pool, rng, 8)[1] for _ in range(STATISTICS_CROPS // 8)])
        torch.manual_seed(config.seed)
        self.teacher = Pdn(config.model)
        initialize_at_he_scale(self.teacher)
        self.teacher.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean_teacher = copy.deepcopy(self.teacher).requires_grad_(requires_grad=False)
        self._optimizer = torch.optim.Adam(layered_rates(self.teacher), weight_decay=config.weight_decay)
        rng = self._rng("held-out crops")
        self._held_batches = [self._batch(self._held_pool, rng, 8) for _ in range(HELD_OUT_CROPS // 8)]

    def _rng(self, what: str, step: int = 0) -> np.random.Generator:
        """A generator of its own for every purpose and step, so that resuming needs no saved state of any."""
        return np.random.default_rng([self.config.seed, step, *what.encode()])

    def _batch(self, pool: PicturePool, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        side = self.config.size * BACKBONE_SCALE
        frames = np.stack([pool.draw(rng, side, grey_chance=self.config.grey_chance) for _ in range(count)])
        large = normalize_frames(torch.from_numpy(frames).to(self.device))
        # Exactly half the side: antialiased bilinear is what `Image.resize` does to the pictures of a product.
        small = functional.interpolate(
            large, size=(self.config.size, self.config.size), mode="bilinear", antialias=True, align_corners=False
        )
        return small.contiguous(memory_format=torch.channels_last), large

    def fit_last_layer(self, network: Pdn, purpose: str) -> None:
        """Fits a network's last convolution on crops of their own (`purpose` names the draw)."""
        rng = self._rng(purpose)

        def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for _ in range(RIDGE_CROPS // 8):
                small, large = self._batch(self._pool, rng, 8)
                yield small, self._targets(large)

        generator = torch.Generator().manual_seed(self.config.seed)
        fit_last_convolution(network, batches(), positions=RIDGE_POSITIONS, generator=generator)

    def begin(self) -> None:
        """Fits the last layer on top of random ones: a start at .84 of the variance instead of more than 1."""
        self.fit_last_layer(self.teacher, "first fit")
        self.mean_teacher.load_state_dict(self.teacher.state_dict())

    def finish(self) -> None:
        """Fits the last layer of the mean teacher, and keeps the better of the two by the held-out loss."""
        before, weights = self.held_out_loss(), copy.deepcopy(self.mean_teacher.state_dict())
        self.fit_last_layer(self.mean_teacher, "last fit")
        after = self.held_out_loss()
        logger.info("last layer fitted: held-out %.4f -> %.4f", before, after)
        if after > before:
            self.mean_teacher.load_state_dict(weights)

    def step(self) -> float:
        """Learns from one batch and returns its loss (1.0 is "predicts the mean")."""
        small, large = self._batch(self._pool, self._rng("step", self.step_number), self.config.batch)
        target = self._targets(large)
        for group in self._optimizer.param_groups:
            group["lr"] = group["share"] * learning_rate_at(self.step_number, self.config)
        loss = functional.mse_loss(self.teacher(small), target)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.teacher.parameters(), 1.0)
        self._optimizer.step()
        # The mean of a short run must not remember its beginning: the decay grows with the steps done.
        decay = min(self.config.mean_decay, (1 + self.step_number) / (10 + self.step_number))
        with torch.no_grad():
            for mean, now in zip(self.mean_teacher.parameters(), self.teacher.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        self.step_number += 1
        value = loss.item()
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
            complete=self.step_number >= config.steps,
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
                "teacher": self.teacher.state_dict(),
                "mean_teacher": self.mean_teacher.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            }
            temporary = checkpoint_path(out).with_suffix(".writing")
            torch.save(state, temporary)
            temporary.replace(checkpoint_path(out))
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
            raise TeacherFileError(f"nothing to resume: expected a checkpoint at {path}")
        state = torch.load(path, map_location=self.device, weights_only=True)
        for key, ours in (("config", repr(self.config)), ("images", self._images_hash)):
            if state[key] != ours:
                raise TeacherFileError(f"{path} was made with another {key}: expected {ours}, got {state[key]}")
        self.step_number, self.loss_mean = state["step"], state["loss_mean"]
        self.teacher.load_state_dict(state["teacher"])
        self.mean_teacher.load_state_dict(state["mean_teacher"])
        self._optimizer.load_state_dict(state["optimizer"])


def checkpoint_path(out: Path) -> Path:
    """Where the state of an unfinished distillation lies."""
    return out.with_name(out.name + ".checkpoint")


def distill(
    config: DistillConfig, images: Sequence[Path], out: Path, device: torch.device, *, resume: bool = False
) -> TeacherInfo:
    """Distils a teacher and writes it to a file, once a minute and at the end.

    Args:
        config: What is asked for.
        images: Picture files and folders of photographs; may be empty (generated pictures alone).
        out: The teacher file.
        device: Where to work.
        resume: Go on from the checkpoint beside `out`.

    Returns:
        Where the finished teacher came from, with its losses.

    Raises:
        TrainingError: Pictures, backbone or checkpoint are not usable.
    """
    paths = find_pictures(images) if images else []
    photographs = [read_photograph(path) for path in paths]
    logger.info("%d photographs, %d generated pictures", len(photographs), config.textures)
    work = Distillation(config, photographs, device)
    if resume:
        work.resume(out)
    else:
        work.begin()
        print(f"last layer fitted: held-out {work.held_out_loss():.4f}", file=sys.stderr, flush=True)
    start = saved = time.monotonic()
    first = work.step_number
    try:
        while work.step_number < config.steps:
            loss = work.step()
            now = time.monotonic()
            done = work.step_number - first
            if done % 10 == 0:
                rate = done / (now - start)
                print(
                    f"step {work.step_number}/{config.steps} loss {loss:.3f} mean {work.loss_mean:.3f} "
                    f"{rate:.2f} steps/s {(config.steps - work.step_number) / rate:.0f} s left",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            if now - saved >= config.save_every_s:
                info = work.save(out)
                print(f"saved at step {info.steps}: held-out {info.held_out_loss:.4f}", file=sys.stderr, flush=True)
                saved = time.monotonic()
    except KeyboardInterrupt:
        info = work.save(out)
        print(f"stopped at step {info.steps}; go on with --resume", file=sys.stderr)
        raise
    work.finish()
    return work.save(out)
