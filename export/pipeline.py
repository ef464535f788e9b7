"""From a trained run to a signed bundle, step by step.

fuse -> write the float graph -> measure ranges -> write Q/DQ -> score held-out good parts with the engine of the box
     -> fit the limit -> certify against float, or widen the mix (`export.equality`) -> golden frames -> pack and sign
"""

import datetime
import importlib.metadata
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from calibration.damage import damaged_frames
from calibration.limit import FittedLimit, fit_limit
from edge.bundle import format as layout
from edge.bundle.manifest import BRANCHES, SCHEMA_VERSION, Limit, Manifest, Provenance
from export.certificate import Certificate, agreement_of
from export.equality import Judged, Promise, find_equal, gather, judge
from export.pack import golden_members, write_bundle
from export.passes import passes_of
from export.run_graph import build_engine, score_all
from training.networks.detector import Fusion

if TYPE_CHECKING:
    from training.run import Run

logger = logging.getLogger(__name__)

RANGE_PICTURES = 48
CERTIFICATE_DAMAGED = 3400
"""With 600 held-out good parts 4,000 pictures: 0.2 % then allows two changed verdicts, three where one graph is tried."""

NEAR_FROM = 150
"""Damaged training parts, of which those nearest the limit show what each convolution's rounding does."""

AGREEMENT_PICTURES = 120
GOLDEN_GOOD, GOLDEN_DAMAGED = 2, 2
BUDGET_HEADROOM = 3.0
"""The budget is this many times the p99 here: boxes are slower than export machines, and a model that needs more is wrong."""

