"""OpenVINO on the CPU: the default, about four times ONNX Runtime in INT8 where the CPU has VNNI or AMX.

Deterministic by configuration: one stream, a fixed number of threads with a static partition, and precision f32 for whatever
is not quantized. Left to itself OpenVINO computes in bf16 on CPUs that have it, so that the same model would score otherwise
on another box.

On an x86 CPU without VNNI or AMX an INT8 product adds two u8 x s8 products in 16 bits (vpmaddubsw), which saturates when
weights are large: a 3x3 convolution over 64 channels at full scale came out as 73,440 instead of 9,290,304 (OpenVINO 2026.4,
AVX2). With |weight| <= 64 it cannot happen (2 * 255 * 64 < 2^15), so the exporter gives weights 7 bits (amax / 63), and on such
a CPU this engine refuses a model with larger ones instead of scoring it wrongly.
"""

from typing import Any

import openvino

from edge.engine.adapter import Adapter, build_failed, expect_same
from edge.engine.base import OUTPUT_NAMES
from edge.engine.machine import this_machine
from edge.engine.onnx_file import Graph
from edge.errors import EngineError

MAX_SAFE_WEIGHT = 64
_TYPES = {"u8": "uint8", "f32": "float32"}


class OpenVinoEngine(Adapter):
    """A compiled model with one inference request over arrays of ours. One thread only: see `Adapter`."""

    def __init__(self, request: Any, name: str, graph: Graph) -> None:
        super().__init__(name, graph)
        self._request = request
        # The request reads and writes our arrays in place: an inference allocates nothing on its way.
        request.set_tensor("frame", openvino.Tensor(self._frame, shared_memory=True))
        for output in OUTPUT_NAMES:
            request.set_tensor(output, openvino.Tensor(self._outputs[output], shared_memory=True))

    def _run(self) -> None:
        self._request.infer()

    def _free(self) -> None:
        self._request = None


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
        compiled = core.compile_model(
            parsed,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": "f32",
                "ENABLE_CPU_PINNING": False,  # the daemon sets affinities itself
            },
        )
        request = compiled.create_infer_request()
        return OpenVinoEngine(request, f"{what} {graph.precision} {threads} thread{'s'[: threads > 1]}", graph)
    except EngineError:
        raise
    except Exception as exc:
        raise build_failed(what, exc) from exc
