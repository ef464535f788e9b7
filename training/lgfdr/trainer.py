"""LGFDR's recipe as step functions on stored features: first towers and gate, then the discriminator on what they leave.

Noise is drawn on the features at every step of the towers (the paper's denoising). Beside it, ours: some pictures enter as
features of a painted part (`training.damage`) while the target stays that of the part itself, so that the towers learn to repair
what noise never looks like (after DeSTSeg, Zhang et al., CVPR 2023). Everything drawn is drawn from the seed and the step's
number, so a resumed run takes the very steps of an unbroken one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from training.errors import RecipeError
from training.feature_noise import feature_noise
from training.features import to_input
from training.lgfdr.detector import LgfdrDetector
from training.lgfdr.discriminator import discriminator_loss, initialize_discriminator
from training.lgfdr.losses import rebuild_loss
from training.lgfdr.store import StoredFeatures
from training.lgfdr.towers import initialize_towers
from training.muon import NetworkOptimizer
from training.progress import told
from training.recipe import height_at
from training.trainers import StepReport, WeightMean, refuse_divergence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.lgfdr.knobs import LgfdrKnobs
    from training.lgfdr.pyramid import Pyramid
    from training.trainers.trainer import NaturalPictures

_FILL_BATCH = 8
_LEAST_DEVIATION = 1e-3
"""Of the largest: a channel that never speaks on good parts keeps a scale, and shouts where a defect makes it speak, but not
endlessly."""

UNPAINTED_EVERY = 4
"""Every fourth picture the discriminator sees is a good one: what good parts leave unexplained is no damage."""


def assemble_detector(
    knobs: LgfdrKnobs, pyramid: Pyramid, seed: int, frames: NDArray[np.uint8], device: torch.device
) -> LgfdrDetector:
    """Makes an untrained detector with pretrained pyramid and the features' statistics in place.

    Args:
        knobs: Parts and sizes.
        pyramid: Pretrained, of the backbone the knobs name and of the picture's side.
        seed: Of the towers' weights.
        frames: (N, size, size, 3) uint8 training pictures.
        device: Where to work.
    """
    torch.manual_seed(seed)
    detector = LgfdrDetector(knobs, pyramid.size)
    initialize_towers(detector.rebuilding_parts())
    if detector.discriminator is not None:
        initialize_discriminator(detector.discriminator)
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
    for start in told(range(0, len(frames), _FILL_BATCH), f"the features' statistics over {len(frames)} pictures"):
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
        self.step_number, self.steps = 0, knobs.all_steps
        self._parts = detector.rebuilding_parts().train()
        hidden = detector.whole.hidden_matrices() if detector.whole is not None and knobs.muon_rate else []
        self._towers = _Phase(self._parts, knobs, knobs.weight_decay, hidden)
        self._stored = StoredFeatures(knobs, seed, detector, frames, natural, device)
        self._discriminator: _Phase | None = None
        if knobs.paints and not len(self._stored.painted):
            raise RecipeError(
                "painted damage is to be learnt from, and no painted picture is stored: "
                f"{knobs.store_mib} MiB hold none beside the {len(frames)} unpainted, or none is asked for (damage_versions="
                f"{knobs.damage_versions}, damage_pictures={knobs.damage_pictures}): raise --knob store_mib or those, or "
                "take --knob maps=fused --knob damage_share=0"
            )
        if detector.discriminator is not None:
            self._discriminator = _Phase(detector.discriminator.train(), knobs, knobs.discriminator_decay)

    def step(self) -> StepReport:
        """See `Trainer`."""
        report = self._tower_step() if self.step_number < self._knobs.steps else self._discriminator_step()
        self.step_number += 1
        return report

    def _tower_step(self) -> StepReport:
        knobs, step = self._knobs, self.step_number
        clean, seen = self._draw(np.random.default_rng([self._seed, step, 0x77]))
        if knobs.noise:
            seen = seen + feature_noise(seen, knobs.noise, torch.Generator().manual_seed((self._seed << 32) + step))
        loss = rebuild_loss(clean, self._detector.rebuild(seen), knobs.cosine)
        self._towers.descend(loss.total, step, knobs.steps, knobs.rate)
        if step + 1 == knobs.steps:
            self._settle_towers()
        return StepReport("towers", knobs.steps, {"loss": loss.total.item()} | loss.distances)

    def _draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The targets and what enters, (batch, C, g, g) each; a pass over the pictures shows each once, in its own order."""
        stored, targets, seen = self._stored, [], []
        for i in range(self._knobs.batch):
            turn, place = divmod(self.step_number * self._knobs.batch + i, len(stored.clean))
            order = np.random.default_rng([self._seed, turn, 0x33]).permutation(len(stored.clean))
            index = int(order[place])
            versions = stored.versions(index)
            painted = rng.random() < self._knobs.damage_share and len(versions) > 0
            targets.append(stored.clean[index])
            seen.append(stored.painted[int(rng.choice(versions))] if painted else stored.clean[index])
        first, second = (torch.stack(some).to(self._device, torch.float32) for some in (targets, seen))
        return first, second

    def _settle_towers(self) -> None:
        """Puts the mean of the towers' weights into the detector."""
        self._parts.load_state_dict(self._towers.mean.network.state_dict())

    def _discriminator_step(self) -> StepReport:
        assert self._discriminator is not None
        assert self._detector.discriminator is not None
        knobs, step = self._knobs, self.step_number - self._knobs.steps
        stored, rng = self._stored, np.random.default_rng([self._seed, self.step_number, 0x88])
        seen, damaged = [], []
        for i in range(knobs.batch):
            if (step * knobs.batch + i) % UNPAINTED_EVERY == UNPAINTED_EVERY - 1:  # also where a batch holds fewer than four
                seen.append(stored.clean[int(rng.integers(len(stored.clean)))])
                damaged.append(torch.zeros_like(stored.damaged[0]))
            else:
                chosen = int(rng.integers(len(stored.painted)))
                seen.append(stored.painted[chosen])
                damaged.append(stored.damaged[chosen])
        features, target = (torch.stack(some).to(self._device, torch.float32) for some in (seen, damaged))
        with torch.no_grad():
            residual = self._detector.residual(features, self._detector.rebuild(features))
        loss = discriminator_loss(self._detector.discriminator(features, residual), target)
        self._discriminator.descend(loss, step, knobs.discriminator_steps, knobs.discriminator_rate)
        return StepReport("discriminator", self.steps, {"focal": loss.item()})

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        second = {} if self._discriminator is None else {"discriminator": self._discriminator.state()}
        return {"step": self.step_number, "towers": self._towers.state(), **second}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Trainer`."""
        self.step_number = state["step"]
        self._towers.restore(state["towers"])
        if self._discriminator is not None:
            self._discriminator.restore(state["discriminator"])

    def finish(self) -> None:
        """See `Trainer`."""
        self._settle_towers()
        if self._discriminator is not None:
            self._discriminator.network.load_state_dict(self._discriminator.mean.network.state_dict())


class _Phase:
    """One network, its optimizer and the mean of its weights."""

    def __init__(self, network: nn.Module, knobs: LgfdrKnobs, decay: float, hidden: Sequence[torch.Tensor] = ()) -> None:
        self.network, self._knobs = network, knobs
        self.mean = WeightMean(network, knobs.mean_decay)
        self._optimizer = NetworkOptimizer(network, hidden, betas=(0.9, 0.99), weight_decay=decay, adam=torch.optim.AdamW)

    def descend(self, loss: torch.Tensor, step: int, steps: int, rate: float) -> None:
        """Takes step `step` of the phase's `steps`, `rate` being AdamW's peak."""
        refuse_divergence(loss, step)
        knobs, height = self._knobs, height_at(step, steps, self._knobs)
        self._optimizer.descend(loss, muon_rate=height * knobs.muon_rate, adam_rate=height * rate, clip_norm=knobs.clip_norm)
        self.mean.update(self.network, step)

    def state(self) -> dict[str, Any]:
        """Everything `restore` needs."""
        return {
            "network": self.network.state_dict(),
            "mean": self.mean.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        self.network.load_state_dict(state["network"])
        self.mean.network.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
