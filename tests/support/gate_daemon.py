"""The real daemon with a camera that shows a good or a bad part by its number, as a program for fault tests.

python -m tests.support.gate_daemon station.toml
"""

import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import numpy as np

from edge.camera.base import Frame, Trigger
from edge.config.file import load_config
from edge.daemon import build, main
from edge.errors import CameraError
from tests.support.bundles import bad_frame, good_frame

BAD_EVERY = 4


def is_good(count: int) -> bool:
    """The truth about a part."""
    return count % BAD_EVERY != 0


class TruthCamera:
    """A frame per trigger, right by its number."""

    name = "truth"

    def __init__(self) -> None:
        self._frames = 0
        self._interrupted = threading.Event()

    def start(self) -> None:
        self._interrupted.clear()

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        if self._interrupted.is_set():
            raise CameraError("truth: interrupted")
        self._frames += 1
        begin = time.monotonic_ns()
        pixels = good_frame(seed=trigger.count) if is_good(trigger.count) else bad_frame(seed=trigger.count)
        return Frame(np.ascontiguousarray(pixels), self._frames, begin, time.monotonic_ns())

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        return

    def __enter__(self) -> "TruthCamera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    build.make_camera = lambda _config: TruthCamera()  # type: ignore[assignment]
    load_config(Path(sys.argv[1]))
    sys.exit(main.run_daemon(Path(sys.argv[1])))
