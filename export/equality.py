"""Find the INT8 graph to ship: the fastest mix that is certified equal to the float graph, or one that says it is not.

All graphs are judged on the same held-out good and damaged pictures, by the engine of the box. The float scores are computed
once. A mix that has changed more verdicts than its bound allows is given up at once; pictures nearest the limit come first, so
that is soon.
"""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.limit import FittedLimit, fit_limit
from edge.engine.base import Engine
from edge.errors import DataError
from export.certificate import Certificate, Mix, allowed_flips, certify, said_of
from export.quantize.scheme import Form
from export.run_graph import as_row, build_engine, progress_of, score_all
from export.search import AIMS, Layer, candidates

if TYPE_CHECKING:
    from export.passes import Quantizer

logger = logging.getLogger(__name__)

NEAR_PICTURES = 32
"""On which each convolution's error is measured: an error of 12 % of a mean of squares, and under a minute in all."""

NO_ENGINES = (np.zeros(1), np.zeros(1))


@dataclass(frozen=True, slots=True)
class Promise:
    """Attributes: false_reject, confidence: of the limit, see `calibration.limit.fit_limit`."""

    false_reject: float
    confidence: float

    def limit(self, raw: NDArray[np.float64]) -> FittedLimit:
        """Fit the limit on raw scores of good parts."""
        return fit_limit(raw, self.false_reject, self.confidence)


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What graphs are judged on.

    Attributes:
        good, damaged: (N, size, size, 3) uint8 held-out pictures. float_good, float_damaged: (N,) raw scores of the float graph.
        near: pictures of training parts, near the limit. float_near: (N,) their raw scores.
        promise: of the limits.
    """

    good: NDArray[np.uint8]
    damaged: NDArray[np.uint8]
    float_good: NDArray[np.float64]
    float_damaged: NDArray[np.float64]
    near: NDArray[np.uint8]
    float_near: NDArray[np.float64]
    promise: Promise

    @property
    def float_limit(self) -> float:
        """The limit of the float graph, fitted as the shipped one's is."""
        return self.promise.limit(self.float_good).value

    @property
    def distances(self) -> NDArray[np.float64]:
        """How far from the limit the float scores are, in units of the limit; without the part that set it, which cannot flip."""
        apart: NDArray[np.float64] = np.abs(np.concatenate([self.float_good, self.float_damaged]) / self.float_limit - 1.0)
        return np.delete(apart, np.flatnonzero(apart == 0.0)[:1])

    @property
    def pictures(self) -> int:
        """How many graphs are judged on."""
        return len(self.good) + len(self.damaged)


@dataclass(frozen=True, slots=True)
class Judged:
    """A graph, judged.

    Attributes:
        model: the graph. good, damaged: (N, 4) scores. limit: fitted on `good`. certificate: still without the other engine.
    """

    model: ModelProto
    good: NDArray[np.float64]
    damaged: NDArray[np.float64]
    limit: FittedLimit
    certificate: Certificate


def gather(
    float_graph: ModelProto, size: int, held_out: NDArray[np.uint8], damaged: NDArray[np.uint8], more: NDArray[np.uint8],
    promise: Promise,
) -> Witnesses:  # fmt: skip
    """Score everything with the float graph.

    Args:
        float_graph: the reference.
        size: side of the input, pixels.
        held_out: good parts that shaped nothing.
        damaged: made from them.
        more: damaged training parts; those nearest the limit are kept.
        promise: of the limits.
    """
    with build_engine(float_graph, size, "fp32", "openvino") as engine:
        good = score_all(engine, held_out, "scoring good parts in float")[:, 0]
        bad = score_all(engine, damaged, "scoring damaged pictures in float")[:, 0]
        others = score_all(engine, more, "scoring damaged training parts in float")[:, 0]
    limit = promise.limit(good).value
    if not limit > 0:
        raise DataError(f"expected a limit above 0, got {limit}: the run's score is not calibrated; train again")
    nearest = np.argsort(np.abs(np.log(np.maximum(others, 1e-12) / limit)))[:NEAR_PICTURES]
    return Witnesses(held_out, damaged, good, bad, more[nearest], others[nearest], promise)


