"""Open TensorRT for a bundle's model: driver, GPU, model, library, engine from the cache or built, runtime. In this order.

Each step can say no with a message before the next could crash.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.engine.onnx_file import Graph
from edge.engine.tensorrt.builder import build_plan
from edge.engine.tensorrt.cache import EngineCache, EngineKey
from edge.engine.tensorrt.cuda import Cuda, open_cuda
from edge.engine.tensorrt.driver import CudaGraph, Driver, Gpu
from edge.engine.tensorrt.quantization import Convolutions, check_quantization
from edge.engine.tensorrt.runtime import TensorRtEngine
from edge.engine.tensorrt.settings import Settings, load_settings
from edge.engine.tensorrt.vendor import Progress, load_tensorrt
from edge.errors import EngineError

logger = logging.getLogger(__name__)

OLDEST_COMPUTE = (7, 2)  # Xavier: the first Jetson with INT8 tensor cores
_POWER_MODE = Path("/var/lib/nvpmodel/status")  # nvpmodel writes the mode there on every Jetson
_REPORT_S = 10.0


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine, and how it came about.

    Attributes:
        built_s: seconds the build took, 0 when it came from the cache. plan_bytes: its size.
        cache: where it is kept. convolutions: which are INT8.
    """

    engine: TensorRtEngine
    gpu: Gpu
    built_s: float
    plan_bytes: int
    cache: Path
    convolutions: Convolutions


def build(model: bytes, graph: Graph, threads: int) -> TensorRtEngine:
    """Open the engine as the registry asks for it; `threads` counts CPU threads, of which there is one here.

    Raises:
        EngineError: no GPU, no TensorRT, the model is not one for it, or it cannot build or run it.
        ConfigError: tensorrt.toml is wrong.
    """
    del threads
    return open_tensorrt(model, graph, load_settings()).engine


def open_tensorrt(
    model: bytes,
    graph: Graph,
    settings: Settings,
    *,
    rebuild: bool = False,
    report: Progress | None = None,
    load: Callable[[], Any] | None = None,
    cuda: Callable[[str], Cuda] | None = None,
    driver: Callable[[], Driver] | None = None,
) -> Opened:
    """Open it.

    Args:
        model: ONNX file that passed `check_contract`.
        graph: what that found.
        settings: of this machine.
        rebuild: do not use a kept engine.
        report: told of a build's progress; None writes it to the log.
        load: gives the tensorrt module in place of `load_tensorrt`; tests bring their own of this and the next two.
        cuda: opens CUDA in this thread, in place of `open_cuda`.
        driver: opens the driver, in place of `Driver`.

    Raises:
        EngineError: as `build`.
    """
    convolutions = check_quantization(model)
    device = (driver or Driver)()
    gpu = device.gpu()
    if gpu.compute < OLDEST_COMPUTE:
        raise EngineError(
            f"expected a GPU of SM {'.'.join(map(str, OLDEST_COMPUTE))} or later (INT8), found {gpu}; use --engine openvino"
        )
    trt = (load or load_tensorrt)()
    key = make_key(model, str(trt.__version__), gpu, settings)
    opened = (cuda or open_cuda)(settings.library)
    try:
        with EngineCache(settings.cache_folder()) as cache:
            plan = None if rebuild else cache.load_engine(key)
            built_s = 0.0
            if plan is None:
                logger.info(
                    "tensorrt %s: building for %s; this takes minutes and is kept in %s", trt.__version__, gpu, cache.folder
                )
                built = build_plan(trt, model, graph, settings, cache.load_timing(key), report or _Reporter())
                plan, built_s = built.plan, built.build_s
                cache.store(key, plan, built.timing_cache)
    except BaseException:
        opened.close()
        raise
    mapped = gpu.maps_host and (settings.memory == "mapped" or (settings.memory == "auto" and gpu.integrated))
    name = f"tensorrt {trt.__version__} {graph.precision} {gpu.name}"
    try:
        engine = TensorRtEngine(
            trt, plan, graph, opened, lambda stream, work: CudaGraph(device, stream, work), mapped=mapped, name=name
        )
    except EngineError as exc:
        if built_s:
            raise
        logger.warning("%s: the kept engine does not run, it is built again: %s", name, exc)
        return open_tensorrt(model, graph, settings, rebuild=True, report=report, load=load, cuda=cuda, driver=driver)
    return Opened(engine, gpu, built_s, len(plan), settings.cache_folder(), convolutions)


def make_key(model: bytes, version: str, gpu: Gpu, settings: Settings) -> EngineKey:
    """The key an engine is kept under: where it is kept and how CUDA is called do not matter to it."""
    building = {
        field: value
        for field, value in msgspec.to_builtins(settings).items()
        if field in {"workspace_mib", "optimization_level", "timing_iterations", "tf32"}
    }
    return EngineKey(
        hashlib.sha256(model).hexdigest(), version, str(gpu), gpu.driver, json.dumps(building, sort_keys=True), power_mode()
    )


def power_mode(status: Path = _POWER_MODE) -> str:
    """What nvpmodel says the Jetson's power mode is, "" where there is no nvpmodel."""
    try:
        return " ".join(status.read_text(errors="replace").split())[:80]
    except OSError:
        return ""


class _Reporter:
    """Writes a build's progress to the log, now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, phase: str, step: int, steps: int) -> bool:
        now = time.monotonic()
        if now - self._last >= _REPORT_S:
            self._last = now
            logger.info("tensorrt: %s, step %d of %d", phase[:80], step, steps)
        return True
