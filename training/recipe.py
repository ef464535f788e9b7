"""Recipes: every number a training run depends on, in one record that is stored with the run.

`paper` is Algorithm 1 of EfficientAD to the letter: one picture a step, 70,000 steps, three losses at once, and for the penalty
the middle of a photograph (of `--natural`; without, of a generated picture, and the run says so). `fast` is ours: it brings a
product to a usable detector in minutes on two CPU cores, by spending them where short runs lack most:

1. The teacher's vectors of the training pictures, and of versions of each with other brightness, contrast or saturation where
   `versions` asks for some, are computed once. Pictures are never mirrored, and moved only where they are few
   (`training.few_parts`): a layout may be what makes a part good.
2. The auto-encoder is what short runs leave undertrained, and it costs a tenth of the others. It is trained first, alone, in
   batches, on the stored vectors, with an exponential mean of its weights and with normalizations that are folded into its
   convolutions afterwards (`training.networks.batch_norm`); with DFSC, the constraint acts here.
3. Then it stands still, its output is stored too, and the student learns both halves from one pass a picture: the teacher's
   vectors and the auto-encoder's output. On most pictures damage is painted (`training.damage`), and there the student's target
   lies apart from the teacher's vectors: what the paper's hard feature loss and penalty bring about in 70,000 steps on strong
   teachers, a student that says at damage what the teacher does not, is taught directly.

Hidden kernels learn by Muon (`training.muon`), the rest by Adam. Rates warm up and fall as a cosine, and the exponential mean of
the weights is what is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Union

import msgspec

from training.errors import RecipeError
from training.few_parts import ENOUGH_PARTS
from training.knobs import refuse_unless, with_changes
from training.lgfdr.knobs import MUON_RATE, NEW_LOUDEST_AE, NEW_LOUDEST_ST, NEW_WEIGHED_ERROR, TOKENS, LgfdrKnobs, check_knobs
from training.losses import DfscKnobs
from training.networks.autoencoder import MAX_SIDE_PX, MIN_SIDE_PX, SIDE_STEP_PX
from training.networks.pdn import FULL_WIDTH, STRIDE_PX, TEACHER_CHANNELS, WIDTH_STEP, PdnSize, is_width

if TYPE_CHECKING:
    from collections.abc import Sequence

FAST_DIRECTIONS = 64
"""Four times what cost accuracy on the tray; the engine's time falls by a fifth (`docs/results.md`)."""

FAST_STUDENT_WIDTH = 0.5
"""Three tenths less time in the engine, and steps of the student that take less than half (`docs/adr/0011-half-a-student.md`)."""

MOST_SEED = 2**31

MODELS: dict[str, tuple[PdnSize, bool]] = {
    "efficientad-s": (PdnSize.SMALL, False),
    "efficientad-m": (PdnSize.MEDIUM, False),
    "dfsc-efficientad-s": (PdnSize.SMALL, True),
    "dfsc-efficientad-m": (PdnSize.MEDIUM, True),
}
"""Name on the command line -> (size of the patch description networks, whether DFSC acts)."""


EFFICIENTAD = "efficientad"
"""What the family above is called (`training.families`)."""
LGFDR = "lgfdr"
"""The detector beside it, and its family: its recipe says what it is made of (`training.lgfdr`)."""


class FastKnobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="fast", tag_field="recipe"):
    """The short recipe.

    Attributes:
        steps: Steps of the student.
        autoencoder_steps: Steps of the auto-encoder before it. More have not been better (vials: |T - A| on logical defects .946
            to .981 over seeds after 800, .955 after 1,200; `docs/results.md`).
        autoencoder_batch: Pictures a step of the auto-encoder.
        autoencoder_noise: Alpha of the noise on the 64 numbers the auto-encoder's encoder passes on (`training.feature_noise`):
            what LGFDR does to its features; 0 adds none.
        student_batch: Pictures a step of the student.
        student_width: Part of the paper's hidden channels that the student has (`training.networks.pdn`). Runs that do not name
            it have them all; new ones get `FAST_STUDENT_WIDTH`.
        autoencoder_muon_rate: Peak length of Muon's steps on the auto-encoder's hidden kernels, as a share of their norm.
        autoencoder_adam_rate: Peak learning rate of the rest of it.
        student_muon_rate: The same of the student.
        student_adam_rate: The same of the student.
        weight_decay: Adam's (paper: 1e-5).
        warmup: Part of each phase's steps over which the rate grows.
        final_rate: What the cosine ends at, as a part of the peak.
        hard_quantile: q of the hard feature loss (paper: 0.999); 0 takes all elements.
        penalty_every: The penalty acts on every k-th step of the student; 0 never.
        least_parts: Parts to learn from, at least: fewer are shown again, a little moved and under other light
            (`training.few_parts`). Runs that do not name it learnt from their parts as they are; new ones get `ENOUGH_PARTS`.
        damage_share: Part of the student's pictures on which damage is painted; 0 never.
        damage_margin: How far the student's target lies from the teacher's vector at damage, in every channel (of unit variance).
        versions: Versions of each training picture with stored teacher vectors, the unchanged one included.
        store_mib: Memory beyond which no further version is stored. The unchanged pictures are stored in any case: the teacher's
            and the auto-encoder's vectors, 0.9 MB a picture at 128 px and 4.8 MB at 256 px.
        mean_decay: Decay a step of the exponential mean of the weights.
        clip_norm: Largest norm of a gradient.
    """

    steps: int = 2800
    autoencoder_steps: int = 800
    autoencoder_batch: int = 8
    autoencoder_noise: float = 0.0
    student_batch: int = 2
    student_width: float = FULL_WIDTH
    autoencoder_muon_rate: float = 0.01
    autoencoder_adam_rate: float = 2.5e-3
    student_muon_rate: float = 0.01
    student_adam_rate: float = 1e-3
    weight_decay: float = 1e-5
    warmup: float = 0.05
    final_rate: float = 0.01
    hard_quantile: float = 0.0
    penalty_every: int = 0
    least_parts: int = 0
    damage_share: float = 0.8
    damage_margin: float = 2.0
    versions: int = 1
    store_mib: int = 2048
    mean_decay: float = 0.995
    clip_norm: float = 1.0


class PaperKnobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="paper", tag_field="recipe"):
    """Algorithm 1 (EfficientAD, arXiv 2303.14535v3).

    Attributes:
        steps: Steps in all.
        rate: Adam's learning rate.
        weight_decay: Adam's.
        drop_at: Part of the steps after which the rate falls (66,500 of 70,000).
        drop_to: What it falls to, as a part.
        hard_quantile: q of the hard feature loss.
    """

    steps: int = 70_000
    rate: float = 1e-4
    weight_decay: float = 1e-5
    drop_at: float = 0.95
    drop_to: float = 0.1
    hard_quantile: float = 0.999


Knobs = Union[FastKnobs, PaperKnobs, LgfdrKnobs]  # noqa: UP007 msgspec resolves annotations on Python 3.10


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is asked for.

    Attributes:
        model: Name in `MODELS`, or `LGFDR`.
        size: Side of the picture in pixels.
        seed: Seed of everything that is drawn.
        knobs: The recipe.
        dfsc: The constraint's knobs; None for models without it.
        head_input: What the global head pools: "teacher" or "student".
        head_weight: Of the global head in the fused score; 0 leaves it out.
        map_directions: How many of a difference's 384 directions its map keeps (`training.networks.detector`).
    """

    model: str
    size: int
    seed: int
    knobs: Knobs
    dfsc: DfscKnobs | None
    head_input: str = "teacher"
    map_directions: int = TEACHER_CHANNELS
    head_weight: float = 0.0

    @property
    def family(self) -> str:
        """Name of the family of detectors (`training.families`)."""
        return LGFDR if isinstance(self.knobs, LgfdrKnobs) else EFFICIENTAD

    @property
    def pdn(self) -> PdnSize:
        """Size of the patch description networks."""
        return MODELS[self.model][0]

    @property
    def student_width(self) -> float:
        """Part of the paper's hidden channels that the student has."""
        return self.knobs.student_width if isinstance(self.knobs, FastKnobs) else FULL_WIDTH

    @property
    def least_parts(self) -> int:
        """As how many parts, at least, those to learn from are shown (`training.few_parts`)."""
        return 0 if isinstance(self.knobs, PaperKnobs) else self.knobs.least_parts


