"""How loud each branch of the fused score is on good parts, and the weights that make all equally loud.

A branch is scaled by the middle of its good parts (`training.global_head.trimmed_center_scale`), which says nothing of its tail:
a glint or a smudge that good parts have now and then may reach z = 60 in one map and 15 in the other. Added as they are, the
louder branch sets the limit for both, and the quieter one's defects pass below it. So each branch's term, softplus(z - 3), is
divided by its own mean over good parts: all terms are 1 there on average (docs/adr/0013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.global_head import trimmed_center_scale
from training.networks.detector import QUIET_Z

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PRIOR_PARTS = 40
"""A branch counts as if this many further parts had been as loud in it as the branches are on average: of a dozen parts none may
have the glint, or one too many. Measured in docs/adr/0013: with 10, pcb_traces (14 parts) falls from .976 to .961, with 40 to
.973; vials (100 parts) miss 76 and 83 logical defects instead of 101."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch over held-out good parts.

    Attributes:
        center, scale: of its scores: z = (score - center) / scale.
        loudness: mean of softplus(z - 3).
        parts: how many parts these are of.
    """

    center: float
    scale: float
    loudness: float
    parts: int


def fit_branch(scores: NDArray[np.floating]) -> Branch:
    """Centre, scale and loudness of a branch's scores (N,) over held-out good parts."""
    center, scale = trimmed_center_scale(scores)
    z = (np.asarray(scores, np.float64) - center) / scale
    return Branch(center, scale, float(np.logaddexp(0.0, z - QUIET_Z).mean()), len(z))


def balanced(branches: Sequence[Branch]) -> list[float]:
    """Weights of branches that count, in their order: the reciprocal of each one's loudness, drawn towards the mean of all."""
    usual = float(np.mean([branch.loudness for branch in branches]))
    return [(branch.parts + PRIOR_PARTS) / (branch.parts * branch.loudness + PRIOR_PARTS * usual) for branch in branches]


def figures_of(st: Branch, ae: Branch, whole: Branch) -> dict[str, float]:
    """What a run's record tells of its branches."""
    named = {"st": st, "ae": ae, "global": whole}
    return {f"{name}_{what}": getattr(branch, what) for name, branch in named.items() for what in ("center", "scale", "loudness")}
