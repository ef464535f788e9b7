"""Memory, copies, one stream and two events, by pycuda, or by cuda-python where pycuda is absent.

Both work in the device's PRIMARY context, which TensorRT uses too: pycuda's autoinit and make_context would make another one,
and every address would be foreign to the engine. A context is current in one thread at a time: everything here is made, used
and closed in the thread that opened it.

Each library is imported when it is asked for, in its own class and nowhere else.
"""

import ctypes
import importlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge.errors import EngineError


class Cuda(ABC):
    """What the engine needs of CUDA. Opening retains the primary context of device 0 and makes it current in this thread.

    Attributes:
        name: library and version. stream: handle of the one stream everything runs on.
    """

    name: str
    stream: int

    @abstractmethod
    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike, *, mapped: bool) -> tuple[NDArray[Any], int]:
        """Page-locked CPU memory of zeros, and the address at which the GPU reads it (0 unless `mapped`).

        Copies from and to it are asynchronous; mapped, on a Jetson, there is nothing to copy.
        """

    @abstractmethod
    def device_memory(self, nbytes: int) -> int:
        """GPU memory; returns its address. Freed by `close`."""

    @abstractmethod
    def to_device(self, address: int, source: NDArray[Any]) -> None:
        """Put a copy from a page-locked array to GPU memory on the stream."""

    @abstractmethod
    def to_host(self, target: NDArray[Any], address: int) -> None:
        """Put a copy from GPU memory to a page-locked array on the stream."""

    @abstractmethod
    def mark(self, which: int) -> None:
        """Put event 0 or 1 on the stream."""

    @abstractmethod
    def elapsed_ms(self) -> float:
        """Time on the GPU from event 0 to event 1, both reached."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the stream is empty; errors of what ran on it are raised here."""

    @abstractmethod
    def close(self) -> None:
        """Free everything and let go of the context; may be called twice. Arrays given out must not be touched afterwards."""