def find_equal(quantizer: "Quantizer", size: int, seen: Witnesses) -> Judged:
    """Try graphs until one is certified; where none is, give the fastest of them, whose certificate says so.

    Args:
        quantizer: writes the graphs.
        size: side of the input, pixels.
        seen: what they are judged on.
    """
    if not quantizer.macs:
        return judge(quantizer.graph(), "int8", size, seen)
    layers = measure_layers(quantizer, size, seen)
    worth_trying = candidates(layers, seen.distances, allowed_flips(seen.pictures, Mix(allowed=len(AIMS)).confidence))
    # How many will be tried is known before the first is, and fewer tries leave each a wider bound.
    allowed = allowed_flips(seen.pictures, Mix(allowed=len(worth_trying)).confidence)
    blame = {name: layer.errors[Form.INT8] for name, layer in layers.items()}
    fastest = None
    for tried, forms in enumerate(worth_trying, start=1):
        left = {name: layers[name].errors[form] for name, form in forms.items() if form is not Form.FLOAT}
        mix = Mix(forms, tried, len(worth_trying), blame, left)
        more = [f"{name} {form.value}" for name, form in forms.items() if form is not Form.INT8]
        logger.info("trying %s", ", ".join(more) or "plain INT8")
        judged = _judge(quantizer.graph(forms), "int8", size, seen, mix, None if fastest is None else allowed)
        if judged is not None and judged.certificate.equal:
            return judged
        fastest = fastest or judged
        if judged is None:
            said = f"given up, more than {allowed} of {seen.pictures} verdicts changed; to blame: {said_of(mix.left)}"
        else:
            said = "; ".join(judged.certificate.why_not)
        logger.info("not certified: %s", said)
    if fastest is None:
        raise RuntimeError("expected at least one mix to try")
    return replace(fastest, certificate=msgspec.structs.replace(fastest.certificate, tried=mix.tried))


def judge(model: ModelProto, precision: str, size: int, seen: Witnesses, mix: Mix | None = None) -> Judged:
    """Judge one graph to the end.

    Args:
        model: the graph.
        precision: as the manifest will say.
        size: side of the input, pixels.
        seen: what it is judged on.
        mix: which graph this is; None for the only one.
    """
    judged = _judge(model, precision, size, seen, mix or Mix())
    if judged is None:
        raise RuntimeError("a graph was given up that was to be judged to the end")
    return judged


def measure_layers(quantizer: "Quantizer", size: int, seen: Witnesses) -> dict[str, Layer]:
    """Give every convolution that may be quantized the error it makes when it alone is, in each form."""
    scale = np.maximum(seen.float_near, seen.float_limit)  # far above the limit deviations grow with the score
    plain = dict.fromkeys(quantizer.macs, Form.FLOAT)
    layers = {}
    for name, macs in quantizer.macs.items():
        errors = {}
        for form in (Form.INT8, Form.TWOFOLD):
            with build_engine(quantizer.graph({**plain, name: form}), size, "int8", "openvino") as engine:
                apart = (score_all(engine, seen.near, f"{name} alone {form.value}")[:, 0] - seen.float_near) / scale
            errors[form] = float((apart**2).mean())
        layers[name] = Layer(macs, errors)
        logger.info(
            "%s alone: deviation %.4f of the limit, twofold %.4f", name, errors[Form.INT8] ** 0.5, errors[Form.TWOFOLD] ** 0.5
        )
    return layers


def _judge(model: ModelProto, precision: str, size: int, seen: Witnesses, mix: Mix, flips: int | None = None) -> Judged | None:
    """Score, fit the limit, certify; None once more than `flips` verdicts have changed."""
    with build_engine(model, size, precision, "openvino") as engine:
        good = score_all(engine, seen.good, "scoring held-out good parts")
        limit = seen.promise.limit(good[:, 0])
        if not limit.value > 0:
            raise DataError(f"expected a limit above 0, got {limit.value}: the run's score is not calibrated; train again")
        changed = int(((good[:, 0] > limit.value) != (seen.float_good > seen.float_limit)).sum())
        left = seen.pictures if flips is None else flips - changed
        damaged = _score_nearest_first(engine, seen, limit.value, left)
    return None if damaged is None else Judged(model, good, damaged, limit, _certificate(seen, good, damaged, limit.value, mix))


def _score_nearest_first(engine: Engine, seen: Witnesses, limit: float, flips_left: int) -> NDArray[np.float64] | None:
    """Scores of the damaged pictures, (N, 4), or None once more verdicts than `flips_left` have changed."""
    rows = np.empty((len(seen.damaged), 4))
    float_limit = seen.float_limit
    progress = progress_of("scoring damaged pictures")
    for done, i in enumerate(np.argsort(np.abs(seen.float_damaged - float_limit)), start=1):
        rows[i] = as_row(engine.infer(seen.damaged[i]))
        flips_left -= bool((rows[i, 0] > limit) != (seen.float_damaged[i] > float_limit))
        if flips_left < 0:
            return None
        progress(done, len(rows))
    return rows


def _certificate(seen: Witnesses, good: NDArray[np.float64], damaged: NDArray[np.float64], limit: float, mix: Mix) -> Certificate:
    scores = (seen.float_good, seen.float_damaged), (good[:, 0], damaged[:, 0])
    return certify(*scores, (seen.float_limit, limit), NO_ENGINES, "fp32", mix)
