"""Choose an engine by name, or "auto" for the first that works.

"tensorrt" (NVIDIA GPUs; tried by "auto" only where the kernel shows one and tensorrt is installed), "openvino" (the CPU's
fastest), "onnxruntime" (the reference).
"""

import importlib
import importlib.util
import logging
from typing import Protocol, cast

from edge.bundle.reader import Bundle
from edge.engine.base import Engine
from edge.engine.machine import available_cores, gpu_node
from edge.engine.onnx_file import Graph, check_contract
from edge.errors import BundleError, EngineError

logger = logging.getLogger(__name__)

# Each module is imported when its engine is asked for: no box needs all libraries.
_MODULES = {
    "openvino": "edge.engine.openvino",
    "onnxruntime": "edge.engine.onnxruntime",
    "tensorrt": "edge.engine.tensorrt.opening",
}
BACKENDS = ("auto", *_MODULES)


class _Adapter(Protocol):
    def build(self, model: bytes, graph: Graph, threads: int) -> Engine: ...


def open_engine(bundle: Bundle, backend: str = "auto", threads: int | None = None) -> Engine:
    """Build the engine that runs a bundle's model.

    Args:
        bundle: a verified bundle.
        backend: "auto", "openvino", "onnxruntime" or "tensorrt".
        threads: CPU threads to compute with; None takes every core this process may use.

    Raises:
        EngineError: unknown backend, a thread count out of range, library missing or too old for the model.
        BundleError: the model breaks the graph contract of `edge.engine.base`.
    """
    cores = available_cores()
    threads = cores if threads is None else threads
    if not 1 <= threads <= 256:
        raise EngineError(f"expected 1 to 256 threads, got {threads}; this process may use {cores} cores")
    if backend not in BACKENDS:
        raise EngineError(f"expected an engine of {', '.join(BACKENDS)}, got {backend!r}")
    try:
        graph = check_contract(bundle.model, bundle.manifest.size, bundle.manifest.precision)
    except BundleError as exc:
        raise BundleError(f"{bundle.path}: {exc}", member=exc.member) from exc
    if backend != "auto":
        return _adapter(backend).build(bundle.model, graph, threads)
    failures = []
    candidates = _candidates()
    for name in candidates:
        engine = _try(name, bundle.model, graph, threads)
        if not isinstance(engine, EngineError):
            return engine
        failures.append(f"{name}: {engine}")
    raise EngineError(
        f"{bundle.path}: expected one of {', '.join(candidates)} to run the model, none does: {'; '.join(failures)}"
    )


def _candidates() -> tuple[str, ...]:
    """In the order "auto" tries them."""
    gpu = gpu_node() and importlib.util.find_spec("tensorrt") is not None
    return ("tensorrt", "openvino", "onnxruntime") if gpu else ("openvino", "onnxruntime")


def _try(name: str, model: bytes, graph: Graph, threads: int) -> Engine | EngineError:
    try:
        return _adapter(name).build(model, graph, threads)
    except EngineError as exc:
        logger.warning("engine %s cannot run this model, trying the next: %s", name, exc)
        return exc


def _adapter(name: str) -> _Adapter:
    try:
        return cast("_Adapter", importlib.import_module(_MODULES[name]))
    except ImportError as exc:
        raise EngineError(f"engine {name} is not installed here ({exc}); pip install {name}, or choose another engine") from exc
