"""OpenVINO on the CPU: the default, about four times ONNX Runtime in INT8 where the CPU has VNNI or AMX.

Deterministic by configuration: one stream, a fixed number of threads with a static partition, and precision f32 for whatever
is not quantized. Left to itself OpenVINO computes in bf16 on CPUs that have it, so that the same model would score otherwise
on another box.

On a CPU without VNNI (AVX2 only) an INT8 product is the sum of two u8 x s8 products in 16 bits (vpmaddubsw), which saturates
when both weights are near their end. The exporter therefore uses 7 bits for weights (amax / 63), where it cannot happen; a
model quantized to 8 bits by other tools scores wrongly on such a CPU, and `onbelt check` shows it by its golden frames.
"""

from typing import Any

import openvino

from edge.engine.adapter import Adapter, build_failed, expect_same
from edge.engine.base import OUTPUT_NAMES
from edge.engine.onnx_file import Graph
from edge.errors import EngineError

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
        return OpenVinoEngine(request, f"{what} {_precision(graph)} {threads} thread{'s'[: threads > 1]}", graph)
    except EngineError:
        raise
    except Exception as exc:
        raise build_failed(what, exc) from exc


def _precision(graph: Graph) -> str:
    return "int8" if graph.operators.get("DequantizeLinear") else "fp32"
