"""NVIDIA's tensorrt module: found, checked for its version, and given a log and a progress display of ours.

Only names that exist in 10.3 (JetPack 6.2), 10.16 (JetPack 7.2) and 11.4 alike are used anywhere in this package; a test holds
them against recorded lists. The module is passed around as a value: tests pass TensorRT-RTX, which has the same interface.
"""

import importlib
import logging
import re
import weakref
from collections.abc import Callable
from typing import Any

from edge.errors import EngineError

logger = logging.getLogger(__name__)

OLDEST = (10, 3)
Progress = Callable[[str, int, int], bool]
"""Told of a phase of the build, steps done and steps in all; returns False to give up the build."""


def load_tensorrt() -> Any:
    """Import tensorrt. Call it only where there is a GPU.

    Raises:
        EngineError: not installed, an empty package of the same name, or too old.
    """
    try:
        module = importlib.import_module("tensorrt")
    except ImportError as exc:
        raise EngineError(
            f"expected the Python package tensorrt, it cannot be imported ({exc}); on a Jetson: apt-get install "
            "python3-libnvinfer, and a virtual environment made with --system-site-packages"
        ) from exc
    if not hasattr(module, "Builder"):
        where = getattr(module, "__file__", "?")
        raise EngineError(
            f"expected NVIDIA's tensorrt, found a package without Builder ({where}); remove it, install python3-libnvinfer"
        )
    found = re.match(r"(\d+)\.(\d+)", str(module.__version__))
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise EngineError(
            f"expected tensorrt {OLDEST[0]}.{OLDEST[1]} or later (JetPack 6.2), found {module.__version__}; update JetPack"
        )
    return module


class Log:
    """What TensorRT says while this object lives.

    Attributes:
        warnings, errors: its messages, the first of each kind up to a bound.
        handle: the trt.ILogger to hand to TensorRT.
    """

    _MOST = 50  # a broken graph can say the same of every node

    def __init__(self, trt: Any) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.handle = _logger_of(trt)
        _listeners.add(self)

    def take(self, severity: str, message: str) -> None:
        """Keep one message."""
        messages = self.errors if severity in _ERRORS else self.warnings if severity == "WARNING" else None
        if messages is not None and len(messages) < self._MOST:
            messages.append(message[:500])


_ERRORS = frozenset({"ERROR", "INTERNAL_ERROR"})
_listeners: "weakref.WeakSet[Log]" = weakref.WeakSet()
# TensorRT keeps the first logger it is given for the whole process and ignores others: a logger that is freed while it does
# would be called all the same. So there is one for each module, for ever, and it tells whoever listens at the moment.
_loggers: dict[str, Any] = {}


def _logger_of(trt: Any) -> Any:
    name = f"{trt.__name__} {trt.__version__} {id(trt)}"
    if name not in _loggers:
        _loggers[name] = _make_logger(trt)
    return _loggers[name]


def _make_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 refuses a subclass that does not call this itself

        def log(self, severity: Any, msg: str) -> None:
            kind = severity.name
            level = logging.ERROR if kind in _ERRORS else logging.WARNING if kind == "WARNING" else logging.DEBUG
            logger.log(level, "tensorrt: %s", msg)
            for listener in tuple(_listeners):
                listener.take(kind, msg)

    return Logger()


def make_monitor(trt: Any, report: Progress) -> Any:
    """A trt.IProgressMonitor that reports the steps of a build. TensorRT calls it from several threads."""
    totals: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            totals[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            return report(phase_name, step + 1, totals.get(phase_name, 0))

        def phase_finish(self, phase_name: str) -> None:
            totals.pop(phase_name, None)

    return Monitor()


def make_profiler(trt: Any, take: Callable[[str, float], None]) -> Any:
    """A trt.IProfiler that is told each layer's name and time in milliseconds."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            take(layer_name, ms)

    return Profiler()
