"""Teacher files: fp16 weights and where they came from, in one safetensors file; and the files others have.

The file holds the tensors of a `Pdn` with 384 channels and a JSON text under the metadata key `onbelt.teacher`.
Weights are stored in fp16 (5.4 MB for PDN-S): rounding is 2^-11 of a weight and far below what distillation leaves.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from training.errors import TeacherFileError
from training.networks.pdn import TEACHER_CHANNELS, Pdn, PdnSize
from training.teacher.layouts import read_foreign_teacher

if TYPE_CHECKING:
    from pathlib import Path

METADATA_KEY = "onbelt.teacher"
SCHEMA_VERSION = 1


class TeacherInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a teacher came from.

    Attributes:
        schema: Version of this record.
        model: `pdn-s` or `pdn-m`.
        backbone: Name of the network that was imitated.
        images: How many photographs were used.
        images_sha256: Hash over their pixels as they were used.
        textures: How many generated pictures were used.
        steps: Steps done.
        batch: Pictures a step.
        size: Side of a picture in pixels.
        seed: Seed of everything that was drawn.
        train_loss: Running mean of the loss; 1.0 is "predicts the mean". None where another's file does not say.
        held_out_loss: Mean squared error on pictures never trained on, as a share of their variance. None likewise.
        complete: False in a file saved before the last step.
        weights_sha256: Of the backbone's weight file, where a user gave one.
        workers: How many processes drew a part of each batch each.
    """

    model: str
    backbone: str
    images: int
    images_sha256: str
    textures: int
    steps: int
    batch: int
    size: int
    seed: int
    train_loss: float | None
    held_out_loss: float | None
    complete: bool
    weights_sha256: str = ""
    workers: int = 1
    schema: int = SCHEMA_VERSION


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that it is whole or absent after a power cut: temporary file, fsync, rename, fsync."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_teacher(path: Path, teacher: Pdn, info: TeacherInfo) -> None:
    """Writes a teacher file atomically."""
    tensors = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in teacher.state_dict().items()}
    write_atomically(path, save(tensors, metadata={METADATA_KEY: msgspec.json.encode(info).decode()}))


def load_teacher(path: Path) -> tuple[Pdn, TeacherInfo]:
    """Reads a teacher file: ours, or one of `training.teacher.layouts`.

    Returns:
        The frozen teacher in float32 on the CPU, without padding, and where it came from.

    Raises:
        TeacherFileError: The file is missing, no safetensors file, or holds something else.
    """
    if not path.is_file():
        raise TeacherFileError(f"no teacher file at {path}: make one with `onbelt distill`, or name another")
    if not _is_ours(path):
        teacher, layout = read_foreign_teacher(path)
        info = TeacherInfo(
            model=teacher.size.value, backbone=f"not known; the file is in {layout} layout", images=0, images_sha256="",
            textures=0, steps=0, batch=0, size=0, seed=0, train_loss=None, held_out_loss=None, complete=True,
        )  # fmt: skip
        return teacher.eval().requires_grad_(requires_grad=False), info
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name).to(torch.float32) for name in opened.keys()}  # noqa: SIM118 not a dict
    except (SafetensorError, OSError) as exc:
        raise TeacherFileError(f"cannot read {path} as a teacher file: {exc}") from exc
    try:
        info = msgspec.json.decode(metadata[METADATA_KEY], type=TeacherInfo)
        teacher = Pdn(PdnSize(info.model), TEACHER_CHANNELS)
        teacher.load_state_dict(tensors)
    except (msgspec.DecodeError, ValueError, RuntimeError) as exc:
        raise TeacherFileError(f"teacher file {path} does not fit its own description: {exc}") from exc
    return teacher.eval().requires_grad_(requires_grad=False), info


def _is_ours(path: Path) -> bool:
    """Whether a file is meant to be one of ours; one that cannot be opened as safetensors is, if it is named so."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as opened:
            return METADATA_KEY in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return True


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
