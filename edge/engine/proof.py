"""Proof that a model works on this machine: its golden frames give the scores they must, within its time.

Used by `onbelt check` and by whatever is about to switch to a model.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.reader import Bundle
from edge.engine.base import Engine, Scores

WARM_UP_FRAMES = 5  # the first calls allocate and fault pages in; they say nothing about the line


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """One golden frame judged again.

    Attributes:
        picture: member name. expected: [raw, st, ae, global] as stored. got: the same, by this engine.
        difference: |raw - expected raw| / limit.
        holds: the difference is within the manifest's agreement, and the verdict is the stored one unless the stored score
            lies so close to the limit that the agreement spans it.
    """

    picture: str
    expected: tuple[float, ...]
    got: tuple[float, ...]
    difference: float
    holds: bool


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Times of one stage in milliseconds: nearest-rank percentiles, so each is a time that was measured."""

    p50: float
    p99: float
    p999: float
    n: int


def replay_golden(bundle: Bundle, engine: Engine) -> tuple[GoldenResult, ...]:
    """Judge all golden frames of a bundle again.

    Args:
        bundle: a verified bundle.
        engine: the engine that is to run it.

    Raises:
        BundleError: a golden picture cannot be decoded.
        EngineError: the engine fails on a golden frame.
    """
    limit, agreement = bundle.manifest.limit.raw, bundle.manifest.agreement
    results = []
    for golden in bundle.golden:
        got = _as_tuple(engine.infer(bundle.picture(golden.picture)))
        stored = golden.scores[0]
        difference = abs(got[0] - stored) / limit
        near = abs(stored - limit) <= agreement * limit
        same_verdict = ("pass" if got[0] <= limit else "reject") == golden.verdict
        results.append(
            GoldenResult(
                picture=golden.picture,
                expected=tuple(golden.scores),
                got=got,
                difference=difference,
                holds=difference <= agreement and (same_verdict or near),
            )
        )
    return tuple(results)


def measure_inference(engine: Engine, frames: Sequence[NDArray[np.uint8]], n: int) -> Percentiles:
    """Time an engine over the given frames in turn, after a warm-up.

    Args:
        engine: what to time.
        frames: (size, size, 3) uint8 frames, at least one.
        n: number of inferences to time.

    Raises:
        EngineError: an inference failed.
    """
    for turn in range(WARM_UP_FRAMES):
        engine.infer(frames[turn % len(frames)])
    times_ns = np.empty(n, np.int64)
    for turn in range(n):
        frame = frames[turn % len(frames)]
        begin = time.perf_counter_ns()
        engine.infer(frame)
        times_ns[turn] = time.perf_counter_ns() - begin
    return percentiles_of(times_ns)


def percentiles_of(times_ns: NDArray[np.int64]) -> Percentiles:
    """Nearest-rank percentiles of (n,) times in nanoseconds; below 1000 times p999 is the largest of them."""
    ordered = np.sort(times_ns)
    n = len(ordered)
    # In whole per mille: 0.999 * 1000 is not 999 in floating point, and would give the next rank.
    p50, p99, p999 = (float(ordered[-(-n * permille // 1000) - 1]) / 1e6 for permille in (500, 990, 999))
    return Percentiles(p50, p99, p999, n)


def _as_tuple(scores: Scores) -> tuple[float, float, float, float]:
    return scores.raw, scores.st, scores.ae, scores.global_
