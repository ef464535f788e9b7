"""ONNX Runtime on the CPU: the reference every other engine is compared with, and the fallback anywhere.

Runs the graph sequentially with a fixed number of threads. Telemetry is switched off before a session exists. On x86 CPUs
without VNNI the option `session.x64quantprecision` makes it use the slower u8 x u8 products, which cannot saturate as
u8 x s8 ones do (see `edge.engine.openvino`): the convolution named there comes out as 80,000 of 2,540,000 without it and
exactly with it (ONNX Runtime 1.31, AVX2). A reference may be slow, it may not be wrong.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import onnxruntime

from edge.engine.adapter import Adapter, build_failed, expect_same
from edge.engine.base import OUTPUT_NAMES, LayerTime
from edge.engine.onnx_file import Graph
from edge.errors import EngineError

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_WARM_UP_RUNS = 2  # of a profile
_LAYER = "_kernel_time"  # what ONNX Runtime puts behind a layer's name
MAX_PROFILE_BYTES = 256 * 2**20  # some 3,000 runs of 110 layers

_Text = Annotated[str, msgspec.Meta(max_length=1000)]


class _About(msgspec.Struct, frozen=True):
    """What is read of an event's arguments: the type and shape of every input."""

    input_type_shape: list[dict[_Text, list[int]]] = []


class _Event(msgspec.Struct, frozen=True):
    """What is read of an event of a profile; ONNX Runtime writes more, and not the same in every version."""

    cat: _Text = ""
    name: _Text = ""
    dur: Annotated[int, msgspec.Meta(ge=0, le=10**12)] = 0  # microseconds
    args: _About = _About()


class OnnxRuntimeEngine(Adapter):
    """A session bound to arrays of ours. One thread only: see `Adapter`.

    Args:
        session: that judges.
        profiling: makes a second session, which writes a profile into the folder it is given.
        name: for people.
        graph: what `check_contract` found.
    """

    def __init__(self, session: Any, profiling: Callable[[Path], Any], name: str, graph: Graph) -> None:
        super().__init__(name, graph)
        self._session = session
        self._profiling: Callable[[Path], Any] | None = profiling
        self._binding = session.io_binding()
        self._binding.bind_input("frame", "cpu", 0, np.uint8, self._frame.shape, self._frame.ctypes.data)
        for output in OUTPUT_NAMES:
            array = self._outputs[output]
            self._binding.bind_output(output, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _profile(self, runs: int) -> tuple[LayerTime, ...]:
        """By a second session: a profile is a session's from its start, and ends up in a file."""
        assert self._profiling is not None
        with tempfile.TemporaryDirectory(prefix="onbelt-profile-") as folder:
            session = self._profiling(Path(folder))
            for _ in range(_WARM_UP_RUNS + runs):
                session.run(None, {"frame": self._frame})
            session.end_profiling()
            (written,) = Path(folder).iterdir()
            if written.stat().st_size > MAX_PROFILE_BYTES:
                raise EngineError(
                    f"{self._name}: expected a profile of at most {MAX_PROFILE_BYTES} bytes, got {written.stat().st_size}; "
                    "profile fewer runs"
                )
            return read_profile(written.read_bytes(), _WARM_UP_RUNS, runs)

    def _free(self) -> None:
        self._binding = None
        self._session = None
        self._profiling = None


def read_profile(written: bytes, warm_up: int, runs: int) -> tuple[LayerTime, ...]:
    """Mean times of the layers over the runs after a warm-up, from what a session wrote.

    Names in it come from the model as they are, so nothing is taken for granted: every layer has to be there in every run.

    Args:
        written: the JSON.
        warm_up: runs before those that count.
        runs: those that count.

    Raises:
        EngineError: it is no profile, or not of so many runs.
    """
    try:
        events = msgspec.json.decode(written, type=list[_Event])
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise EngineError(f"expected a profile of ONNX Runtime, got something else ({exc})") from exc
    layers: dict[str, list[_Event]] = {}
    for event in events:
        if event.cat == "Node" and event.name.endswith(_LAYER):
            layers.setdefault(event.name.removesuffix(_LAYER), []).append(event)
    if not layers:
        raise EngineError("expected a profile of ONNX Runtime with layers, it has none")
    found = []
    for name, taken in layers.items():
        each, more = divmod(len(taken), warm_up + runs)  # two layers may share a name
        if more or not each:
            raise EngineError(
                f"expected layer {name[:100]!r} in every one of {warm_up + runs} runs, the profile has it {len(taken)} times; "
                "profile fewer runs"
            )
        counted = taken[each * warm_up :]
        found.append(LayerTime(name, sum(event.dur for event in counted) / runs / 1e3, _precision_of(taken[0])))
    return tuple(found)


def _precision_of(event: _Event) -> Literal["int8", "float", ""]:
    """By the type of a layer's first input: ONNX Runtime does not name its kernels."""
    kind = next((kind for first in event.args.input_type_shape[:1] for kind in first), "")
    return "int8" if kind in {"int8", "uint8"} else "float" if kind in {"float", "float16", "bfloat16"} else ""


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
        session = _open_session(model, threads)
        found = {
            port.name: (_TYPES.get(port.type, port.type), tuple(side if isinstance(side, int) else -1 for side in port.shape))
            for port in (*session.get_inputs(), *session.get_outputs())
        }
        expect_same(what, found, graph)
        name = f"{what} {graph.precision} {threads} thread{'s'[: threads > 1]}"
        return OnnxRuntimeEngine(session, lambda folder: _open_session(model, threads, folder), name, graph)
    except EngineError:
        raise
    except Exception as exc:
        raise build_failed(what, exc) from exc


def _open_session(model: bytes, threads: int, profile_into: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors come as exceptions, with text
    options.add_session_config_entry("session.x64quantprecision", "1")
    if profile_into is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_into / "run")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
