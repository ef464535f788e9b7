"""Drives a distillation: pictures in, progress told, the teacher's file written once a minute and at the end."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING

from training.errors import RecipeError, TeacherFileError
from training.memory import keep_freed_memory
from training.teacher.distillation import Distillation, DistillConfig
from training.teacher.pictures import find_pictures, read_photograph
from training.trainers.interruption import Interruption
from training.workers import ALONE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from training.teacher.store import TeacherInfo
    from training.workers import Workers

logger = logging.getLogger(__name__)


def _check_out(out: Path) -> None:
    """Refuses a place that could not be written after hours of work."""
    if out.suffix != ".safetensors":
        raise TeacherFileError(f"--out {out}: expected a name that ends in .safetensors, which is what is written")
    if out.is_dir():
        raise TeacherFileError(f"--out {out}: expected a file's name, it is a folder; name a file in it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise TeacherFileError(f"--out {out}: cannot make its folder ({exc}); name another place") from exc
    if not os.access(out.parent, os.W_OK):
        raise TeacherFileError(f"--out {out}: its folder cannot be written; name another place")


def distill(
    config: DistillConfig,
    images: Sequence[Path],
    out: Path,
    device: torch.device,
    *,
    resume: bool = False,
    workers: Workers = ALONE,
) -> TeacherInfo:
    """Distils a teacher and writes it to a file, once a minute and at the end.

    Args:
        config: What is asked for.
        images: Picture files and folders of photographs; may be empty (generated pictures alone).
        out: The teacher file.
        device: Where to work.
        resume: Go on from the checkpoint beside `out`.
        workers: This process among those that distil together; the first of them writes the file.

    Returns:
        Where the finished teacher came from, with its losses.

    Raises:
        TrainingError: Pictures, backbone, checkpoint or `out` are not usable.
        KeyboardInterrupt: Ctrl-C: after the step it fell into, which is saved; or a second one, at once and without saving.
    """
    if config.batch % workers.count:
        raise RecipeError(
            f"--batch {config.batch}: expected a multiple of {workers.count}, for so many workers draw a part of it each"
        )
    _check_out(out)
    paths = find_pictures(images) if images else []
    keep_freed_memory()
    photographs = [read_photograph(path) for path in paths]
    if workers.leads:
        logger.info("%d photographs, %d generated pictures", len(photographs), config.textures)
    work = Distillation(config, photographs, device, workers)
    if resume:
        work.resume(out)
    start = saved = time.monotonic()
    first, stopped = work.step_number, False
    with Interruption() as interruption:
        while work.step_number < config.steps:
            stopped = workers.any(interruption.asked)
            if stopped:
                break
            loss = work.step()
            now = time.monotonic()
            done = work.step_number - first
            if not workers.leads:
                continue
            if done % 10 == 0:
                rate = done / (now - start)
                print(
                    f"step {work.step_number}/{config.steps} loss {loss:.3f} mean {work.loss_mean:.3f} "
                    f"{rate:.2f} steps/s {(config.steps - work.step_number) / rate:.0f} s left",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            if now - saved >= config.save_every_s:
                info = work.save(out)
                print(f"saved at step {info.steps}: held-out {info.held_out_loss:.4f}", file=sys.stderr, flush=True)
                saved = time.monotonic()
        info = work.save(out) if workers.leads else work.info()
    if stopped or interruption.asked:
        rest = "the teacher is whole" if info.complete else "go on with --resume"
        if workers.leads:
            print(f"stopped at step {info.steps}; {rest}", file=sys.stderr)
        raise KeyboardInterrupt
    return info