PRECISIONS = ("int8", "fp32")
_PACKAGES = ("onbelt", "numpy", "onnx", "onnxruntime", "openvino", "torch")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is asked for.

    Attributes:
        out: the bundle. name, product, version: for the manifest. precision: one of PRECISIONS.
        false_reject, confidence: the limit's promise. weight_levels: 63 or 127, see `Quantization`.
        inspected: share of the maps' cells that count in the run's detector (`training.inspection`).
    """

    out: Path
    name: str
    product: str
    version: int
    precision: str = "int8"
    false_reject: float = 0.005
    confidence: float = 0.95
    weight_levels: int = 63
    inspected: float = 1.0


@dataclass(frozen=True, slots=True)
class Exported:
    """What came out.

    Attributes:
        size_bytes: of the bundle. limit: what was fitted. certificate: what was proved.
        infer_ms: p50 and p99 of the default engine on this machine. seconds: the export took.
    """

    size_bytes: int
    limit: FittedLimit
    certificate: Certificate
    infer_ms: dict[str, float]
    seconds: float


def export_run(
    run: "Run", held_out: NDArray[np.uint8], train: NDArray[np.uint8], key: Ed25519PrivateKey, request: ExportRequest
) -> Exported:
    """Export one run.

    Args:
        run: the trained run.
        held_out: (N, size, size, 3) good parts that shaped neither networks nor score.
        train: (M, size, size, 3) good parts for activation ranges.
        key: signs the manifest.
        request: the rest.

    Raises:
        DataError: too few held-out parts, or a limit that is not above 0.
        EngineError: an engine refuses the graph.
        BundleError: the bundle would break the format.
    """
    began = time.monotonic()
    size, promise = run.config.size, Promise(request.false_reject, request.confidence)
    passes = passes_of(run.detector)
    float_graph = passes.float_graph()
    damaged = damaged_frames(held_out, CERTIFICATE_DAMAGED, seed=2)
    quantizer = None
    if request.precision == "int8":
        good = train[:: max(1, len(train) // RANGE_PICTURES)][:RANGE_PICTURES]
        shown = np.concatenate([good, damaged_frames(good, RANGE_PICTURES, seed=1)])
        logger.info("measuring activations on %d good and damaged pictures", len(shown))
        quantizer = passes.quantizer(shown, request.weight_levels)
    more = damaged_frames(train, NEAR_FROM if quantizer is not None and quantizer.macs else 0, seed=3)
    witnesses = gather(float_graph, size, held_out, damaged, more, promise)
    if quantizer is None:
        judged = judge(float_graph, request.precision, size, witnesses)
    else:
        judged = find_equal(quantizer, size, witnesses)
    limit, shipped = judged.limit, judged.model
    held_scores, damaged_scores = judged.good, judged.damaged
    with build_engine(shipped, size, request.precision, "openvino") as engine:
        timing = _latency(engine, held_out)
        engine_name = engine.name
    certificate = _with_reference_engine(judged, size, request.precision, (held_out, damaged))
    golden = _golden(held_out, held_scores, damaged, damaged_scores, limit.value)
    members = {
        layout.MODEL: shipped.SerializeToString(),
        layout.CERTIFICATE: msgspec.json.format(msgspec.json.encode(certificate), indent=1) + b"\n",
        **golden_members(
            [(label, frame) for label, frame, _ in golden], np.stack([row for *_, row in golden]), limit.value, engine_name
        ),
    }
    manifest = _manifest(run, request, limit, held_scores, certificate, timing["p99"])
    size_bytes = write_bundle(request.out, manifest, members, key)
    return Exported(size_bytes, limit, certificate, timing, time.monotonic() - began)


def _with_reference_engine(
    judged: Judged, size: int, precision: str, frames: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> Certificate:
    """The certificate with how far OpenVINO and ONNX Runtime are apart."""
    half = AGREEMENT_PICTURES // 2
    few = np.concatenate([frames[0][:half], frames[1][:half]])
    with build_engine(judged.model, size, precision, "onnxruntime") as engine:
        other = score_all(engine, few, "scoring with the reference engine")[:, 0]
    mine = np.concatenate([judged.good[:half, 0], judged.damaged[:half, 0]])
    return msgspec.structs.replace(
        judged.certificate, engines_max=float(np.abs(mine - other).max() / judged.limit.value), engines_pictures=len(few)
    )


def _golden(
    good: NDArray[np.uint8],
    good_scores: NDArray[np.float64],
    damaged: NDArray[np.uint8],
    damaged_scores: NDArray[np.float64],
    limit: float,
) -> list[tuple[str, NDArray[np.uint8], NDArray[np.float64]]]:
    """Good frames spread over their scores, the one nearest below the limit, and damaged ones spread over theirs."""
    chosen = []
    order = np.argsort(good_scores[:, 0])
    for number, place in enumerate(np.linspace(0.02, 0.9, GOLDEN_GOOD), start=1):
        i = int(order[int(place * (len(order) - 1))])
        chosen.append((f"good-{number}", good[i], good_scores[i]))
    passing = [int(i) for i in order if good_scores[i, 0] <= limit]
    if passing:
        chosen.append(("borderline", good[passing[-1]], good_scores[passing[-1]]))
    bad = np.argsort(damaged_scores[:, 0])
    for number, place in enumerate(np.linspace(0.4, 0.95, GOLDEN_DAMAGED), start=1):
        i = int(bad[int(place * (len(bad) - 1))])
        chosen.append((f"damaged-{number}", damaged[i], damaged_scores[i]))
    return chosen


def _latency(engine: object, frames: NDArray[np.uint8], n: int = 60) -> dict[str, float]:
    """Milliseconds of one inference on this machine."""
    times = []
    for i in range(n):
        start = time.perf_counter_ns()
        engine.infer(frames[i % len(frames)])  # type: ignore[attr-defined]
        times.append((time.perf_counter_ns() - start) / 1e6)
    return {"p50": float(np.quantile(times, 0.5)), "p99": float(np.quantile(times, 0.99))}


def _manifest(
    run: "Run", request: ExportRequest, limit: FittedLimit, scores: NDArray[np.float64], certificate: Certificate, p99_ms: float
) -> Manifest:
    record = run.record
    branches = {}
    for i, name in enumerate(BRANCHES, start=1):
        branches[name] = max(fit_limit(scores[:, i], request.false_reject, request.confidence).value, 1e-6)
    return Manifest(
        schema=SCHEMA_VERSION,
        name=request.name,
        product=request.product,
        version=request.version,
        model=str(record.config.model),
        size=record.config.size,
        color="rgb",
        resize="stretch-bilinear",
        precision=request.precision,
        created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        limit=Limit(
            raw=limit.value,
            false_reject=limit.false_reject,
            confidence=limit.confidence,
            kind=limit.kind.value,
            n=limit.n,
            branches=branches,
        ),
        calibration=[float(v) for v in np.sort(scores[:, 0])],
        agreement=agreement_of(certificate),
        budget_ms=round(BUDGET_HEADROOM * p99_ms, 1),
        members={},
        inspected=request.inspected,
        uncounted=Fusion(*run.detector.fusion.tolist()).uncounted,
        provenance=Provenance(
            data_sha256=record.data_sha256,
            seed=record.config.seed,
            steps=record.steps,
            recipe=msgspec.to_builtins(record.config.knobs)["recipe"],
            teacher=record.teacher_sha256,
            commit=record.commit,
            packages={name: importlib.metadata.version(name) for name in _PACKAGES},
            notes=limit.promise(),
        ),
    )
