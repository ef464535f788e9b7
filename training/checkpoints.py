"""States of unfinished work: a power cut leaves the old one or the new one, and what is read is not trusted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from training.errors import TrainingError

_REFUSED: Any = torch.serialization.pickle.UnpicklingError  # type: ignore[attr-defined]
UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AssertionError, _REFUSED)
"""What `torch.load` raises on files that are cut, damaged, or something else altogether."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes a state beside `path` and puts it in its place once the disk has it."""
    temporary = path.with_suffix(".writing")
    with temporary.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_checkpoint(path: Path, names: Iterable[str], device: torch.device, error: type[TrainingError]) -> dict[str, Any]:
    """Reads a state of plain containers and tensors: a file cannot run code.

    Args:
        path: What `save_checkpoint` wrote.
        names: What it has to hold.
        device: Where its tensors go.
        error: What to raise.

    Raises:
        TrainingError: Of the class `error`: the file is damaged or no checkpoint.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except UNREADABLE as exc:
        why = str(exc).partition("\n")[0] or type(exc).__name__
        raise error(f"{path}: expected a whole checkpoint, cannot read it ({why}); remove it and start without --resume") from exc
    lacking = [name for name in names if not isinstance(state, dict) or name not in state]
    if lacking:
        raise error(f"{path}: expected a checkpoint, it lacks {', '.join(lacking)}; remove it and start without --resume")
    return dict(state)
