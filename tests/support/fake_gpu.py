"""A GPU for tests: memory by address, a stream that works when it is waited for, graphs that do again what was recorded.

As strict as CUDA where it matters: only the thread that opened it may use it, addresses must have been allocated, waiting while
recording spoils the recording, and nothing happens before somebody waits.
"""

import ctypes
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge.engine.tensorrt.cuda import Cuda
from edge.engine.tensorrt.driver import Gpu
from edge.errors import EngineError

ORIN = Gpu("Orin", (8, 7), 8, 8 * 2**30, integrated=True, maps_host=True, driver=12060)
DESKTOP = Gpu("RTX", (8, 6), 46, 24 * 2**30, integrated=False, maps_host=True, driver=13000)


class FakeGpu:
    """Attributes: calls: what was asked of it, in order. opened: contexts held. refuse_capture: recordings fail."""

    def __init__(self, gpu: Gpu = ORIN) -> None:
        self.gpu = gpu
        self.calls: list[str] = []
        self.opened = 0
        self.refuse_capture = False
        self.forget_in_graph = False
        self.memory: dict[int, NDArray[Any]] = {}
        self.pending: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.spoiled = False
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.numbers = itertools.count(0x7000)

    def put(self, work: Callable[[], None]) -> None:
        """Work for the stream."""
        (self.pending if self.recording is None else self.recording).append(work)

    def at(self, address: int) -> NDArray[Any]:
        """The bytes that begin at an address."""
        if address not in self.memory:
            raise EngineError(f"CUDA: illegal address {address:#x} (700)")
        return self.memory[address]

    def cuda(self, _library: str = "auto") -> "FakeCuda":
        return FakeCuda(self)

    def driver(self) -> "FakeDriver":
        return FakeDriver(self)


class FakeCuda(Cuda):
    """`Cuda` on a FakeGpu."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.name, self.stream = "fake 1.0", 0x5000
        self.fake = gpu
        self.thread = threading.get_ident()
        self.addresses: list[int] = []
        self.arrays: list[NDArray[Any]] = []
        self.open = True
        gpu.opened += 1
        gpu.calls.append("open cuda")

    def check(self) -> FakeGpu:
        assert self.open, "used after close"
        if threading.get_ident() != self.thread:
            raise EngineError("CUDA: CUDA_ERROR_INVALID_CONTEXT (201)")
        return self.fake

    def _keep(self, content: NDArray[Any]) -> int:
        address = content.ctypes.data
        self.fake.memory[address] = content
        self.addresses.append(address)
        return address

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike, *, mapped: bool) -> tuple[NDArray[Any], int]:
        self.check().calls.append(f"host {'mapped' if mapped else 'pinned'}")
        array = np.zeros(shape, dtype)
        self.arrays.append(array)
        return array, self._keep(array.view(np.uint8).reshape(-1)) if mapped else 0

    def device_memory(self, nbytes: int) -> int:
        self.check().calls.append(f"device {nbytes}")
        return self._keep(np.full(nbytes, 0xA5, np.uint8))

    def to_device(self, address: int, source: NDArray[Any]) -> None:
        target = self.check().at(address)
        assert any(source is one for one in self.arrays), "a copy from memory that is not page-locked is not asynchronous"
        self.fake.put(lambda: np.copyto(target, source.reshape(-1).view(np.uint8)))

    def to_host(self, target: NDArray[Any], address: int) -> None:
        source = self.check().at(address)
        assert any(target is one for one in self.arrays)
        self.fake.put(lambda: np.copyto(target.reshape(-1).view(np.uint8), source))

    def mark(self, which: int) -> None:
        self.check().put(lambda: None)

    def elapsed_ms(self) -> float:
        return 0.5

    def synchronize(self) -> None:
        gpu = self.check()
        if gpu.recording is not None:
            gpu.spoiled = True
            raise EngineError("CUDA: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)")
        work, gpu.pending = gpu.pending, []
        for one in work:
            one()

    def close(self) -> None:
        if self.open:
            self.check().opened -= 1
            self.open = False
            for address in self.addresses:
                del self.fake.memory[address]


class FakeDriver:
    """`Driver` on a FakeGpu: the functions of CUDA graphs, and the description of the GPU."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.fake = gpu
        gpu.calls.append("open driver")

    def gpu(self) -> Gpu:
        self.fake.calls.append("ask for the GPU")
        return self.fake.gpu

    def call(self, function: str, *arguments: Any) -> None:
        gpu = self.fake
        gpu.calls.append(function)
        if function == "cuStreamBeginCapture_v2":
            assert arguments[1] == 1, "a capture of this thread only"
            if gpu.refuse_capture:
                raise EngineError("CUDA: cuStreamBeginCapture_v2 failed: CUDA_ERROR_NOT_SUPPORTED (801)")
            assert not gpu.pending, "the stream must be idle"
            gpu.recording, gpu.spoiled = [], False
        elif function == "cuStreamEndCapture":
            assert gpu.recording is not None
            recorded, gpu.recording = gpu.recording, None
            if gpu.spoiled:
                raise EngineError("CUDA: cuStreamEndCapture failed: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED (901)")
            self._give(arguments[1], recorded[:-1] if gpu.forget_in_graph else recorded)
        elif function == "cuGraphInstantiateWithFlags":
            self._give(arguments[0], gpu.graphs[arguments[1].value])
        elif function == "cuGraphLaunch":
            gpu.pending += gpu.graphs[arguments[0].value]
        elif function in {"cuGraphExecDestroy", "cuGraphDestroy"}:
            del gpu.graphs[arguments[0].value]
        else:
            raise AssertionError(f"{function} is not expected here")

    def _give(self, reference: Any, recorded: list[Callable[[], None]]) -> None:
        handle = next(self.fake.numbers)
        self.fake.graphs[handle] = recorded
        assert isinstance(reference._obj, ctypes.c_void_p)
        reference._obj.value = handle
