"""Run a graph of ours over many frames with the very engines of the box."""

import logging
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edge.engine import onnxruntime, openvino
from edge.engine.base import Engine, Scores
from edge.engine.machine import available_cores
from edge.engine.onnx_file import check_contract
from edge.errors import EngineError

logger = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 5.0


def build_engine(model: ModelProto, size: int, precision: str, backend: str, threads: int | None = None) -> Engine:
    """Build an engine for a graph that is not in a bundle yet.

    Args:
        model: the graph.
        size: as the manifest will say.
        precision: as the manifest will say.
        backend: "openvino" or "onnxruntime".
        threads: CPU threads, None for all.

    Raises:
        EngineError: another backend, or the engine refuses the graph.
    """
    builders = {"openvino": openvino.build, "onnxruntime": onnxruntime.build}
    if backend not in builders:
        raise EngineError(f"expected an engine of {', '.join(builders)}, got {backend!r}")
    content = model.SerializeToString()
    return builders[backend](content, check_contract(content, size, precision), threads or available_cores())


def score_all(engine: Engine, frames: NDArray[np.uint8], what: str) -> NDArray[np.float64]:
    """Score frames one by one.

    Args:
        engine: an open engine.
        frames: (N, size, size, 3) uint8.
        what: for the progress line.

    Returns:
        (N, 4) float64 [raw, st, ae, global].
    """
    rows = np.empty((len(frames), 4))
    progress = progress_of(what)
    for i, frame in enumerate(frames):
        rows[i] = as_row(engine.infer(frame))
        progress(i + 1, len(frames))
    return rows


def progress_of(what: str) -> Callable[[int, int], None]:
    """Make a function (done, total) that logs a line every five seconds."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _PROGRESS_EVERY_S:
            last = time.monotonic()
            logger.info("%s: %d of %d", what, done, total)

    return report


def as_row(scores: Scores) -> tuple[float, float, float, float]:
    """[raw, st, ae, global]."""
    return scores.raw, scores.st, scores.ae, scores.global_
