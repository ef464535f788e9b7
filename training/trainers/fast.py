"""The short recipe (`FastKnobs`): first the auto-encoder on stored vectors, then the student on both targets."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.damage import damaged_cells, paint_damage
from training.feature_noise import feature_noise
from training.features import FeatureStore, to_input, version_of
from training.losses import autoencoder_loss, hard_feature_loss, penalty_loss
from training.muon import NetworkOptimizer, hidden_kernels
from training.networks.batch_norm import add_batch_norm, fold_batch_norm
from training.networks.pdn import TEACHER_CHANNELS
from training.progress import told
from training.recipe import FastKnobs, RunConfig, height_at
from training.trainers.trainer import StepReport, refuse_divergence
from training.trainers.weights import WeightMean, initialize_at_he_scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training.networks.detector import Detector
    from training.trainers.trainer import NaturalPictures

_FILL_BATCH = 8

_SETTLING_PICTURES = 256
"""Pictures the folded normalizations take their statistics from."""


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
        self._autoencoder_optimizer = NetworkOptimizer(
            self._autoencoder, hidden_kernels(self._autoencoder), betas=(0.9, 0.999), weight_decay=decay
        )
        self._student_optimizer = NetworkOptimizer(
            self._student, hidden_kernels(self._student), betas=(0.9, 0.99), weight_decay=decay
        )
        versions = FeatureStore.versions_within(len(frames), self._knobs.versions, config.size, self._knobs.store_mib)
        self._teacher_store = self._fill(FeatureStore(len(frames), versions, config.size), detector.normalized_teacher, "teacher")
        self._autoencoder_store: FeatureStore | None = None

    @torch.no_grad()
    def _fill(self, store: FeatureStore, network: Callable[[torch.Tensor], torch.Tensor], name: str) -> FeatureStore:
        every = [(index, version) for index in range(len(self._frames)) for version in range(store.versions)]
        for start in told(range(0, len(every), _FILL_BATCH), f"vectors of {len(every)} pictures by the {name}"):
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
        refuse_divergence(loss, self.step_number)
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
        rebuilt = self._autoencoder(x, noise=self._noise(step) if knobs.autoencoder_noise else None)
        loss = autoencoder_loss(teacher, rebuilt, self._config.dfsc, step / knobs.autoencoder_steps)
        height = height_at(step, knobs.autoencoder_steps, knobs)
        self._descend(self._autoencoder_optimizer, loss.total, height, (knobs.autoencoder_muon_rate, knobs.autoencoder_adam_rate))
        self._mean_autoencoder.update(self._autoencoder, step)
        figures = {"d_ta": loss.distance}
        if self._config.dfsc is not None:
            figures |= {"tau": loss.tau, "hinge_active": loss.active}
        return StepReport("autoencoder", knobs.autoencoder_steps, figures)

    def _noise(self, step: int) -> Callable[[torch.Tensor], torch.Tensor]:
        generator = torch.Generator().manual_seed((self._config.seed << 32) + step)
        return lambda code: feature_noise(code, self._knobs.autoencoder_noise, generator)

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
        self._autoencoder_store = self._fill(store, self._detector.autoencoder.eval(), "auto-encoder")

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
