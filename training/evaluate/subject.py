"""What is evaluated: a signed bundle on the engine of the box, or a run's float network in torch.

A bundle brings its limit. A run has none yet, so its parts are held against the largest score of the validation parts: enough
to draw curves around, and called what it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import SCHEMA_VERSION, Limit, Manifest, Provenance
from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore
from edge.engine import open_engine
from edge.engine.base import Engine, LayerTime, Scores
from edge.errors import ConfigError, DataError, EngineError
from edge.judge import Judge
from training.datasets import Dataset, Item, load_frames, open_dataset

if TYPE_CHECKING:
    from training.run import Run

ENGINES = ("auto", "openvino", "onnxruntime", "torch")
LARGEST_SEEN = "largest validation score"
"""Kind of a limit that promises nothing: the largest score of the validation parts."""

_SMALLEST_LIMIT = 1e-6  # scores are divided by limits; validation parts of one score could give 0


@dataclass(frozen=True)
class Subject:
    """A model ready to judge.

    Attributes:
        name: for people. engine: who scores. judge: who decides. limit: what the judge holds parts against.
        data: the data set, split as the model's training split it.
        items: the pictures to judge.
        provenance: where the model comes from, label -> text. warnings: what must be known before it is trusted.
    """

    name: str
    engine: Engine
    judge: Judge
    limit: Limit
    data: Dataset
    items: list[Item]
    provenance: dict[str, str]
    warnings: tuple[str, ...] = ()


def open_subject(model: Path, data: Path, *, engine: str = "auto", trust: TrustStore | None = None) -> Subject:
    """Open a model and the data set it is to judge.

    Args:
        model: a bundle file, or the folder of a run.
        data: a data set's folder.
        engine: "auto", "openvino" or "onnxruntime" for a bundle; "auto" or "torch" for a run.
        trust: keys to believe a bundle's signature by.

    Raises:
        BundleError, SignatureError: the bundle is not to be used.
        RunError: the run is not to be used.
        DataError: the data set is not to be used, or has nothing to judge this model by.
        ConfigError: there is neither, or the engine does not run this kind of model.
    """
    if not model.exists():
        raise ConfigError(f"{model}: no such file or folder; expected a bundle, NAME.onbelt, or the folder of a run")
    if model.is_dir():
        return _open_run(model, data, engine)
    return _open_bundle(model, data, engine, trust or TrustStore())


def _open_bundle(path: Path, data: Path, backend: str, trust: TrustStore) -> Subject:
    if backend == "torch":
        raise ConfigError(f"{path}: expected --engine openvino or onnxruntime for a bundle, got torch; torch runs a run's folder")
    bundle = open_bundle(path, trust)
    manifest = bundle.manifest
    dataset = open_dataset(data, manifest.provenance.seed, need_train=False)
    items = dataset.test
    if not items:
        # A plain folder of good parts still tells how many of them are rejected, unless the limit was fitted on them.
        if dataset.data_sha256 == manifest.provenance.data_sha256:
            raise DataError(f"{data}: no test pictures, and the others made this model; give pictures it has not seen")
        items = [*dataset.train, *dataset.validation]
    made = manifest.provenance
    provenance = {
        "bundle": f"{path.name}, version {manifest.version} of {manifest.product}, {manifest.precision} at {manifest.size} px",
        "bundle hash": bundle.sha256,
        "signed by key": bundle.key_id,
        "made": manifest.created_utc,
        **({"inspected": f"{manifest.inspected:.0%} of the picture"} if manifest.inspected < 1 else {}),
        **_trained(manifest.model, made.recipe, made.steps, made.seed, made.teacher, made.commit, made.packages),
        "training data hash": _same_data(made.data_sha256, dataset),
        **({"notes": made.notes} if made.notes else {}),
    }
    return Subject(
        name=manifest.name,
        engine=open_engine(bundle, backend),
        judge=Judge(manifest),
        limit=manifest.limit,
        data=dataset,
        items=items,
        provenance=provenance,
    )


def _open_run(path: Path, data: Path, backend: str) -> Subject:
    if backend not in {"auto", "torch"}:
        raise ConfigError(
            f"{path}: expected --engine torch for a run, got {backend}; onbelt export makes the bundle {backend} runs"
        )
    from training.networks.detector import Fusion
    from training.run import load_run

    run = load_run(path)
    record, config = run.record, run.config
    dataset = open_dataset(data, config.seed, need_train=False)
    if not dataset.test:
        raise DataError(f"{data}: no test pictures; expected test/{{good,TYPE}}")
    if not dataset.validation:
        raise DataError(f"{data}: no validation pictures; a run has no limit of its own, so some good parts must set one")
    engine = TorchEngine(run)
    uncounted = Fusion(*run.detector.fusion.tolist()).uncounted
    manifest = improvised_manifest(path.resolve().name, dataset.validation, engine, uncounted)
    teacher = f"{record.teacher_sha256[:16]} (sha256)"
    recipe = type(config.knobs).__name__.removesuffix("Knobs").lower()
    provenance = {
        "run": f"{path.resolve().name}, product {record.product}, {config.size} px",
        "made": record.created_utc,
        **_trained(config.model, recipe, record.steps, config.seed, teacher, record.commit, record.packages),
        "trained for": f"{record.wall_s:.0f} s on {record.pictures}",
        "training data hash": _same_data(record.data_sha256, dataset),
    }
    return Subject(
        name=manifest.name,
        engine=engine,
        judge=Judge(manifest),
        limit=manifest.limit,
        data=dataset,
        items=dataset.test,
        provenance=provenance,
        warnings=tuple(record.warnings),
    )


def _trained(
    model: str, recipe: str, steps: int, seed: int, teacher: str, commit: str, packages: dict[str, str]
) -> dict[str, str]:
    return {
        "model": model,
        "recipe": f"{recipe}, {steps} steps, seed {seed}",
        "teacher": teacher,
        "source commit": commit or "unknown",
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
    }


def _same_data(trained_on: str, data: Dataset) -> str:
    same = "the train and validation pictures of this data set" if trained_on == data.data_sha256 else "other pictures than these"
    return f"{trained_on} ({same})"


class TorchEngine:
    """A run's float network behind the engine protocol."""

    def __init__(self, run: "Run") -> None:
        import torch

        self._torch = torch
        self._detector = run.detector.eval()
        self._device = next(self._detector.parameters()).device

    @property
    def name(self) -> str:
        """Which engine this is and how it runs, for people."""
        return f"torch {self._torch.__version__} float32 {self._device}"

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return int(self._detector.size)

    def infer(self, frame: NDArray[np.uint8]) -> Scores:
        """Score one frame.

        Args:
            frame: (size, size, 3) uint8 RGB.
        """
        with self._torch.inference_mode():
            scores, map_st, map_ae = self._detector(self._torch.from_numpy(frame.copy())[None].to(self._device))
        raw, st, ae, global_ = (float(value) for value in scores.cpu())
        return Scores(raw, st, ae, global_, map_st.cpu().numpy(), map_ae.cpu().numpy())

    def profile(self, frame: NDArray[np.uint8], runs: int) -> tuple[LayerTime, ...]:
        """Always refuses: what a box spends is told by the engine of a bundle."""
        del frame, runs
        raise EngineError(f"{self.name} does not time its layers; export the run, then: onbelt bench BUNDLE --profile 20")

    def close(self) -> None:
        """Nothing to free; torch frees the network with the object."""

    def __enter__(self) -> "TorchEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def improvised_manifest(name: str, validation: Sequence[Item], engine: Engine, uncounted: list[str]) -> Manifest:
    """Make a manifest for a model without a limit, holding parts against the largest scores of validation parts.

    Args:
        name: the model's name.
        validation: good parts the network has not learnt from.
        engine: who scores.
        uncounted: branches without weight in its score.
    """
    scores = [engine.infer(frame) for frame in load_frames(validation, engine.size)]

    def largest(values: list[float]) -> float:
        return max(_SMALLEST_LIMIT, *values)

    calibration = sorted(one.raw for one in scores)
    limit = Limit(
        raw=largest(calibration),
        false_reject=1.0 / (len(scores) + 1),
        confidence=0.0,
        kind=LARGEST_SEEN,
        n=len(scores),
        branches={
            "st": largest([one.st for one in scores]),
            "ae": largest([one.ae for one in scores]),
            "global": largest([one.global_ for one in scores]),
        },
    )
    return Manifest(
        schema=SCHEMA_VERSION,
        name=name,
        product=name,
        version=0,
        model=name,
        size=engine.size,
        color="rgb",
        resize="stretch-bilinear",
        precision="fp32",
        created_utc="",
        limit=limit,
        calibration=calibration,
        agreement=0.0,
        budget_ms=0.0,
        members={},
        uncounted=uncounted,
        provenance=Provenance("", 0, 0, "", "", "", {}),
    )
