"""Teachers made elsewhere: the state dicts of the two implementations people use.

Both hold the paper's patch description networks with ReLU and average pooling between the convolutions, and take pictures
normalized as ours are. nelson1425's is a plain `nn.Sequential` (convolutions at 0, 3, 6, 8 and, in the medium one, 10, 12),
anomalib's names them `conv1` and on. A prefix all of a network's names share ("teacher.", "model.teacher.") is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from training.errors import TeacherFileError
from training.networks.pdn import TEACHER_CHANNELS, Pdn, PdnSize
from training.weight_files import read_state_dict

if TYPE_CHECKING:
    from pathlib import Path

    from training.weight_files import StateDict

_PLACES = {
    "nelson1425's": {PdnSize.SMALL: ("0", "3", "6", "8"), PdnSize.MEDIUM: ("0", "3", "6", "8", "10", "12")},
    "anomalib's": {
        PdnSize.SMALL: tuple(f"conv{i}" for i in range(1, 5)),
        PdnSize.MEDIUM: tuple(f"conv{i}" for i in range(1, 7)),
    },
}
"""Layout -> size -> names of the convolutions, in the order in which data passes them."""


def read_foreign_teacher(path: Path) -> tuple[Pdn, str]:
    """Reads a teacher of one of the layouts.

    Returns:
        The teacher in float32 on the CPU, and whose layout it is.

    Raises:
        TeacherFileError: The file is unreadable or of no known layout; the text says what was expected.
    """
    state = _without_prefix(read_state_dict(path, TeacherFileError))
    names = {key.rpartition(".")[0] for key in state}
    for layout, sizes in _PLACES.items():
        for size, places in sizes.items():
            if names == set(places):
                return _filled(Pdn(size, TEACHER_CHANNELS), state, places, path), layout
    known = "; ".join(f"{layout}: {' '.join(places)}" for layout, sizes in _PLACES.items() for places in sizes.values())
    raise TeacherFileError(
        f"{path} is no teacher of a known layout: expected convolutions named as in ({known}), got {', '.join(sorted(names)[:8])}"
    )


def _without_prefix(state: StateDict) -> StateDict:
    """Drops what all names begin with; of a whole model's state dict, keeps the teacher."""
    of_teacher = {key: value for key, value in state.items() if "teacher." in key}
    chosen = of_teacher or state
    heads = {key.rpartition(".")[0].rpartition(".")[0] for key in chosen}
    if len(heads) != 1 or heads == {""}:
        return chosen
    prefix = f"{heads.pop()}."
    return {key[len(prefix) :]: value for key, value in chosen.items()}


@torch.no_grad()
def _filled(teacher: Pdn, state: StateDict, places: tuple[str, ...], path: Path) -> Pdn:
    convolutions = [layer for layer in teacher.layers if isinstance(layer, torch.nn.Conv2d)]
    for conv, place in zip(convolutions, places, strict=True):
        for name, ours in (("weight", conv.weight), ("bias", conv.bias)):
            theirs = state.get(f"{place}.{name}")
            assert ours is not None
            if theirs is None or theirs.shape != ours.shape:
                got = "nothing" if theirs is None else tuple(theirs.shape)
                raise TeacherFileError(f"{path}: {place}.{name}: expected {tuple(ours.shape)}, got {got}")
            if not theirs.isfinite().all():
                raise TeacherFileError(f"{path}: {place}.{name} holds numbers that are not finite")
            ours.copy_(theirs)
    return teacher
