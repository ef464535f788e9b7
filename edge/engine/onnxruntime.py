"""ONNX Runtime on the CPU: the reference every other engine is compared with, and the fallback anywhere.

Runs the graph sequentially with a fixed number of threads. Telemetry is switched off before a session exists. On x86 CPUs
without VNNI the option `session.x64quantprecision` makes it use the slower u8 x u8 products, which cannot saturate as
u8 x s8 ones do (see `edge.engine.openvino`): the convolution named there comes out as 80,000 of 2,540,000 without it and
exactly with it (ONNX Runtime 1.31, AVX2). A reference may be slow, it may not be wrong.
"""

from typing import Any

import numpy as np
import onnxruntime

from edge.engine.adapter import Adapter, build_failed, expect_same
from edge.engine.base import OUTPUT_NAMES
from edge.engine.onnx_file import Graph
from edge.errors import EngineError

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntimeEngine(Adapter):
    """A session bound to arrays of ours. One thread only: see `Adapter`."""

    def __init__(self, session: Any, name: str, graph: Graph) -> None:
        super().__init__(name, graph)
        self._session = session
        self._binding = session.io_binding()
        self._binding.bind_input("frame", "cpu", 0, np.uint8, self._frame.shape, self._frame.ctypes.data)
        for output in OUTPUT_NAMES:
            array = self._outputs[output]
            self._binding.bind_output(output, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _free(self) -> None:
        self._binding = None
        self._session = None


def build(model: bytes, graph: Graph, threads: int) -> OnnxRuntimeEngine:
    """Make a session from memory.

    Args:
        model: ONNX file that passed `check_contract`.
        graph: what `check_contract` found.
        threads: CPU threads inside one operator; operators run one after the other.

    Raises:
        EngineError: ONNX Runtime cannot load the model, or sees other inputs and outputs.
    """
    what = f"onnxruntime {onnxruntime.__version__}"
    try:
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = 3  # errors come as exceptions, with text
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found = {
            port.name: (_TYPES.get(port.type, port.type), tuple(side if isinstance(side, int) else -1 for side in port.shape))
            for port in (*session.get_inputs(), *session.get_outputs())
        }
        expect_same(what, found, graph)
        return OnnxRuntimeEngine(session, f"{what} {graph.precision} {threads} thread{'s'[: threads > 1]}", graph)
    except EngineError:
        raise
    except Exception as exc:
        raise build_failed(what, exc) from exc
