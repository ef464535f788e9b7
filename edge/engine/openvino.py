"""OpenVINO on the CPU: the default, about four times ONNX Runtime in INT8 where the CPU has VNNI or AMX.

Deterministic by configuration: one stream, a fixed number of threads with a static partition, and precision f32 for whatever
is not quantized. Left to itself OpenVINO computes in bf16 on CPUs that have it, so that the same model would score otherwise
on another box.

On an x86 CPU without VNNI or AMX an INT8 product adds two u8 x s8 products in 16 bits (vpmaddubsw), which saturates when
weights are large: a 3x3 convolution over 64 channels at full scale came out as 73,440 instead of 9,290,304 (OpenVINO 2026.4,
AVX2). With |weight| <= 64 it cannot happen (2 * 255 * 64 < 2^15), so the exporter gives weights 7 bits (amax / 63), and on such
a CPU this engine refuses a model with larger ones instead of scoring it wrongly.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import openvino

from edge.engine.adapter import Adapter, build_failed, expect_same
from edge.engine.base import OUTPUT_NAMES, LayerTime
from edge.engine.machine import this_machine
from edge.engine.onnx_file import Graph
from edge.errors import EngineError

MAX_SAFE_WEIGHT = 64
_TYPES = {"u8": "uint8", "f32": "float32"}
_WARM_UP_RUNS = 2  # of a profile
_FLOATS = ("f32", "f16", "bf16")


class OpenVinoEngine(Adapter):
    """A compiled model with one inference request over arrays of ours. One thread only: see `Adapter`.

    Args:
        request: of the compiled model.
        counting: compiles the model once more, with a profile's counters, and gives a request of that one.
        name: for people.
        graph: what `check_contract` found.
    """

    def __init__(self, request: Any, counting: Callable[[], Any], name: str, graph: Graph) -> None:
        super().__init__(name, graph)
        self._request = request
        self._counting: Callable[[], Any] | None = counting
        # The request reads and writes our arrays in place: an inference allocates nothing on its way.
        request.set_tensor("frame", openvino.Tensor(self._frame, shared_memory=True))
        for output in OUTPUT_NAMES:
            request.set_tensor(output, openvino.Tensor(self._outputs[output], shared_memory=True))

    def _run(self) -> None:
        self._request.infer()

    def _profile(self, runs: int) -> tuple[LayerTime, ...]:
        """By a second model with counters: they cost time, so the one that judges has none."""
        assert self._counting is not None
        request = self._counting()
        request.set_tensor("frame", openvino.Tensor(self._frame, shared_memory=True))
        for _ in range(_WARM_UP_RUNS):
            request.infer()
        before = request.get_profiling_info()
        for _ in range(runs):
            request.infer()
        return mean_times(before, request.get_profiling_info(), _WARM_UP_RUNS, runs)

    def _free(self) -> None:
        self._request = None
        self._counting = None


def mean_times(before: Sequence[Any], after: Sequence[Any], warm_up: int, runs: int) -> tuple[LayerTime, ...]:
    """Mean times of the layers over the runs after a warm-up, from OpenVINO's counters.

    A counter is the mean of all runs since the model was compiled, in whole microseconds: with the warm-up's share taken away
    the result is right to (warm_up + runs) / runs of one. What took less than one is no layer of the profile.

    Args:
        before: the openvino.ProfilingInfo of every layer after the warm-up.
        after: the same after all runs.
        warm_up: runs before `before`.
        runs: runs after it.
    """
    seconds = {one.node_name: one.real_time.total_seconds() for one in before}
    found = []
    for one in after:
        all_s = one.real_time.total_seconds() * (warm_up + runs)
        mean_ms = (all_s - seconds.get(one.node_name, 0.0) * warm_up) / runs * 1e3
        if one.status == openvino.ProfilingInfo.Status.EXECUTED and mean_ms > 0:
            found.append(LayerTime(one.node_name, mean_ms, precision_of(one.exec_type)))
    return tuple(found)


def precision_of(kernel: str) -> Literal["int8", "float", ""]:
    """What a kernel takes in, by OpenVINO's name of it: "jit_avx2_I8", "brgconv_avx2_f32"; it says I8 of uint8, too."""
    kind = kernel.lower().rpartition("_")[2]
    return "int8" if kind in {"i8", "u8"} else "float" if kind in _FLOATS else ""


def build(model: bytes, graph: Graph, threads: int) -> OpenVinoEngine:
    """Compile a model from memory.

    Args:
        model: ONNX file that passed `check_contract`.
        graph: what `check_contract` found.
        threads: CPU threads.

    Raises:
        EngineError: OpenVINO cannot read or compile the model, or sees other inputs and outputs.
    """
    version = openvino.get_version().split("-")[0]
    what = f"openvino {version}"
    machine = this_machine()
    if graph.weight_peak > MAX_SAFE_WEIGHT and machine.saturates_int8:
        raise EngineError(
            f"{what}: expected INT8 weights within +-{MAX_SAFE_WEIGHT} on a CPU without VNNI ({machine.cpu}), where larger ones "
            f"saturate; got {graph.weight_peak}; export with 7-bit weights, or use --engine onnxruntime"
        )
    try:
        core = openvino.Core()
        parsed = core.read_model(model=model)
        found = {
            port.get_any_name(): (
                _TYPES.get(port.get_element_type().get_type_name(), str(port.get_element_type())),
                tuple(side.get_length() if side.is_static else -1 for side in port.get_partial_shape()),
            )
            for port in (*parsed.inputs, *parsed.outputs)
        }
        expect_same(what, found, graph)
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # the daemon sets affinities itself
        }

        request = core.compile_model(parsed, "CPU", options).create_infer_request()

        def counting() -> Any:
            # Parsed anew: no parsed copy of the weights stays in memory for the sake of a profile.
            return core.compile_model(core.read_model(model=model), "CPU", options | {"PERF_COUNT": True}).create_infer_request()

        return OpenVinoEngine(request, counting, f"{what} {graph.precision} {threads} thread{'s'[: threads > 1]}", graph)
    except EngineError:
        raise
    except Exception as exc:
        raise build_failed(what, exc) from exc
