"""A tensorrt module made from the recorded list of names of one version: what that version does not have is not there.

The lists beside this file (tensorrt_api/) were read from the real modules by `dir()`. Behaviour is the least that makes an
engine: the parser and the executed plan are ONNX Runtime, on memory of a `FakeGpu`. A name that is used and not in the list
of the version is an AttributeError, as it would be on the box.
"""

import enum
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tests.support.fake_gpu import FakeGpu

LISTS = Path(__file__).parent / "tensorrt_api"
VERSIONS = ("10.3.0", "10.16.1", "11.4.0", "rtx-1.7.1")
_ENUM_EXTRAS = {"name", "value", "itemsize"}
# Members the lists do not spell out: the enumerations were recorded by the names of the classes only.
_PLAIN_ENUMS = {"MemoryPoolType": ("WORKSPACE",), "Severity": ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")}


def recorded(version: str) -> tuple[str, set[str], dict[str, set[str]]]:
    """Version, names in the module, and names in each class (absent classes are left out)."""
    lines = (LISTS / f"{version}.txt").read_text().splitlines()
    classes = {}
    for line in lines[3:]:
        name, colon, names = line.partition(":")
        if colon:
            classes[name] = set(names.split())
    return lines[0].split()[1], set(lines[2].split()), classes


def make_tensorrt(version: str, gpu: FakeGpu) -> Any:
    """The module."""
    number, names, classes = recorded(version)

    class Listed:
        """An object with the names that were recorded for its class, and no others."""

        def __getattribute__(self, name: str) -> Any:
            allowed = classes.get(type(self).__name__)
            if not name.startswith("_") and allowed is not None and name not in allowed:
                raise AttributeError(f"tensorrt {number}: {type(self).__name__} has no {name}")
            return super().__getattribute__(name)

        def __setattr__(self, name: str, value: Any) -> None:
            allowed = classes.get(type(self).__name__)
            if not name.startswith("_") and allowed is not None and name not in allowed:
                raise AttributeError(f"tensorrt {number}: {type(self).__name__} has no {name}")
            super().__setattr__(name, value)

    module: Any = types.ModuleType("tensorrt")
    module.__version__ = number
    made = _classes(Listed, gpu, module)
    for name in names:
        if name in _PLAIN_ENUMS:
            setattr(module, name, enum.IntEnum(name, _PLAIN_ENUMS[name], start=0))
        elif name in classes and _ENUM_EXTRAS & classes[name] and name not in made:
            members = sorted(classes[name] - _ENUM_EXTRAS)
            setattr(module, name, enum.IntEnum(name, members, start=0) if members else None)
        elif name in made:
            setattr(module, name, made[name])
    return module


def _classes(listed: type, gpu: FakeGpu, module: Any) -> dict[str, type]:
    make: Any = enum.IntEnum  # given a list of names it makes a class, which mypy cannot follow
    severity = make("Severity", _PLAIN_ENUMS["Severity"], start=0)

    class ILogger(listed):
        Severity = severity

        def __init__(self) -> None:
            self._ready = True

    class IProgressMonitor(listed):
        def __init__(self) -> None:
            self._ready = True

    class IProfiler(listed):
        def __init__(self) -> None:
            self._ready = True

    class ITensor(listed):
        def __init__(self, port: Any) -> None:
            self.name, self.shape = port.name, tuple(port.shape)
            self.dtype = {"tensor(uint8)": module.DataType.UINT8, "tensor(float)": module.DataType.FLOAT}[port.type]

    class INetworkDefinition(listed):
        def __init__(self) -> None:
            self._model = b""
            self._inputs: list[Any] = []
            self._outputs: list[Any] = []

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

    class ParserError(listed):
        def __init__(self, text: str) -> None:
            self._text = text

        def node_name(self) -> str:
            return "odd"

        def node_operator(self) -> str:
            return "Convolution"

        def desc(self) -> str:
            return self._text

    class OnnxParser(listed):
        def __init__(self, network: Any, logger: Any) -> None:
            assert logger._ready
            self._network = network
            self._errors: list[Any] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

        def parse(self, model: bytes) -> bool:
            try:
                session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            except Exception as exc:  # noqa: BLE001  whatever ONNX Runtime says, the real parser would say in its way
                self._errors = [ParserError(str(exc))] * 6
                return False
            self._network._model = model
            self._network._inputs = [ITensor(port) for port in session.get_inputs()]
            self._network._outputs = [ITensor(port) for port in session.get_outputs()]
            return True

    class ITimingCache(listed):
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> bytes:
            return b"timings of " + gpu.gpu.name.encode()

    class IBuilderConfig(listed):
        def __init__(self) -> None:
            self.progress_monitor = None
            self._limits: dict[str, int] = {}
            self._flags = {module.BuilderFlag.TF32}
            self.builder_optimization_level, self.avg_timing_iterations, self.profiling_verbosity = 3, 1, None

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            self._limits[pool.name] = size

        def set_flag(self, flag: Any) -> None:
            self._flags.add(flag)

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(flag)

        def create_timing_cache(self, content: bytes) -> Any:
            return ITimingCache(content)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            return not cache._content or cache._content == cache.serialize()

    class Builder(listed):
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def create_network(self, flags: int) -> Any:
            assert flags == 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            return INetworkDefinition()

        def create_builder_config(self) -> Any:
            return IBuilderConfig()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            gpu.calls.append("build")
            module.last_config = config
            monitor = config.progress_monitor
            if monitor is not None:
                monitor.phase_start("Building", None, 2)
                if not all(monitor.step_complete("Building", step) for step in range(2)):
                    self._logger.log(severity.ERROR, "Build canceled by user")
                    return None
                monitor.phase_finish("Building")
            if config._limits["WORKSPACE"] < 32 * 2**20:
                self._logger.log(severity.ERROR, "Could not find any implementation for node teacher.1")
                return None
            return bytes(b"plan of " + module.__version__.encode() + b"\0" + network._model)

    class Runtime(listed):
        def __init__(self, logger: Any) -> None:
            assert gpu.opened, "Segmentation fault: a Runtime without a GPU"
            gpu.calls.append("make runtime")
            self._logger = logger
            self.engine_host_code_allowed = True

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            assert not self.engine_host_code_allowed
            head, _, model = plan.partition(b"\0")
            if head != b"plan of " + module.__version__.encode():
                self._logger.log(severity.ERROR, "The engine plan file is not compatible with this version of TensorRT")
                return None
            return ICudaEngine(model)

    class ICudaEngine(listed):
        def __init__(self, model: bytes) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.add_session_config_entry("session.x64quantprecision", "1")
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self._ports = {port.name: ITensor(port) for port in (*self._session.get_inputs(), *self._session.get_outputs())}

        @property
        def num_io_tensors(self) -> int:
            return len(self._ports)

        def get_tensor_name(self, index: int) -> str:
            return str(list(self._ports)[index])

        def get_tensor_dtype(self, name: str) -> Any:
            return self._ports[name].dtype

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._ports[name].shape

        def create_execution_context(self) -> Any:
            return IExecutionContext(self)

    class IExecutionContext(listed):
        def __init__(self, engine: Any) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self.profiler = None

        def set_tensor_address(self, name: str, address: int) -> bool:
            gpu.at(address)
            self._addresses[name] = address
            return name in self._engine._ports

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == 0x5000, "not the stream everything else runs on"
            if set(self._addresses) != set(self._engine._ports):
                return False
            gpu.put(self._work)
            return True

        def _work(self) -> None:
            frame = gpu.at(self._addresses["frame"]).reshape(self._engine._ports["frame"].shape)
            names = [port.name for port in self._engine._session.get_outputs()]
            for name, value in zip(names, self._engine._session.run(names, {"frame": frame}), strict=True):
                np.copyto(gpu.at(self._addresses[name]), value.reshape(-1).view(np.uint8))
            if self.profiler is not None:
                for layer, ms in (("teacher.0 + Relu", 0.25), ("teacher.1", 0.5)):
                    self.profiler.report_layer_time(layer, ms)

    return {name: value for name, value in locals().items() if isinstance(value, type) and name not in {"listed", "make"}}
