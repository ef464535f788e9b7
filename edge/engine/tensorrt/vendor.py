"""NVIDIA's tensorrt module: found, checked for its version, and given a log and a progress display of ours.

Only names that exist in 10.3 (JetPack 6.2), 10.16 (JetPack 7.2) and 11.4 alike are used anywhere in this package; a test holds
them against recorded lists. The module is passed around as a value: tests pass TensorRT-RTX, which has the same interface.
"""

import importlib
import logging
import re
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
    """What TensorRT said in one build or load.

    Attributes:
        warnings, errors: its messages, the first of each kind up to a bound.
        handle: the trt.ILogger to hand to TensorRT; it must outlive whatever was made with it.
    """

    _MOST = 50  # a broken graph can say the same of every node

    def __init__(self, trt: Any) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.handle = _make_logger(trt, self._take)

    def _take(self, severity: str, message: str) -> None:
        if severity in {"ERROR", "INTERNAL_ERROR"}:
            _append(self.errors, message, self._MOST)
            logger.error("tensorrt: %s", message)
        elif severity == "WARNING":
            _append(self.warnings, message, self._MOST)
            logger.warning("tensorrt: %s", message)
        else:
            logger.debug("tensorrt: %s", message)


def _append(messages: list[str], message: str, most: int) -> None:
    if len(messages) < most:
        messages.append(message[:500])


def _make_logger(trt: Any, take: Callable[[str, str], None]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 refuses a subclass that does not call this itself

        def log(self, severity: Any, msg: str) -> None:
            take(severity.name, msg)

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
