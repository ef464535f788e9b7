"""ONNX to plan, with TensorRT's own parser and builder, in a way that holds from 10.3 to 11.

The network is strongly typed: what is INT8 and what is float stands in the model (Q/DQ), and TensorRT decides kernels, not
precision. So there is no calibrator here, no precision flag, and no surprise between a box and the certificate. Version 11
removed all of those; STRONGLY_TYPED is still there and has no effect.

No GPU is needed to parse; to build one is (TensorRT-RTX builds without, which is how this code is tested on any machine).
"""

import time
from dataclasses import dataclass
from typing import Any

from edge.engine.adapter import expect_same
from edge.engine.onnx_file import Graph
from edge.engine.tensorrt.settings import Settings
from edge.engine.tensorrt.vendor import Log, Progress, make_monitor
from edge.errors import EngineError

_SHOWN_ERRORS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """A built engine.

    Attributes:
        plan: serialized engine: native code for this GPU, this TensorRT. timing_cache: what the builder learned, to build faster.
        warnings: what TensorRT warned of. build_s: how long it took.
    """

    plan: bytes
    timing_cache: bytes
    warnings: tuple[str, ...]
    build_s: float


def build_plan(
    trt: Any, model: bytes, graph: Graph, settings: Settings, timing_cache: bytes = b"", report: Progress | None = None
) -> Plan:
    """Build.

    Args:
        trt: the tensorrt module.
        model: ONNX file that passed `check_contract` and `check_quantization`.
        graph: what `check_contract` found.
        settings: workspace, optimization level and the like.
        timing_cache: of an earlier build on this machine; one that does not fit is ignored.
        report: told of progress.

    Raises:
        EngineError: TensorRT's parser refuses the model (the message names the first nodes), the parsed network has other inputs
            and outputs, or TensorRT cannot build it.
    """
    begun = time.monotonic()
    what = f"tensorrt {trt.__version__}"
    log = Log(trt)
    builder = trt.Builder(log.handle)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.handle)
    if not parser.parse(model):
        raise EngineError(f"{what}: cannot build the model, its parser refuses it: {_parser_errors(parser)}; export again")
    expect_same(what, {**_ports(trt, network, "input"), **_ports(trt, network, "output")}, graph)
    config, cache = _configure(trt, builder, settings, timing_cache)
    monitor = make_monitor(trt, report) if report is not None else None  # TensorRT keeps no reference to it
    if monitor is not None:
        config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if built is None:
        said = "; ".join(log.errors[:_SHOWN_ERRORS]) or "it gave no reason"
        raise EngineError(f"{what}: cannot build the model ({said}); free GPU memory, or raise workspace_mib in tensorrt.toml")
    learned = bytes(cache.serialize()) if cache is not None else b""
    return Plan(bytes(built), learned, tuple(log.warnings), time.monotonic() - begun)


def _configure(trt: Any, builder: Any, settings: Settings, timing_cache: bytes) -> tuple[Any, Any]:
    """The builder's configuration, and the timing cache in it."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * 2**20)
    config.builder_optimization_level = settings.optimization_level
    config.avg_timing_iterations = settings.timing_iterations
    # Names and types of the layers stay in the plan, for the profile; it costs nothing while running.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    cache = None
    for content in dict.fromkeys((timing_cache, b"")):
        cache = config.create_timing_cache(content)
        # A cache of another GPU or version is not accepted; then an empty one is.
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            break
    return config, cache


def _parser_errors(parser: Any) -> str:
    errors = [parser.get_error(i) for i in range(min(parser.num_errors, _SHOWN_ERRORS))]
    texts = [f"{error.node_operator()} {error.node_name()!r}: {' '.join(error.desc().split())[:200]}" for error in errors]
    more = parser.num_errors - len(errors)
    return "; ".join(texts or ["it gave no reason"]) + (f"; and {more} more" if more > 0 else "")


def _ports(trt: Any, network: Any, kind: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    count, get = (network.num_inputs, network.get_input) if kind == "input" else (network.num_outputs, network.get_output)
    tensors = [get(i) for i in range(count)]
    return {tensor.name: (type_name(trt, tensor.dtype), tuple(tensor.shape)) for tensor in tensors}


def type_name(trt: Any, kind: Any) -> str:
    """A trt.DataType as the contract spells it."""
    return {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32"}.get(kind, str(kind))
