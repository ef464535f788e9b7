"""Run folders: what was trained, how, and the weights.

    RUN/run.json              `RunRecord`: configuration, data, teacher, figures, versions
    RUN/weights.safetensors   every tensor of the `Detector`, float32
    RUN/log.jsonl             one line of losses every few seconds
    RUN/checkpoint.pt         only while the run is unfinished

A finished run is read with `load_run`; nothing in it is pickled (the checkpoint is torch's own format, read with weights only).
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load, save

from training.errors import BackboneError, RecipeError, RunError
from training.families import family_of
from training.lgfdr.detector import LgfdrDetector
from training.networks.detector import Detector
from training.recipe import RunConfig  # noqa: TC001 msgspec evaluates the annotations of RunRecord when it decodes
from training.teacher.store import TeacherInfo, write_atomically

if TYPE_CHECKING:
    import torch

SCHEMA_VERSION = 1
_MOST_SAID = 300
RECORD_NAME = "run.json"
WEIGHTS_NAME = "weights.safetensors"
LOG_NAME = "log.jsonl"
CHECKPOINT_NAME = "checkpoint.pt"

_UNUSABLE = (
    msgspec.DecodeError, SafetensorError, RuntimeError, KeyError, ValueError, ArithmeticError, RecipeError, BackboneError,
)  # fmt: skip
"""What reading a record and weights that do not fit it raises."""

_RECORDED_PACKAGES = ("onbelt", "torch", "numpy", "pillow", "safetensors")


AnyDetector = Union[Detector, LgfdrDetector]  # noqa: UP007 evaluated on Python 3.10
"""What a run holds; both give scores and maps of a frame under one contract."""


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `run.json` holds.

    Attributes:
        schema: Version of this form.
        config: What was asked for.
        product: Name of the data set.
        data_sha256: Hash over the names and bytes of all pictures trained and fitted on.
        split: How the validation pictures came about.
        pictures: How many were trained on, and how many limits and quantiles were fitted on.
        held_out: Names of the latter's files in the data set, in the order in which they are used; empty in runs of before.
        teacher: Where the teacher came from; None for a model without one, whose pretrained features the recipe names.
        teacher_sha256: Hash of the teacher file, or of the pretrained features' weights.
        natural: Which pictures of other things painted damage and penalty used.
        steps: Steps done.
        wall_s: Seconds the run took, interruptions left out.
        figures: Measured on validation parts and at the end of training; see `training.calibrate`.
        warnings: What the user must know before trusting the run.
        packages: Versions of what the result depends on.
        commit: Commit of the source tree, empty where there is none.
        created_utc: When the run ended, a label.
    """

    config: RunConfig
    product: str
    data_sha256: str
    split: str
    pictures: dict[str, int]
    teacher: TeacherInfo | None
    teacher_sha256: str
    natural: str
    steps: int
    wall_s: float
    figures: dict[str, float]
    warnings: list[str]
    packages: dict[str, str]
    commit: str
    created_utc: str
    held_out: list[str] = []
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        path: Its folder.
        record: What `run.json` says.
        detector: The detector, frozen, float32, on the CPU.
    """

    path: Path
    record: RunRecord
    detector: AnyDetector

    @property
    def config(self) -> RunConfig:
        """What the run was asked for."""
        return self.record.config


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages a run's result depends on."""
    return {"python": platform.python_version()} | {name: _version_of(name) for name in _RECORDED_PACKAGES}


def source_commit() -> str:
    """Commit of the source tree this module lies in, with "+" where files were changed; empty outside a repository."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def save_run(path: Path, record: RunRecord, detector: AnyDetector) -> None:
    """Writes weights, then the record: a folder with a `run.json` is a whole run."""
    tensors: dict[str, torch.Tensor] = {
        # contiguous: the networks work channels-last, the file is in the plain order of (out, in, height, width)
        name: value.detach().to("cpu").contiguous()
        for name, value in detector.state_dict().items()
    }
    write_atomically(path / WEIGHTS_NAME, save(tensors))
    write_atomically(path / RECORD_NAME, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def load_run(path: Path) -> Run:
    """Reads a finished run.

    Args:
        path: The run's folder.

    Raises:
        RunError: It is missing, unfinished, damaged, or of a version this code does not know.
    """
    record_path, weights_path = path / RECORD_NAME, path / WEIGHTS_NAME
    if not record_path.is_file():
        state = (
            f"it is unfinished: go on with `onbelt train ... --out {path} --resume`"
            if (path / CHECKPOINT_NAME).is_file()
            else "train one with `onbelt train DATA --model NAME --out RUN`"
        )
        raise RunError(f"{path}: expected a finished run with {RECORD_NAME}; {state}")
    try:
        version = msgspec.json.decode(record_path.read_bytes(), type=dict).get("schema")
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{record_path}: expected schema {SCHEMA_VERSION}, got {version}; use the version of onbelt it was made with"
            )
        record = msgspec.json.decode(record_path.read_bytes(), type=RunRecord)
        detector: AnyDetector = family_of(record.config).empty(record.config)
        detector.load_state_dict(load(weights_path.read_bytes()))
    except FileNotFoundError as exc:
        raise RunError(f"{path}: {weights_path.name} is missing; copy the whole folder, or train again") from exc
    except _UNUSABLE as exc:
        said = " ".join(str(exc).split())[:_MOST_SAID]  # torch names every tensor that does not fit
        raise RunError(
            f"{path}: the run is damaged or does not fit its own record: {said}; copy the whole folder, or train again"
        ) from exc
    return Run(path, record, detector.eval().requires_grad_(requires_grad=False))
