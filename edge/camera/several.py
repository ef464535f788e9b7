"""Several cameras that look at one part, as one camera: their pictures stand side by side, and the part gets one verdict.

The model is trained on such pictures: what is logically wrong may show only between two views (the cap of one lid, the label of
another). All cameras are asked at once, in a thread each; a part of which one picture is missing has none to judge. Each view
keeps its own frame, so that a camera that freezes is seen although the other one moves.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Camera, Frame, Trigger
from edge.errors import CameraError


class SeveralCameras:
    """Cameras by name, left to right.

    Args:
        cameras: (name, camera), two or more.
    """

    def __init__(self, cameras: Sequence[tuple[str, Camera]]) -> None:
        if len(cameras) < 2:
            raise ValueError(f"expected two cameras or more, got {len(cameras)}")
        self._cameras = list(cameras)
        self._pool: ThreadPoolExecutor | None = None
        self._count = 0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """All of them."""
        return " + ".join(f"{name}: {camera.name}" for name, camera in self._cameras)

    @property
    def inside(self) -> tuple[Camera, ...]:
        """All of them."""
        return tuple(camera for _, camera in self._cameras)

    def start(self) -> None:
        """Open all. Raises CameraError: the first that cannot be; the others are closed again."""
        with self._lock:
            try:
                for name, camera in self._cameras:
                    _start(name, camera)
            except CameraError:
                for _, camera in self._cameras:
                    camera.close()
                raise
            if self._pool is None:
                self._pool = ThreadPoolExecutor(len(self._cameras), thread_name_prefix="view")

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """Return all views of this part as one picture.

        Args:
            trigger: the part.
            timeout_s: how long to wait at most for the last of them, in seconds.

        Raises:
            MissedError, SilentError: this is what is wrong with one of them or more, and that is all. `have` names the others.
            CameraError: one of them gave none; its `have` names those that did.
        """
        pool = self._pool
        if pool is None:
            raise CameraError(f"{self.name}: not started")
        asked = [(name, pool.submit(camera.grab, trigger, timeout_s)) for name, camera in self._cameras]
        frames: list[tuple[str, Frame]] = []
        failed: list[str] = []
        kinds: set[type[CameraError]] = set()
        until = time.monotonic() + timeout_s + 1.0
        for name, future in asked:
            frame = _answer(future, until)
            if isinstance(frame, Frame):
                frames.append((name, frame))
            else:
                failed.append(f"{name}: {frame}")
                kinds.add(type(frame) if isinstance(frame, CameraError) else CameraError)
        if failed:
            kind = kinds.pop() if len(kinds) == 1 else CameraError
            raise kind("; ".join(failed), have=tuple(name for name, _ in frames))
        self._count += 1
        return Frame(
            _side_by_side([frame.pixels for _, frame in frames]),
            self._count,
            min(frame.sof_ns for _, frame in frames),
            max(frame.eof_ns for _, frame in frames),
            all(frame.complete for _, frame in frames),
            tuple(frames),
        )

    def interrupt(self) -> None:
        """Make a blocked `grab` of each raise."""
        for _, camera in self._cameras:
            camera.interrupt()

    def close(self) -> None:
        """Free all devices. May be called twice."""
        with self._lock:
            for _, camera in self._cameras:
                camera.interrupt()
                camera.close()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "SeveralCameras":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _start(name: str, camera: Camera) -> None:
    try:
        camera.start()
    except CameraError as exc:
        raise CameraError(f"{name}: {exc}") from exc


def _answer(future: "Future[Frame]", until: float) -> Frame | CameraError | str:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except CameraError as exc:
        return exc
    except TimeoutError:
        return "its driver does not come back"
    except Exception as exc:  # noqa: BLE001 - before Python 3.11 a time-out of futures is an error of its own
        return f"{type(exc).__name__}: {exc}"


def _side_by_side(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(H, W1 + W2 + ..., 3) uint8; pictures lower than the highest stand on black."""
    height = max(picture.shape[0] for picture in pictures)
    canvas = np.zeros((height, sum(picture.shape[1] for picture in pictures), 3), np.uint8)
    x = 0
    for picture in pictures:
        canvas[: picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1]
    canvas.flags.writeable = False
    return canvas
