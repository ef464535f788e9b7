"""The CUDA driver by ctypes: what must be known before TensorRT is touched, and CUDA graphs, which pycuda does not offer.

Making a TensorRT runtime on a machine without a GPU ends the process with a segmentation fault (seen with TensorRT 8.6 and
11.4), so the driver is asked first. It is one library with a C interface that NVIDIA keeps stable; asking it needs no package.

PyCUDA 2026.1 has no stream capture (two proposals, inducer/pycuda#343 and #424, are open). Graphs are therefore made here for
both of the libraries `edge.engine.tensorrt.cuda` can use: a stream is the same handle for all of them.

Source: cuda.h of CUDA 13.0 (prototypes, numbers of attributes, and the names behind the header's macros, `..._v2`).
"""

import contextlib
import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from edge.errors import EngineError

LIBRARY = "libcuda.so.1"
_COMPUTE_MAJOR, _COMPUTE_MINOR, _MULTIPROCESSORS, _INTEGRATED, _MAP_HOST = 75, 76, 16, 18, 19  # CUdevice_attribute
_CAPTURE_THREAD_LOCAL = 1  # another thread's CUDA calls must not spoil a capture
_INT_P, _VOID_P = ctypes.POINTER(ctypes.c_int), ctypes.c_void_p
_PROTOTYPES: dict[str, tuple[object, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDriverGetVersion": (_INT_P,),
    "cuDeviceGetCount": (_INT_P,),
    "cuDeviceGet": (_INT_P, ctypes.c_int),
    "cuDeviceGetName": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDeviceGetAttribute": (_INT_P, ctypes.c_int, ctypes.c_int),
    "cuDeviceTotalMem_v2": (ctypes.POINTER(ctypes.c_size_t), ctypes.c_int),
    "cuStreamBeginCapture_v2": (_VOID_P, ctypes.c_int),
    "cuStreamEndCapture": (_VOID_P, ctypes.POINTER(_VOID_P)),
    "cuGraphInstantiateWithFlags": (ctypes.POINTER(_VOID_P), _VOID_P, ctypes.c_ulonglong),
    "cuGraphLaunch": (_VOID_P, _VOID_P),
    "cuGraphExecDestroy": (_VOID_P,),
    "cuGraphDestroy": (_VOID_P,),
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU.

    Attributes:
        name: as the driver gives it. compute: compute capability, (8, 7) on Orin. multiprocessors: how many.
        memory_bytes: all of its memory; on a Jetson that is the machine's.
        integrated: it shares the CPU's memory, as on every Jetson. maps_host: it can read the CPU's memory in place.
        driver: CUDA version the driver serves, 12060 for 12.6.
    """

    name: str
    compute: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    integrated: bool
    maps_host: bool
    driver: int

    def __str__(self) -> str:
        return f"{self.name}, SM {self.compute[0]}.{self.compute[1]}, {self.multiprocessors} multiprocessors"


class Driver:
    """libcuda, with every result looked at.

    Raises:
        EngineError: the library is not there, is too old, or there is no GPU it can use.
    """

    def __init__(self, library: str = "") -> None:
        name = library or LIBRARY
        try:
            self._library = ctypes.CDLL(name)
        except OSError as exc:
            raise EngineError(
                f"expected an NVIDIA driver ({name}), it cannot be loaded ({exc}); this machine has no NVIDIA GPU, or its driver "
                "is not installed, or not passed into the container; use --engine openvino"
            ) from exc
        for symbol, arguments in _PROTOTYPES.items():
            try:
                function = getattr(self._library, symbol)
            except AttributeError as exc:
                raise EngineError(f"{name}: expected the function {symbol} (CUDA 11.4 or later); update the driver") from exc
            function.argtypes, function.restype = arguments, ctypes.c_int
        self.call("cuInit", 0)

    def call(self, function: str, *arguments: object) -> None:
        """Call a function of the driver.

        Raises:
            EngineError: it does not return 0 (CUDA_SUCCESS).
        """
        result = int(getattr(self._library, function)(*arguments))
        if result:
            raise EngineError(
                f"CUDA: {function} failed: {self._error_name(result)}; {_REMEDIES.get(result, 'run onbelt doctor')}"
            )

    def gpu(self) -> Gpu:
        """Describe device 0.

        Raises:
            EngineError: there is none, or it cannot be used.
        """
        if not self._integer("cuDeviceGetCount"):
            raise EngineError("expected an NVIDIA GPU, the driver knows none; see CUDA_VISIBLE_DEVICES; use --engine openvino")
        device = self._integer("cuDeviceGet", 0)
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), device)
        memory = ctypes.c_size_t()
        self.call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)

        def attribute(number: int) -> int:
            return self._integer("cuDeviceGetAttribute", number, device)

        return Gpu(
            name=name.value.decode("utf-8", "backslashreplace"),
            compute=(attribute(_COMPUTE_MAJOR), attribute(_COMPUTE_MINOR)),
            multiprocessors=attribute(_MULTIPROCESSORS),
            memory_bytes=memory.value,
            integrated=bool(attribute(_INTEGRATED)),
            maps_host=bool(attribute(_MAP_HOST)),
            driver=self._integer("cuDriverGetVersion"),
        )

    def _integer(self, function: str, *arguments: object) -> int:
        value = ctypes.c_int()
        self.call(function, ctypes.byref(value), *arguments)
        return value.value

    def _error_name(self, result: int) -> str:
        text = ctypes.c_char_p()
        try:
            known = self._library.cuGetErrorName(ctypes.c_int(result), ctypes.byref(text)) == 0
        except AttributeError:
            known = False
        return f"{text.value.decode('ascii', 'replace')} ({result})" if known and text.value else f"error {result}"


# What a person can do about the results seen most (numbers of CUresult).
_REMEDIES = {
    2: "out of memory: close other GPU programs, or lower workspace_mib in tensorrt.toml",
    3: "the driver is not ready: reboot, or load the kernel module",
    35: "the driver is older than the CUDA libraries: update it",
    100: "no GPU: use --engine openvino",
    101: "no such GPU: see CUDA_VISIBLE_DEVICES",
    201: "used from a thread that did not make it: an engine stays in one thread",
    700: "the GPU read or wrote where it may not: rebuild with onbelt engine --rebuild, then report it",
    719: "a GPU program failed: reset the GPU or reboot, then run onbelt check",
    803: "driver and CUDA libraries do not belong together: install one JetPack or one driver",
    999: "unknown to the driver: look into dmesg",
}


class CudaGraph:
    """Work recorded once and launched as one: a frame costs one call instead of one for each kernel.

    Args:
        driver: to record with. stream: a CUstream handle, idle.
        work: puts asynchronous work on that stream and nothing else: what it does is recorded, not done.

    Raises:
        EngineError: the work cannot be recorded (something in it is synchronous), or not be made executable.
    """

    def __init__(self, driver: Driver, stream: int, work: Callable[[], None]) -> None:
        self._driver = driver
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        driver.call("cuStreamBeginCapture_v2", self._stream, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        except BaseException:
            # The stream would stay in recording and refuse all further work. The driver calls an end after a failure an error.
            with contextlib.suppress(EngineError):
                driver.call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
            if graph:
                driver.call("cuGraphDestroy", graph)
            raise
        driver.call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            driver.call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, 0)
        finally:
            driver.call("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Put the recorded work on the stream. Raises EngineError."""
        self._driver.call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Free it; may be called twice."""
        if self._executable:
            executable, self._executable = self._executable, ctypes.c_void_p()
            self._driver.call("cuGraphExecDestroy", executable)
