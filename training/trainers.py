"""The two recipes as step functions: state in, one step, state out.

A trainer knows nothing of files, clocks or progress; `training.loop` drives it. Everything that is drawn at a step is drawn from
a generator made of the seed and the step's number, so a run resumed from a checkpoint takes the very steps of an unbroken one
(bit for bit on one CPU with one number of threads).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from training.batch_norm import add_batch_norm, fold_batch_norm
from training.damage import damaged_cells, paint_damage
from training.errors import RecipeError
from training.features import FeatureStore, jitter, to_input, version_of
from training.losses import autoencoder_loss, hard_feature_loss, penalty_loss
from training.muon import NetworkOptimizer
from training.networks.pdn import TEACHER_CHANNELS
from training.recipe import FastKnobs, PaperKnobs, RunConfig, height_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training.networks.detector import Detector

    NaturalPictures = Callable[[np.random.Generator], NDArray[np.uint8]]
    """Draws one picture of something else: (size, size, 3) uint8."""


DIVERGED = 1e4
"""A loss no training comes back from: the targets have unit variance, so the worst of honest losses are some tens."""

_FILL_BATCH = 8

_SETTLING_PICTURES = 256
"""Pictures the folded normalizations take their statistics from."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did: its phase, the step at which the phase ends, and its figures."""

    phase: str
    phase_end: int
    figures: dict[str, float]


class Trainer(Protocol):
    """A recipe at work on a detector."""

    step_number: int
    steps: int

    def step(self) -> StepReport:
        """Takes one step and counts it."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything `restore` needs, as tensors and plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        ...

    def finish(self) -> None:
        """Puts the final weights into the detector."""
        ...


class WeightMean:
    """Exponential mean of a network's weights; the decay grows with the steps, so that the start is soon forgotten."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights after step `step` (counted from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for mean, now in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)


