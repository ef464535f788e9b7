"""LGFDR's recipe as step functions: features once a picture, then towers and gate on stored features.

The pyramid is frozen, so what it says of a picture is computed once; a step costs the towers only. Noise is drawn on the
features at every step (the paper's denoising). Beside it, ours: some pictures enter as features of a painted part
(`training.damage`) while the target stays that of the part itself, so that the towers learn to repair what noise never looks
like (after DeSTSeg, Zhang et al., CVPR 2023). Everything drawn is drawn from the seed and the step's number, so a resumed run
takes the very steps of an unbroken one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from training.damage import paint_damage
from training.errors import RecipeError
from training.feature_noise import feature_noise
from training.features import to_input
from training.lgfdr.detector import LgfdrDetector
from training.lgfdr.losses import rebuild_loss
from training.lgfdr.pyramid import load_pyramid
from training.lgfdr.towers import initialize_towers
from training.trainers import DIVERGED, StepReport, WeightMean

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training.lgfdr.knobs import LgfdrKnobs

    NaturalPictures = Callable[[np.random.Generator], NDArray[np.uint8]]

_FILL_BATCH = 8
_LEAST_DEVIATION = 1e-3
"""Of the largest: a channel that never speaks on good parts keeps a scale, and shouts where a defect makes it speak, but not
endlessly."""


def assemble_detector(knobs: LgfdrKnobs, size: int, seed: int, frames: NDArray[np.uint8], device: torch.device) -> LgfdrDetector:
    """Makes an untrained detector with pretrained pyramid and the features' statistics in place.

    Args:
        knobs: Parts and sizes.
        size: Side of the picture in pixels.
        seed: Of the towers' weights.
        frames: (N, size, size, 3) uint8 training pictures.
        device: Where to work.

    Raises:
        BackboneError: The backbone is unknown or not installed.
    """
    pyramid, _ = load_pyramid(knobs.backbone, size)
    torch.manual_seed(seed)
    detector = LgfdrDetector(knobs, size)
    initialize_towers(detector.trained_parts())
    detector.pyramid.load_state_dict(pyramid.state_dict())
    detector.to(device)
    mean, deviation = feature_statistics(detector, frames, device)
    detector.feature_mean.copy_(mean)
    # Every level counts alike in the channel mean, whatever number of channels it has.
    shares = [
        math.sqrt(detector.pyramid.channels / (len(detector.pyramid.plan.channels) * c)) for c in detector.pyramid.plan.channels
    ]
    weight = torch.cat([torch.full((c,), share) for c, share in zip(detector.pyramid.plan.channels, shares, strict=True)])
    detector.feature_scale.copy_(weight.to(device) / deviation)
    return detector


@torch.no_grad()
def feature_statistics(
    detector: LgfdrDetector, frames: NDArray[np.uint8], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (C,) of every channel of the pyramid over all cells of all pictures; the deviation has a floor."""
    channels = detector.pyramid.channels
    sums = torch.zeros(2, channels, dtype=torch.float64, device=device)
    count = 0
    for start in range(0, len(frames), _FILL_BATCH):
        vectors = detector.pyramid(to_input(frames[start : start + _FILL_BATCH], device)).to(torch.float64)
        sums += torch.stack([vectors.sum((0, 2, 3)), vectors.square().sum((0, 2, 3))])
        count += vectors[:, 0].numel()
    mean = sums[0] / count
    deviation = (sums[1] / count - mean.square()).clamp_min(0).sqrt()
    return mean.to(torch.float32), deviation.clamp_min(_LEAST_DEVIATION * deviation.max().item()).to(torch.float32)


