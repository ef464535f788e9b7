"""Algorithm 1 of EfficientAD to the letter (`PaperKnobs`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.features import jitter, to_input
from training.losses import autoencoder_loss, hard_feature_loss, penalty_loss
from training.networks.pdn import TEACHER_CHANNELS
from training.recipe import PaperKnobs, RunConfig
from training.trainers.trainer import StepReport, refuse_divergence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.networks.detector import Detector
    from training.trainers.trainer import NaturalPictures


class PaperTrainer:
    """Algorithm 1 to the letter, with DFSC's constraint on the auto-encoder's branch where the model has it.

    Args:
        config: The run's configuration; its knobs are `PaperKnobs`.
        detector: Teacher with statistics in place; student and auto-encoder are trained in it.
        frames: (N, S, S, 3) uint8 training pictures.
        natural: Draws pictures of other things, for the penalty (`training.teacher.pictures.CentrePool`).
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
        loss = st + penalty + ta.total + sa
        refuse_divergence(loss, step, "its rate is fixed: take another --teacher or --seed, or --recipe fast")
        self._adam.zero_grad()
        loss.backward()
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
