"""The training loop: prepares a detector, drives a recipe, keeps checkpoints, fits what follows, writes the run.

onbelt train data/bottle --model dfsc-efficientad-s --out runs/bottle --size 128
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import msgspec

from edge.errors import DataError
from training.calibrate import MIN_PARTS
from training.cautions import cautions
from training.checkpoints import load_checkpoint, save_checkpoint
from training.datasets import load_frames
from training.errors import RunError
from training.families import family_of
from training.few_parts import enlarge
from training.memory import keep_freed_memory
from training.natural_pictures import NaturalSource, natural_source
from training.progress import Progress
from training.run import (
    CHECKPOINT_NAME,
    LOG_NAME,
    RECORD_NAME,
    Run,
    RunRecord,
    package_versions,
    save_run,
    source_commit,
)
from training.split import shaping_count
from training.trainers import Interruption

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from training.datasets import Dataset
    from training.families import Sources
    from training.recipe import RunConfig
    from training.trainers import Trainer

logger = logging.getLogger(__name__)

NATURAL = "--natural"
"""What a checkpoint and its refusal call the photographs; checkpoints of before name none."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What `train` is asked for.

    Attributes:
        dataset: Train and validation pictures.
        config: Model, size, seed and recipe.
        sources: Where pretrained features come from.
        out: The run's folder.
        natural: Folder of photographs (`training.natural_pictures`); None for generated pictures alone.
        device: Where to work.
        resume: Go on from the folder's checkpoint.
        checkpoint_every_s: Seconds between checkpoints.
        progress_every_s: Seconds between lines of progress.
    """

    dataset: Dataset
    config: RunConfig
    sources: Sources
    out: Path
    natural: Path | None
    device: torch.device
    resume: bool = False
    checkpoint_every_s: float = 60.0
    progress_every_s: float = 5.0


def _identity(request: TrainRequest, teacher_sha256: str, natural: NaturalSource) -> dict[str, str]:
    """What a checkpoint must agree on with the request that resumes it."""
    return {
        "config": msgspec.json.encode(request.config).decode(),
        "data_sha256": request.dataset.data_sha256,
        "teacher_sha256": teacher_sha256,
        NATURAL: natural.identity,
    }


def _restore(request: TrainRequest, trainer: Trainer, identity: dict[str, str]) -> tuple[float, dict[str, float]]:
    """Takes up the checkpoint; returns the seconds spent and the figures seen until then."""
    path = request.out / CHECKPOINT_NAME
    state = load_checkpoint(path, ("identity", "trainer", "wall_s", "figures"), request.device, RunError)
    if NATURAL not in state["identity"]:
        logger.warning("%s does not say which photographs it was made with; taken for those of %s now", path, NATURAL)
    for key, ours in identity.items():
        theirs = state["identity"].get(key, ours if key == NATURAL else "nothing")
        if theirs != ours:
            raise RunError(f"{path}: made with another {key}: expected {ours}, got {theirs}; resume with the same")
    trainer.restore(state["trainer"])
    return state["wall_s"], state["figures"]


def _drive(
    request: TrainRequest, trainer: Trainer, identity: dict[str, str], before_s: float, last: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """Takes all remaining steps; returns seconds spent in all, and the last figures with the largest hinge activity seen.

    Raises:
        KeyboardInterrupt: Ctrl-C: after the step it fell into, which is saved; or a second one, at once and without saving.
    """
    checkpoint = request.out / CHECKPOINT_NAME
    progress = Progress(request.out / LOG_NAME, trainer.step_number, trainer.steps, every_s=request.progress_every_s)
    start = saved = time.monotonic()

    def keep() -> None:
        wall_s = before_s + time.monotonic() - start
        save_checkpoint(checkpoint, {"identity": identity, "trainer": trainer.state(), "wall_s": wall_s, "figures": last})

    with Interruption() as interruption:
        while trainer.step_number < trainer.steps and not interruption.asked:
            report = trainer.step()
            most_active = max(last.get("hinge_active_most", 0.0), report.figures.get("hinge_active", 0.0))
            last |= report.figures | {"hinge_active_most": most_active}
            try:
                progress.update(trainer.step_number, report.phase, report.phase_end, report.figures)
            except KeyboardInterrupt:  # by whatever means: the step is whole here
                interruption.asked = True
            if time.monotonic() - saved >= request.checkpoint_every_s:
                keep()
                saved = time.monotonic()
        keep()
    if interruption.asked:
        logger.warning("stopped at step %d of %d; go on with --resume", trainer.step_number, trainer.steps)
        raise KeyboardInterrupt
    return before_s + time.monotonic() - start, last


def train(request: TrainRequest) -> Run:
    """Trains a detector and writes its run.

    Raises:
        OnbeltError: Data, teacher, checkpoint or folder cannot be used, or training gave nothing usable.
    """
    keep_freed_memory()
    dataset, config, out = request.dataset, request.config, request.out
    if not dataset.train or not dataset.validation:
        raise DataError(f"{dataset.root}: expected good parts to train on and good parts held out, got "
                        f"{len(dataset.train)} and {len(dataset.validation)}")  # fmt: skip
    if shaping_count(len(dataset.validation)) < MIN_PARTS:
        raise DataError(
            f"{dataset.root}: expected at least {2 * MIN_PARTS} good parts held out, since half of them shape the score, got "
            f"{len(dataset.validation)}; add good pictures (a plain folder takes 18), or fill validation/good"
        )
    if (out / RECORD_NAME).exists():
        raise RunError(f"{out} holds a finished run; choose another folder, or remove it")
    if (out / CHECKPOINT_NAME).exists() and not request.resume:
        raise RunError(f"{out} holds an unfinished run; go on with --resume, or remove it")
    if request.resume and not (out / CHECKPOINT_NAME).is_file():
        raise RunError(f"nothing to resume: expected {out / CHECKPOINT_NAME}; start without --resume")
    out.mkdir(parents=True, exist_ok=True)
    family = family_of(config)
    pretrained = family.pretrained(config, request.sources)
    frames, held_out = load_frames(dataset.train, config.size), load_frames(dataset.validation, config.size)
    natural = natural_source(config, request.natural)
    identity = _identity(request, pretrained.sha256, natural)
    logger.info("%d parts to train on, %d held out, natural pictures: %s", len(frames), len(held_out), natural.said)
    prepared = time.monotonic()
    shown = enlarge(frames, config.least_parts, config.seed)
    detector = family.assemble(config, pretrained, shown, request.device)
    trainer = family.trainer(config, detector, shown, natural.draw, request.device)
    before_s, seen = _restore(request, trainer, identity) if request.resume else (0.0, {})
    before_s += time.monotonic() - prepared
    wall_s, figures = _drive(request, trainer, identity, before_s, seen)
    fitting = time.monotonic()
    trainer.finish()
    shaping = held_out[: shaping_count(len(held_out))]
    figures |= family.fit(config, detector, frames, shaping, request.device)
    record = RunRecord(
        config=config, product=dataset.name, data_sha256=identity["data_sha256"], split=dataset.split,
        pictures={"train": len(frames), "validation": len(held_out)}, held_out=dataset.held_out,
        teacher=pretrained.teacher, teacher_sha256=identity["teacher_sha256"], natural=natural.said,
        steps=trainer.step_number, wall_s=round(wall_s + time.monotonic() - fitting, 1), figures=figures,
        warnings=cautions(config, detector, figures, parts=len(frames), teacher=pretrained.teacher,
                          has_photographs=request.natural is not None),
        packages=package_versions(), commit=source_commit(),
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )  # fmt: skip
    for warning in record.warnings:
        logger.warning("%s", warning)
    save_run(out, record, detector)
    (out / CHECKPOINT_NAME).unlink(missing_ok=True)
    return Run(out, record, detector.to("cpu").eval().requires_grad_(requires_grad=False))