def initialize_at_he_scale(network: nn.Module) -> None:
    """He's initialization, the last layer at a tenth: a unit signal inside, and an output that starts near the mean, 0.

    The library's default shrinks the signal by about 1.7 a layer; through the auto-encoder's thirteen, little of the picture is
    left, and the first hundred steps of a short run go into finding it.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for conv in convolutions:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    with torch.no_grad():
        convolutions[-1].weight *= 0.1


class FastTrainer:
    """The short recipe: first the auto-encoder on stored vectors, then the student on both targets.

    Args:
        config: The run's configuration; its knobs are `FastKnobs`.
        detector: Teacher with statistics in place; student and auto-encoder are trained in it.
        frames: (N, S, S, 3) uint8 training pictures.
        natural: Draws pictures of other things, for painted damage and the penalty.
        device: Where to work.
    """

    def __init__(
        self, config: RunConfig, detector: Detector, frames: NDArray[np.uint8], natural: NaturalPictures, device: torch.device
    ) -> None:
        assert isinstance(config.knobs, FastKnobs)
        self._config, self._knobs, self._detector = config, config.knobs, detector
        self._frames, self._natural, self._device = frames, natural, device
        self.step_number = 0
        self.steps = self._knobs.autoencoder_steps + self._knobs.steps
        self._student, self._autoencoder = detector.student, copy.deepcopy(detector.autoencoder)
        for network in (self._student, self._autoencoder):
            initialize_at_he_scale(network)
        add_batch_norm(self._autoencoder)
        for network in (self._student, self._autoencoder):
            network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._mean_student = WeightMean(self._student, self._knobs.mean_decay)
        self._mean_autoencoder = WeightMean(self._autoencoder, self._knobs.mean_decay)
        decay = self._knobs.weight_decay
        self._autoencoder_optimizer = NetworkOptimizer(self._autoencoder, betas=(0.9, 0.999), weight_decay=decay)
        self._student_optimizer = NetworkOptimizer(self._student, betas=(0.9, 0.99), weight_decay=decay)
        versions = FeatureStore.versions_within(len(frames), self._knobs.versions, config.size, self._knobs.store_mib)
        self._teacher_store = self._fill(FeatureStore(len(frames), versions, config.size), detector.normalized_teacher)
        self._autoencoder_store: FeatureStore | None = None

    @torch.no_grad()
    def _fill(self, store: FeatureStore, network: Callable[[torch.Tensor], torch.Tensor]) -> FeatureStore:
        every = [(index, version) for index in range(len(self._frames)) for version in range(store.versions)]
        for start in range(0, len(every), _FILL_BATCH):
            chosen = every[start : start + _FILL_BATCH]
            for (index, version), vectors in zip(chosen, network(self._input(chosen)), strict=True):
                store.put(index, version, vectors)
        return store

    def _input(self, chosen: list[tuple[int, int]]) -> torch.Tensor:
        return to_input(np.stack([version_of(self._frames, i, v, self._config.seed) for i, v in chosen]), self._device)

    def _draw(self, count: int) -> tuple[list[tuple[int, int]], torch.Tensor, np.random.Generator]:
        """Draws pictures and versions; each pass over the pictures shows every one once, in an order of its own."""
        rng = np.random.default_rng([self._config.seed, self.step_number, 0x22])
        chosen = []
        for i in range(count):
            turn, place = divmod(self.step_number * count + i, len(self._frames))
            order = np.random.default_rng([self._config.seed, turn, 0x33]).permutation(len(self._frames))
            # Half of the draws are the unchanged picture: that is what the box will see.
            version = 0 if rng.random() < 0.5 else int(rng.integers(0, self._teacher_store.versions))
            chosen.append((int(order[place]), version))
        return chosen, self._input(chosen), rng

    def _descend(self, optimizer: NetworkOptimizer, loss: torch.Tensor, height: float, rates: tuple[float, float]) -> None:
        """Takes one step at `height` (0 to 1) of the peak rates of Muon and Adam."""
        if not loss.item() < DIVERGED:
            raise RecipeError(
                f"training diverged at step {self.step_number}: the loss is {loss.item():.3g}; lower the learning rate"
            )
        muon_rate, adam_rate = (height * rate for rate in rates)
        optimizer.descend(loss, muon_rate=muon_rate, adam_rate=adam_rate, clip_norm=self._knobs.clip_norm)

    def step(self) -> StepReport:
        """See `Trainer`."""
        report = self._autoencoder_step() if self.step_number < self._knobs.autoencoder_steps else self._student_step()
        self.step_number += 1
        return report

    def _autoencoder_step(self) -> StepReport:
        knobs, step = self._knobs, self.step_number
        chosen, x, _ = self._draw(knobs.autoencoder_batch)
        teacher = self._teacher_store.get(chosen, self._device)
        loss = autoencoder_loss(teacher, self._autoencoder(x), self._config.dfsc, step / knobs.autoencoder_steps)
        height = height_at(step, knobs.autoencoder_steps, knobs)
        self._descend(self._autoencoder_optimizer, loss.total, height, (knobs.autoencoder_muon_rate, knobs.autoencoder_adam_rate))
        self._mean_autoencoder.update(self._autoencoder, step)
        figures = {"d_ta": loss.distance}
        if self._config.dfsc is not None:
            figures |= {"tau": loss.tau, "hinge_active": loss.active}
        return StepReport("autoencoder", knobs.autoencoder_steps, figures)

    def _settle_autoencoder(self) -> None:
        """Puts the mean of the auto-encoder's weights into the detector, its normalizations folded."""
        settled = copy.deepcopy(self._mean_autoencoder.network)
        batch = min(_FILL_BATCH, len(self._frames))
        starts = range(0, min(len(self._frames), _SETTLING_PICTURES) - batch + 1, batch)
        fold_batch_norm(settled, (self._input([(index, 0) for index in range(start, start + batch)]) for start in starts))
        self._detector.autoencoder.load_state_dict(settled.state_dict())

    def _begin_student(self) -> None:
        """Stores what the settled auto-encoder says."""
        self._settle_autoencoder()
        store = FeatureStore(len(self._frames), self._teacher_store.versions, self._config.size)
        self._autoencoder_store = self._fill(store, self._detector.autoencoder.eval())

    def _student_step(self) -> StepReport:
        knobs = self._knobs
        if self._autoencoder_store is None:
            self._begin_student()
        assert self._autoencoder_store is not None
        step = self.step_number - knobs.autoencoder_steps
        chosen, x, rng = self._draw(knobs.student_batch)
        x, cells = self._paint(chosen, x, rng)
        student = self._student(x)
        # The teacher's vectors of the undamaged part, moved away where damage is painted: there T - S must be large.
        target = self._teacher_store.get(chosen, self._device) + knobs.damage_margin * cells[:, None]
        st = hard_feature_loss(target, student[:, :TEACHER_CHANNELS], knobs.hard_quantile)
        sa = (self._autoencoder_store.get(chosen, self._device) - student[:, TEACHER_CHANNELS:]).square().mean()
        loss = st + sa
        figures = {"hard": st.item(), "d_sa": sa.item()}
        if knobs.penalty_every and step % knobs.penalty_every == 0:
            natural = to_input(self._natural(rng)[None], self._device)
            penalty = penalty_loss(self._student(natural)[:, :TEACHER_CHANNELS])
            loss = loss + penalty
            figures["penalty"] = penalty.item()
        height = height_at(step, knobs.steps, knobs)
        self._descend(self._student_optimizer, loss, height, (knobs.student_muon_rate, knobs.student_adam_rate))
        self._mean_student.update(self._student, step)
        return StepReport("student", self.steps, figures)

    def _paint(
        self, chosen: list[tuple[int, int]], x: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Paints damage on a share of the pictures: what the student sees (N, 3, S, S), and damaged cells (N, n, n) in 0 to 1."""
        size = self._config.size
        changed = np.zeros((len(chosen), size, size), bool)
        painted = []
        for place, (index, version) in enumerate(chosen):
            frame = version_of(self._frames, index, version, self._config.seed)
            if rng.random() < self._knobs.damage_share:
                frame, changed[place] = paint_damage(frame, self._natural, rng)
            painted.append(frame)
        if changed.any():
            x = to_input(np.stack(painted), self._device)
        return x, damaged_cells(changed).to(self._device)

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return {
            "step": self.step_number,
            "student": self._student.state_dict(), "mean_student": self._mean_student.network.state_dict(),
            "autoencoder": self._autoencoder.state_dict(), "mean_autoencoder": self._mean_autoencoder.network.state_dict(),
            "student_optimizer": self._student_optimizer.state_dict(),
            "autoencoder_optimizer": self._autoencoder_optimizer.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """See `Trainer`."""
        self.step_number = state["step"]
        self._student.load_state_dict(state["student"])
        self._mean_student.network.load_state_dict(state["mean_student"])
        self._autoencoder.load_state_dict(state["autoencoder"])
        self._mean_autoencoder.network.load_state_dict(state["mean_autoencoder"])
        self._student_optimizer.load_state_dict(state["student_optimizer"])
        self._autoencoder_optimizer.load_state_dict(state["autoencoder_optimizer"])
        self._autoencoder_store = None

    def finish(self) -> None:
        """See `Trainer`."""
        self._student.load_state_dict(self._mean_student.network.state_dict())
        self._settle_autoencoder()


class PaperTrainer:
    """Algorithm 1 to the letter, with DFSC's constraint on the auto-encoder's branch where the model has it.

    Args:
        config: The run's configuration; its knobs are `PaperKnobs`.
        detector: Teacher with statistics in place; student and auto-encoder are trained in it.
        frames: (N, S, S, 3) uint8 training pictures.
        natural: Draws pictures of other things, for painted damage and the penalty.
        device: Where to work.
    """

    def __init__(
        self, config: RunConfig, detector: Detector, frames: NDArray[np.uint8], natural: NaturalPictures, device: torch.device
    ) -> None:
        assert isinstance(config.knobs, PaperKnobs)
        self._config, self._knobs, self._detector = config, config.knobs, detector
        self._frames, self._natural, self._device = frames, natural, device
        self.step_number = 0
        self.steps = self._knobs.steps
        for network in (detector.student, detector.autoencoder):
            network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._adam = torch.optim.Adam(
            [*detector.student.parameters(), *detector.autoencoder.parameters()],
            lr=self._knobs.rate, weight_decay=self._knobs.weight_decay,
        )  # fmt: skip

    def step(self) -> StepReport:
        """See `Trainer`."""
        knobs, detector, step = self._knobs, self._detector, self.step_number
        rng = np.random.default_rng([self._config.seed, step, 0x44])
        turn, place = divmod(step, len(self._frames))
        order = np.random.default_rng([self._config.seed, turn, 0x33]).permutation(len(self._frames))
        frame = self._frames[int(order[place])]
        plain, other_light = to_input(frame[None], self._device), to_input(jitter(frame, rng)[None], self._device)
        natural = to_input(self._natural(rng)[None], self._device)
        with torch.no_grad():
            teacher, teacher_light = detector.normalized_teacher(plain), detector.normalized_teacher(other_light)
        st = hard_feature_loss(teacher, detector.student(plain)[:, :TEACHER_CHANNELS], knobs.hard_quantile)
        penalty = penalty_loss(detector.student(natural)[:, :TEACHER_CHANNELS])
        generator = torch.Generator().manual_seed((self._config.seed << 32) + step)
        dropout = [mask.to(self._device) for mask in detector.autoencoder.draw_dropout(1, generator)]
        autoencoder = detector.autoencoder(other_light, dropout)
        ta = autoencoder_loss(teacher_light, autoencoder, self._config.dfsc, step / self.steps)
        sa = (autoencoder - detector.student(other_light)[:, TEACHER_CHANNELS:]).square().mean()
        for group in self._adam.param_groups:
            group["lr"] = knobs.rate * (knobs.drop_to if step >= knobs.drop_at * self.steps else 1.0)
        self._adam.zero_grad()
        (st + penalty + ta.total + sa).backward()
        self._adam.step()
        self.step_number += 1
        figures = {"hard": st.item(), "penalty": penalty.item(), "d_ta": ta.distance, "d_sa": sa.item()}
        if self._config.dfsc is not None:
            figures |= {"tau": ta.tau, "hinge_active": ta.active}
        return StepReport("all", self.steps, figures)

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return {
            "step": self.step_number, "adam": self._adam.state_dict(),
            "student": self._detector.student.state_dict(), "autoencoder": self._detector.autoencoder.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """See `Trainer`."""
        self.step_number = state["step"]
        self._adam.load_state_dict(state["adam"])
        self._detector.student.load_state_dict(state["student"])
        self._detector.autoencoder.load_state_dict(state["autoencoder"])

    def finish(self) -> None:
        """See `Trainer`: the last weights are the final ones."""