def make_config(
    model: str,
    *,
    size: int = 256,
    seed: int = 0,
    recipe: str = "fast",
    steps: int | None = None,
    dfsc: DfscKnobs | None = None,
    changes: Sequence[str] = (),
) -> RunConfig:
    """Checks and completes what the user asked for.

    Args:
        model: Name in `MODELS`, or `LGFDR`.
        size: Side of the picture in pixels.
        seed: Seed of everything that is drawn.
        recipe: "fast" or "paper"; LGFDR has one recipe, its knobs, and takes "fast".
        steps: Steps of the student (fast; the auto-encoder's keep their ratio), in all (paper) or of the towers (LGFDR; the
            discriminator's keep their ratio); None for the recipe's own.
        dfsc: The constraint's knobs; None for their defaults.
        changes: Knobs of the recipe that differ from its own, as NAME=VALUE; they win over `steps`.

    Raises:
        RecipeError: A value is out of its range.
    """
    if model not in {*MODELS, LGFDR}:
        raise RecipeError(f"unknown model {model!r}: expected one of {', '.join([*MODELS, LGFDR])}")
    if size % SIDE_STEP_PX or not MIN_SIDE_PX <= size <= MAX_SIDE_PX:
        raise RecipeError(f"expected a size from {MIN_SIDE_PX} to {MAX_SIDE_PX} px, a multiple of {SIDE_STEP_PX}; got {size}")
    if steps is not None and steps < 1:
        raise RecipeError(f"expected at least 1 step, got {steps}")
    if not 0 <= seed < MOST_SEED:
        raise RecipeError(f"expected a seed from 0 to {MOST_SEED - 1}, got {seed}")
    if model == LGFDR:
        if recipe != "fast":
            raise RecipeError(f"{LGFDR} has one recipe of its own: expected --recipe fast, got {recipe}")
        second = LgfdrKnobs(
            token_cells=size // STRIDE_PX // TOKENS,
            muon_rate=MUON_RATE,
            weighed_error=NEW_WEIGHED_ERROR,
            loudest_st=NEW_LOUDEST_ST,
            loudest_ae=NEW_LOUDEST_AE,
            least_parts=ENOUGH_PARTS,
        )
        if steps is not None:
            ratio = second.discriminator_steps / second.steps
            second = msgspec.structs.replace(second, steps=steps, discriminator_steps=max(1, math.ceil(steps * ratio)))
        return RunConfig(model, size, seed, check_knobs(with_changes(second, changes), size), None)
    knobs: Knobs
    if recipe == "fast":
        knobs = FastKnobs(student_width=FAST_STUDENT_WIDTH, least_parts=ENOUGH_PARTS)
        if steps is not None:
            ratio = knobs.autoencoder_steps / knobs.steps
            knobs = msgspec.structs.replace(knobs, steps=steps, autoencoder_steps=max(1, math.ceil(steps * ratio)))
        knobs = check_fast(with_changes(knobs, changes))
    elif recipe == "paper":
        if changes:
            raise RecipeError(f"the paper's recipe is followed to the letter: expected no --knob, got {', '.join(changes)}")
        knobs = PaperKnobs() if steps is None else PaperKnobs(steps=steps)
    else:
        raise RecipeError(f"unknown recipe {recipe!r}: expected fast or paper")
    constrained = MODELS[model][1]
    directions = FAST_DIRECTIONS if isinstance(knobs, FastKnobs) else TEACHER_CHANNELS
    return RunConfig(
        model, size, seed, knobs, check_dfsc(dfsc or DfscKnobs()) if constrained else None, map_directions=directions
    )


def check_dfsc(knobs: DfscKnobs) -> DfscKnobs:
    """Refuses a constraint that cannot act.

    Raises:
        RecipeError: The first value that is out of its range, with what was expected.
    """
    rules = (
        (0 <= knobs.weight < math.inf, "weight", "lambda from 0"),
        (0 <= knobs.quantile < 1, "quantile", "from 0 to below 1"),
        (0 < knobs.margin < math.inf, "margin", "above 0"),
        (0 < knobs.margin_most < math.inf, "margin_most", "above 0"),
        (0 <= knobs.start <= 1 and 0 <= knobs.ramp <= 1, "start and ramp", "parts of the steps, each from 0 to 1"),
    )
    refuse_unless(knobs, rules)
    return knobs


def check_fast(knobs: FastKnobs) -> FastKnobs:
    """Refuses what cannot be trained.

    Raises:
        RecipeError: The first value that is out of its range, with what was expected.
    """
    rates = "autoencoder_muon_rate and autoencoder_adam_rate and student_muon_rate and student_adam_rate"
    rules = (
        (knobs.steps >= 1 and knobs.autoencoder_steps >= 1, "steps and autoencoder_steps", "each at least 1"),
        (knobs.autoencoder_batch >= 2, "autoencoder_batch", "at least 2: its normalizations compare pictures"),
        (knobs.student_batch >= 1, "student_batch", "at least 1"),
        (
            is_width(knobs.student_width),
            "student_width",
            f"above 0 and up to 1, a multiple of {WIDTH_STEP:g}",
        ),
        (0 <= knobs.autoencoder_noise <= 1000, "autoencoder_noise", "from 0 to 1000"),
        (all(getattr(knobs, name) > 0 for name in rates.split(" and ")), rates, "each above 0"),
        (knobs.weight_decay >= 0, "weight_decay", "at least 0"),
        (0 <= knobs.warmup <= 1 and 0 <= knobs.final_rate <= 1, "warmup and final_rate", "each from 0 to 1"),
        (0 <= knobs.hard_quantile < 1, "hard_quantile", "from 0 to below 1"),
        (knobs.penalty_every >= 0, "penalty_every", "at least 0"),
        (0 <= knobs.least_parts <= 10_000, "least_parts", "from 0 to 10,000"),
        (0 <= knobs.damage_share <= 1, "damage_share", "from 0 to 1"),
        (knobs.versions >= 1 and knobs.store_mib >= 1, "versions and store_mib", "each at least 1"),
        (0 <= knobs.mean_decay < 1, "mean_decay", "from 0 to below 1"),
        (knobs.damage_margin >= 0, "damage_margin", "at least 0"),
        (knobs.clip_norm > 0, "clip_norm", "above 0"),
    )
    refuse_unless(knobs, rules)
    return knobs


def height_at(step: int, steps: int, knobs: FastKnobs | LgfdrKnobs) -> float:
    """The learning rates' height, 0 to 1 of their peaks: linear warm-up, then half a cosine.

    Args:
        step: Steps done in this phase.
        steps: Steps of this phase.
        knobs: Warm-up and end.
    """
    warm = max(1, round(knobs.warmup * steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return knobs.final_rate + (1 - knobs.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