class LgfdrTrainer:
    """See the module; a `training.trainers.Trainer`.

    Args:
        knobs: The recipe.
        seed: Of everything drawn.
        detector: Pyramid and statistics in place, on the device; towers and gate are trained in it.
        frames: (N, S, S, 3) uint8 training pictures.
        natural: Draws pictures of other things, for painted damage.
        device: Where to work.
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
        self._knobs, self._seed, self._detector, self._device = knobs, seed, detector, device
        self._frames, self._natural = frames, natural
        self.step_number, self.steps = 0, knobs.steps
        self._parts = detector.trained_parts().train()
        self._mean = WeightMean(self._parts, knobs.mean_decay)
        self._adam = torch.optim.AdamW(self._parts.parameters(), betas=(0.9, 0.99), weight_decay=knobs.weight_decay)
        self._clean, self._damaged = self._store()

    @torch.no_grad()
    def _store(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of all pictures, (N, C, g, g), and of painted ones, (M, C, g, g), as float16 on the CPU.

        Painted picture j is version j // N of picture j % N; M ends where the memory allowed does.
        """
        knobs, count = self._knobs, len(self._frames)
        shape = (self._detector.pyramid.channels, self._detector.pyramid.grid, self._detector.pyramid.grid)
        room = int(knobs.store_mib * 2**20 / (2 * math.prod(shape))) - count
        painted = max(0, min(room, count * knobs.damage_versions)) if knobs.damage_share > 0 else 0
        clean, damaged = (torch.empty(some, *shape, dtype=torch.float16) for some in (count, painted))
        every = [(index, -1) for index in range(count)] + [(j % count, j // count) for j in range(painted)]
        for start in range(0, len(every), _FILL_BATCH):
            frames = np.stack([self._frame(index, version) for index, version in every[start : start + _FILL_BATCH]])
            features = self._detector.features(to_input(frames, self._device)).to("cpu", torch.float16)
            for place, one in enumerate(features, start=start):
                (clean[place] if place < count else damaged[place - count]).copy_(one)
        return clean, damaged

    def _frame(self, index: int, version: int) -> NDArray[np.uint8]:
        """The picture itself (version -1) or a painted version of it."""
        frame = np.asarray(self._frames[index], np.uint8)
        if version < 0:
            return frame
        return paint_damage(frame, self._natural, np.random.default_rng([self._seed, index, version, 0x66]))[0]

    def step(self) -> StepReport:
        """See `Trainer`."""
        knobs, step = self._knobs, self.step_number
        rng = np.random.default_rng([self._seed, step, 0x77])
        clean, seen = self._draw(rng)
        if knobs.noise:
            seen = seen + feature_noise(seen, knobs.noise, torch.Generator().manual_seed((self._seed << 32) + step))
        loss = rebuild_loss(clean, self._detector.rebuild(seen), knobs.cosine)
        if not loss.total.item() < DIVERGED:
            raise RecipeError(f"training diverged at step {step}: the loss is {loss.total.item():.3g}; lower the learning rate")
        for group in self._adam.param_groups:
            group["lr"] = rate_at(step, knobs)
        self._adam.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parts.parameters(), knobs.clip_norm)
        self._adam.step()
        self._mean.update(self._parts, step)
        self.step_number += 1
        return StepReport("towers", self.steps, {"loss": loss.total.item()} | loss.distances)

    def _draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The targets and what enters, (batch, C, g, g) each; a pass over the pictures shows each once, in its own order."""
        targets, seen = [], []
        for i in range(self._knobs.batch):
            turn, place = divmod(self.step_number * self._knobs.batch + i, len(self._clean))
            order = np.random.default_rng([self._seed, turn, 0x33]).permutation(len(self._clean))
            index = int(order[place])
            versions = range(index, len(self._damaged), len(self._clean))
            painted = rng.random() < self._knobs.damage_share and len(versions) > 0
            targets.append(self._clean[index])
            seen.append(self._damaged[int(rng.choice(versions))] if painted else self._clean[index])
        first, second = (torch.stack(some).to(self._device, torch.float32) for some in (targets, seen))
        return first, second

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return {
            "step": self.step_number, "parts": self._parts.state_dict(), "mean": self._mean.network.state_dict(),
            "adam": self._adam.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """See `Trainer`."""
        self.step_number = state["step"]
        self._parts.load_state_dict(state["parts"])
        self._mean.network.load_state_dict(state["mean"])
        self._adam.load_state_dict(state["adam"])

    def finish(self) -> None:
        """See `Trainer`."""
        self._parts.load_state_dict(self._mean.network.state_dict())


def rate_at(step: int, knobs: LgfdrKnobs) -> float:
    """Linear warm-up, then half a cosine down to `final_rate` of the peak."""
    warm = max(1, round(knobs.warmup * knobs.steps))
    if step < warm:
        return knobs.rate * (step + 1) / warm
    done = (step - warm) / max(1, knobs.steps - warm)
    return knobs.rate * (knobs.final_rate + (1 - knobs.final_rate) * 0.5 * (1 + math.cos(math.pi * done)))
