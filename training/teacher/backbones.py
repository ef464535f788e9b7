"""Backbones a teacher can be distilled from, by name.

A backbone is a frozen network trained on photographs. What it makes of a picture on a few of its levels is sampled
at the centres of the patches a PDN describes, each channel is normalized, each level is weighted by its share, and a
fixed orthogonal projection brings the stack to the teacher's 384 channels without changing distances (as far as a
projection can; the paper pools neighbouring channels instead, which mixes levels of unlike scale).

Like the paper's teacher, a backbone sees the picture at twice the side: its stride of 8 is then the PDN's stride of 4
and its receptive fields are halved, which is what makes levels this deep imitable by a 33 px patch.

A user's own backbone is added by one entry here. A package with a backbone is imported only when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.errors import BackboneError
from training.teacher.efficientnet_lite import EfficientNetLite2
from training.teacher.resnet import ResNetFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from training.teacher.levels import Backbone

BACKBONES: dict[str, Callable[[torch.device], Backbone]] = {
    EfficientNetLite2.name: EfficientNetLite2,
}
"""Name on the command line -> how to load one whose weights a package brings."""

FILE_BACKBONES: dict[str, Callable[[Path, torch.device], Backbone]] = {
    ResNetFile.name: ResNetFile,
}
"""Name on the command line -> how to load one from a weight file of the user's."""


def load_backbone(name: str, device: torch.device, weights: Path | None = None) -> Backbone:
    """Loads a backbone by name.

    Args:
        name: In `BACKBONES` or `FILE_BACKBONES`.
        device: Where to work.
        weights: The weight file, for those of `FILE_BACKBONES`.

    Raises:
        BackboneError: Unknown name, its package is not installed, or its weight file is missing or not wanted.
    """
    if name in FILE_BACKBONES:
        if weights is None:
            raise BackboneError(f"backbone {name!r} is read from a weight file: name it with --weights")
        return FILE_BACKBONES[name](weights, device)
    if name not in BACKBONES:
        known = ", ".join(sorted([*BACKBONES, *FILE_BACKBONES]))
        raise BackboneError(f"unknown backbone {name!r}: expected one of {known}")
    if weights is not None:
        raise BackboneError(f"backbone {name!r} brings its weights: expected no --weights, got {weights}")
    return BACKBONES[name](device)
