"""Run a plan: one thread, fixed addresses, one CUDA graph for each frame.

The frame lies in page-locked CPU memory. On a Jetson, whose GPU shares that memory, the engine reads and writes it in place; a
GPU with memory of its own gets a copy there and back inside the graph. What a frame costs the CPU is then one launch and one
wait. Nothing is allocated after the start.

The daemon's golden frames in pauses keep clocks and caches warm: there is no second thread here that could do it, on purpose.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.engine.adapter import Adapter, expect_same
from edge.engine.base import OUTPUT_NAMES, LayerTime
from edge.engine.onnx_file import Graph
from edge.engine.tensorrt.builder import type_name
from edge.engine.tensorrt.cuda import Cuda
from edge.engine.tensorrt.driver import CudaGraph
from edge.engine.tensorrt.vendor import Log, make_profiler
from edge.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

WARM_UP_RUNS = 3  # the first loads kernels; TensorRT asks for one run before a capture
Capture = Callable[[int, Callable[[], None]], CudaGraph]


class TensorRtEngine(Adapter):
    """A deserialized plan over fixed buffers. One thread only, and it is checked: see `Adapter`.

    Args:
        trt: the tensorrt module. plan: from `build_plan` on this GPU, its hash checked. graph: what `check_contract` found.
        cuda: opened in this thread; this engine closes it, also when it cannot be made.
        capture: records a CUDA graph; None runs kernel by kernel.
        mapped: the GPU reads the CPU's memory in place. name: for people.

    Raises:
        EngineError: the plan cannot be loaded, has other inputs and outputs, or a frame cannot be run.
    """

    def __init__(
        self, trt: Any, plan: bytes, graph: Graph, cuda: Cuda, capture: Capture | None, *, mapped: bool, name: str
    ) -> None:
        super().__init__(name, graph)
        self._trt = trt
        self._cuda = cuda
        self._thread = threading.get_ident()
        self._graph: CudaGraph | None = None
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._log: Log | None = None
        self._copies_in: list[tuple[int, NDArray[Any]]] = []
        self._copies_out: list[tuple[NDArray[Any], int]] = []
        try:
            self._load(plan, graph)
            self._bind(mapped)
            self._warm_up(capture)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "TensorRtEngine":
        return self

    @property
    def is_graph(self) -> bool:
        """Whether a frame is one launch."""
        return self._graph is not None

    def gpu_ms(self) -> float:
        """Time the GPU took for one more run of the last frame, by its own clock."""
        self._check_thread()
        self._cuda.mark(0)
        self._start()
        self._cuda.mark(1)
        self._cuda.synchronize()
        return self._cuda.elapsed_ms()

    def _profile(self, runs: int) -> tuple[LayerTime, ...]:
        """Layers one by one, not as a graph: their sum is more than a frame takes."""
        totals: dict[str, float] = {}

        def take(layer: str, ms: float) -> None:
            totals[layer] = totals.get(layer, 0.0) + ms

        # A context of its own: the profiler cannot be taken off again, and would slow the one that judges.
        profiler = make_profiler(self._trt, take)
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self._name}: no memory for a second context; profile without the daemon running")
        for tensor in ("frame", *OUTPUT_NAMES):
            context.set_tensor_address(tensor, self._addresses[tensor])
        self._execute(context)
        self._cuda.synchronize()
        context.profiler = profiler
        for _ in range(runs):
            self._execute(context)
            self._cuda.synchronize()
        return tuple(LayerTime(layer, total / runs) for layer, total in totals.items())

    def _run(self) -> None:
        self._check_thread()
        self._start()
        self._cuda.synchronize()

    def _start(self) -> None:
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        """All of a frame on the stream: what is captured."""
        for address, source in self._copies_in:
            self._cuda.to_device(address, source)
        self._execute(self._context)
        for target, address in self._copies_out:
            self._cuda.to_host(target, address)

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._cuda.stream):
            said = "; ".join(self._log.errors[-2:]) if self._log else ""
            raise EngineError(f"TensorRT refused to run ({said or 'it gave no reason'})")

    def _load(self, plan: bytes, graph: Graph) -> None:
        trt = self._trt
        self._log = Log(trt)
        self._runtime = trt.Runtime(self._log.handle)
        self._runtime.engine_host_code_allowed = False  # our plans need no host code, so one that does is not ours
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            said = "; ".join(self._log.errors[:3]) or "it gave no reason"
            raise EngineError(f"{self._name}: TensorRT cannot load the engine ({said}); onbelt engine --rebuild")
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found = {name: (type_name(trt, engine.get_tensor_dtype(name)), tuple(engine.get_tensor_shape(name))) for name in names}
        expect_same(self._name, found, graph)
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{self._name}: no GPU memory for the engine's activations; close other GPU programs")

    def _bind(self, mapped: bool) -> None:
        """Replace the adapter's arrays by page-locked ones, and give TensorRT their addresses."""
        self._addresses: dict[str, int] = {}
        self._frame, address = self._cuda.host_array(self._frame.shape, np.uint8, mapped=mapped)
        self._addresses["frame"] = address or self._cuda.device_memory(self._frame.nbytes)
        if not mapped:
            self._copies_in.append((self._addresses["frame"], self._frame))
        for name in OUTPUT_NAMES:
            array, address = self._cuda.host_array(self._outputs[name].shape, np.float32, mapped=mapped)
            self._outputs[name] = array
            self._addresses[name] = address or self._cuda.device_memory(array.nbytes)
            if not mapped:
                self._copies_out.append((array, self._addresses[name]))
        for name, where in self._addresses.items():
            if not self._context.set_tensor_address(name, where):
                raise EngineError(f"{self._name}: TensorRT does not take the address of {name!r}")

    def _warm_up(self, capture: Capture | None) -> None:
        """Run, record, and see that the recording does the same."""
        self._frame[...] = np.arange(self._frame.size, dtype=np.uint32).reshape(self._frame.shape) % 251
        for _ in range(WARM_UP_RUNS):
            self._enqueue()
            self._cuda.synchronize()
        plain = {name: array.copy() for name, array in self._outputs.items()}
        if capture is not None:
            try:
                self._graph = capture(self._cuda.stream, self._enqueue)
            except EngineError as exc:
                logger.warning("%s: no CUDA graph (%s); frames run kernel by kernel, which is slower", self._name, exc)
                return
            for array in self._outputs.values():
                array[...] = 0
            self._graph.launch()
            self._cuda.synchronize()
            for name, array in self._outputs.items():
                # NaN compares equal to itself here: a model may give it on this frame, which is no picture.
                if not np.allclose(array, plain[name], rtol=1e-3, atol=1e-5, equal_nan=True):
                    raise EngineError(
                        f"{self._name}: the CUDA graph computes another {name} than the engine; report it with your versions"
                    )

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise EngineError("used from another thread than the one that opened it")

    def _free(self) -> None:
        if self._graph is not None:
            self._graph.close()
        # TensorRT's objects go in the reverse order of their making, then the arrays, then the context they lie in.
        self._graph = self._context = self._engine = self._runtime = self._log = None
        self._copies_in.clear()
        self._copies_out.clear()
        self._frame = np.zeros((0,), np.uint8)
        self._outputs = {}
        self._cuda.close()