class PyCuda(Cuda):
    """By pycuda, as it comes with or is compiled on a Jetson."""

    def __init__(self) -> None:
        self._cuda = cuda = importlib.import_module("pycuda.driver")
        self.name = f"pycuda {importlib.import_module('pycuda').VERSION_TEXT}"
        cuda.init()
        self._context = cuda.Device(0).retain_primary_context()
        self._context.push()
        self._stream: Any = cuda.Stream()
        self.stream = int(self._stream.handle)
        self._events: list[Any] = [cuda.Event(), cuda.Event()]
        self._allocations: list[Any] = []

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike, *, mapped: bool) -> tuple[NDArray[Any], int]:
        """As `Cuda` says."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        array: NDArray[Any] = self._cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        array[...] = 0
        return array, int(array.base.get_device_pointer()) if mapped else 0  # type: ignore[union-attr]

    def device_memory(self, nbytes: int) -> int:
        """As `Cuda` says."""
        allocation = self._cuda.mem_alloc(nbytes)
        self._allocations.append(allocation)
        return int(allocation)

    def to_device(self, address: int, source: NDArray[Any]) -> None:
        """As `Cuda` says."""
        self._cuda.memcpy_htod_async(address, source, self._stream)

    def to_host(self, target: NDArray[Any], address: int) -> None:
        """As `Cuda` says."""
        self._cuda.memcpy_dtoh_async(target, address, self._stream)

    def mark(self, which: int) -> None:
        """As `Cuda` says."""
        self._events[which].record(self._stream)

    def elapsed_ms(self) -> float:
        """As `Cuda` says."""
        return float(self._events[1].time_since(self._events[0]))

    def synchronize(self) -> None:
        """As `Cuda` says."""
        self._stream.synchronize()

    def close(self) -> None:
        """As `Cuda` says."""
        if self._context is None:
            return
        for allocation in self._allocations:
            allocation.free()
        self._allocations.clear()
        self._events.clear()
        self._stream = None  # their memory is given back by pycuda when the last reference goes, while the context is current
        context, self._context = self._context, None
        context.pop()
        context.detach()


class CudaPython(Cuda):
    """By NVIDIA's cuda-python (cuda-bindings 12.6.1 or later), wheels of which exist for the Jetson."""

    def __init__(self) -> None:
        self._cuda = importlib.import_module("cuda.bindings.driver")
        self.name = f"cuda-python {importlib.import_module('cuda.bindings').__version__}"
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", 0)
        context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self._host: list[int] = []
        self._memory: list[Any] = []
        self._open = True
        self._call("cuCtxPushCurrent", context)
        non_blocking = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        self._stream = self._call("cuStreamCreate", non_blocking)
        self.stream = int(self._stream)
        plain = self._cuda.CUevent_flags.CU_EVENT_DEFAULT
        self._events = [self._call("cuEventCreate", plain), self._call("cuEventCreate", plain)]

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike, *, mapped: bool) -> tuple[NDArray[Any], int]:
        """As `Cuda` says."""
        kind = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        pointer = int(self._call("cuMemHostAlloc", nbytes, self._cuda.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0))
        self._host.append(pointer)
        array = np.frombuffer(memoryview((ctypes.c_ubyte * nbytes).from_address(pointer)), kind).reshape(shape)
        array[...] = 0
        return array, int(self._call("cuMemHostGetDevicePointer", pointer, 0)) if mapped else 0

    def device_memory(self, nbytes: int) -> int:
        """As `Cuda` says."""
        memory = self._call("cuMemAlloc", nbytes)
        self._memory.append(memory)
        return int(memory)

    def to_device(self, address: int, source: NDArray[Any]) -> None:
        """As `Cuda` says."""
        self._call("cuMemcpyHtoDAsync", address, source.ctypes.data, source.nbytes, self._stream)

    def to_host(self, target: NDArray[Any], address: int) -> None:
        """As `Cuda` says."""
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, address, target.nbytes, self._stream)

    def mark(self, which: int) -> None:
        """As `Cuda` says."""
        self._call("cuEventRecord", self._events[which], self._stream)

    def elapsed_ms(self) -> float:
        """As `Cuda` says."""
        return float(self._call("cuEventElapsedTime", self._events[0], self._events[1]))

    def synchronize(self) -> None:
        """As `Cuda` says."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """As `Cuda` says."""
        if not self._open:
            return
        self._open = False
        for event in self._events:
            self._call("cuEventDestroy", event)
        self._call("cuStreamDestroy", self._stream)
        for memory in self._memory:
            self._call("cuMemFree", memory)
        for pointer in self._host:
            self._call("cuMemFreeHost", pointer)
        self._call("cuCtxPopCurrent")
        self._call("cuDevicePrimaryCtxRelease", self._device)

    def _call(self, function: str, *arguments: object) -> Any:
        """Call the driver; returns its one result, if it has one."""
        status, *results = getattr(self._cuda, function)(*arguments)
        if int(status):
            raise EngineError(f"CUDA: {function} failed: {status.name} ({int(status)})")
        return results[0] if results else None


_LIBRARIES = {"pycuda": PyCuda, "cuda-python": CudaPython}


def open_cuda(library: str = "auto") -> Cuda:
    """Open CUDA in this thread.

    Args:
        library: "pycuda", "cuda-python", or "auto" for the first that is installed.

    Raises:
        EngineError: none is installed, or the GPU cannot be used.
    """
    names = list(_LIBRARIES) if library == "auto" else [library]
    missing = []
    for name in names:
        opened = _try(name)
        if isinstance(opened, Cuda):
            return opened
        missing.append(f"{name} ({opened})")
    raise EngineError(
        f"expected pycuda or cuda-python, found neither: {'; '.join(missing)}; pip install cuda-bindings of your CUDA's version, "
        "or pycuda where a compiler and the CUDA headers are"
    )


def _try(name: str) -> Cuda | ImportError:
    try:
        return _LIBRARIES[name]()
    except ImportError as exc:
        return exc
    except EngineError:
        raise
    except Exception as exc:  # pycuda has an error class of its own for each kind of failure
        raise EngineError(f"{name}: cannot open the GPU ({type(exc).__name__}: {exc}); run onbelt doctor") from exc
