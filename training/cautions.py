"""What a user must know before trusting a run: told when it ends, kept in its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.families import family_of
from training.recipe import PaperKnobs

if TYPE_CHECKING:
    from training.recipe import RunConfig
    from training.run import AnyDetector
    from training.teacher.store import TeacherInfo


def cautions(
    config: RunConfig,
    detector: AnyDetector,
    figures: dict[str, float],
    *,
    parts: int,
    teacher: TeacherInfo | None,
    has_photographs: bool,
) -> list[str]:
    """Gathers them.

    Args:
        config: What was asked for.
        detector: Trained and fitted.
        figures: Of the training and the fit.
        parts: How many good parts it learnt from.
        teacher: Where its teacher came from, if it has one.
        has_photographs: Whether there were photographs to paint damage with, beside generated pictures.
    """
    found = []
    if parts < config.least_parts:
        found.append(
            f"{parts} parts to learn from are few: they were also shown a little moved, turned and under other light, as "
            f"{config.least_parts} in all, so a part that is wrong by so little may pass; give more parts, or show them as they "
            "are: --knob least_parts=0"
        )
    if teacher is not None and not teacher.complete:
        found.append(
            f"the teacher's distillation was stopped at step {teacher.steps}, before its end: go on with it (onbelt distill ... "
            "--resume) and train again"
        )
    dfsc = config.dfsc
    if dfsc is not None and dfsc.weight > 0 and figures["hinge_active_most"] == 0:
        found.append(
            f"the DFSC constraint never acted: no novel element came below the margin ({dfsc.margin} "
            f"{'x tau' if dfsc.margin_of_tau else 'absolute'}), so this is plain EfficientAD; raise the margin or start earlier"
        )
    found += family_of(config).cautions(detector, figures)
    if not has_photographs:
        users = "the penalty" if isinstance(config.knobs, PaperKnobs) else "painted damage"
        found.append(f"{users} used generated pictures only; give photographs with --natural for better maps")
    return found
