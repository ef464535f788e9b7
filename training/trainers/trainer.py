"""What every recipe is to the loop: state in, one step, state out.

A trainer knows nothing of files and clocks; `training.loop` drives it and tells its steps. Everything that is drawn at a step is
drawn from a generator made of the seed and the step's number, so a run resumed from a checkpoint takes the very steps of an
unbroken one (bit for bit on one CPU with one number of threads).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import RecipeError

if TYPE_CHECKING:
    import torch

NaturalPictures = Callable[[np.random.Generator], NDArray[np.uint8]]
"""Draws one picture of something else: (size, size, 3) uint8."""

DIVERGED = 1e4
"""A loss no training comes back from: the targets have unit variance, so the worst of honest losses are some tens."""


def refuse_divergence(loss: torch.Tensor, step: int, remedy: str = "lower the learning rate") -> None:
    """Ends a training that is lost.

    Args:
        loss: Of the step that is about to be taken.
        step: Its number.
        remedy: What to do about it.

    Raises:
        RecipeError: The loss is NaN, infinite or beyond `DIVERGED`.
    """
    if not loss.item() < DIVERGED:
        raise RecipeError(f"training diverged at step {step}: the loss is {loss.item():.3g}; {remedy}")


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
