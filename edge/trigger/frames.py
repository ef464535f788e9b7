"""The camera as trigger: it exposes by its own input, or runs by itself, and the frame says that a part is there.

    camera   every frame is a part: the light barrier is wired to the camera's trigger input. The camera's own number is the
             part's, so a frame lost on its way is a part without a verdict and is seen as one.
    motion   the camera runs by itself; a part is there when the middle of the picture differs from the empty belt, and one part
             is one stretch of such frames. The frame taken is the one in which it covers the middle most.

This object is source of triggers and camera at once: the trigger's own frame waits for the `grab` that asks for it. While no part
comes nobody else asks the camera, so a camera that fails, or does not come back, is told to who watches it (`watched_by`).
"""

import threading
import time
from collections import OrderedDict
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Camera, Frame, SilentError, Trigger
from edge.errors import CameraError
from edge.trigger.base import CameraWatch, Deliver
from edge.wire.trigger import TRIGGER_SCHEMA, LineTrigger

KEPT = 4  # frames whose `grab` has not come yet
_POLL_S = 0.25
_STUCK_MS = 1000.0  # a driver that comes back so much later than it was told does not come back
_OPEN_MS = 15_000.0  # a network camera may take ten seconds to say what it sends, and a thread two to end
_REOPEN_EVERY_S = 1.0
_SILENT_S = 2.0  # a camera that runs by itself: longer than any waits for its first frame
_WELL_AFTER = 3  # polls in a row that found nothing wrong: a flickering camera is not well
_BACKGROUND = 0.02  # share of an empty frame that goes into what the belt looks like: dirt comes slowly
_SIDE = 24


class PartDetector:
    """Sees parts pass in the middle of a free-running camera's frames.

    A damaged frame says nothing: taken for the empty belt it would hide every part, taken for a part it would make one up.

    Args:
        change: mean grey levels by which a part differs from the empty belt.

    Attributes:
        damaged: frames not looked at, since the transport lost a part of them.
    """

    def __init__(self, change: float) -> None:
        self.damaged = 0
        self._change = change
        self._empty: NDArray[np.float32] | None = None
        self._best: tuple[float, Frame] | None = None

    def look(self, frame: Frame) -> Frame | None:
        """The best frame of a part that has begun to leave, else None. The first whole frames must show the empty belt."""
        if not frame.complete:
            self.damaged += 1
            return None
        seen = _middle(frame.pixels)
        if self._empty is None or self._empty.shape != seen.shape:
            self._empty = seen
            return None
        amount = float(np.abs(seen - self._empty).mean())
        if amount >= self._change:
            if self._best is None or amount > self._best[0]:
                self._best = (amount, frame)
            return None
        self._empty += _BACKGROUND * (seen - self._empty)
        best, self._best = self._best, None
        return best[1] if best is not None else None


def _middle(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(24, 24) float32: grey levels of the middle half, sampled."""
    height, width = pixels.shape[:2]
    rows = np.linspace(height // 4, 3 * height // 4 - 1, _SIDE).astype(int)
    columns = np.linspace(width // 4, 3 * width // 4 - 1, _SIDE).astype(int)
    return np.asarray(pixels[np.ix_(rows, columns)].mean(axis=2), np.float32)


class FrameTrigger:
    """A camera that says itself when a part is there.

    Args:
        camera: gives the frames. detector: picks those that show a part; None takes every frame.

    Attributes:
        displaced: frames that came and could not be kept for their part.
    """

    def __init__(self, camera: Camera, detector: PartDetector | None = None) -> None:
        self.displaced = 0
        self._camera = camera
        self._detector = detector
        self._parts: OrderedDict[int, Frame] = OrderedDict()
        self._ready = threading.Condition()
        self._interrupted = False
        self._failure = ""
        self._started = threading.Event()
        self._count = 0
        self._watch: CameraWatch | None = None
        self._well = _WELL_AFTER  # polls in a row that found nothing wrong
        self._seen_ns = 0
        self._opened_ns = 0

    @property
    def name(self) -> str:
        """The camera's."""
        return self._camera.name

    @property
    def inside(self) -> tuple[Camera, ...]:
        """The camera."""
        return (self._camera,)

    @property
    def refused(self) -> int:
        """Frames that could not be kept for their part, and damaged ones in which a part may have passed."""
        return self.displaced + (self._detector.damaged if self._detector is not None else 0)

    # --- the camera -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the camera. Raises CameraError."""
        with self._ready:
            self._interrupted = False
            self._failure = ""
            self._parts.clear()
        self._camera.start()
        self._seen_ns = time.monotonic_ns()
        self._started.set()

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """The frame that made this trigger. Raises CameraError: it has given way to newer ones, or the camera failed."""
        del timeout_s  # it is here already, or it is not
        with self._ready:
            if self._interrupted or not self._started.is_set():
                raise CameraError(f"{self.name}: {'interrupted' if self._interrupted else 'not started'}")
            frame = self._parts.pop(trigger.count, None)
            if frame is not None:
                return frame
            raise CameraError(f"{self.name}: {self._failure or f'the frame of part {trigger.count} has given way to newer ones'}")

    def interrupt(self) -> None:
        """Make every `grab` raise until the next `start`."""
        with self._ready:
            self._interrupted = True
        self._camera.interrupt()

    def close(self) -> None:
        """Free the camera. May be called twice."""
        self._started.clear()
        self._camera.close()

    def __enter__(self) -> "FrameTrigger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def watched_by(self, watch: CameraWatch) -> None:
        """Tell this one how the camera fares."""
        self._watch = watch

    # --- the trigger ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Nothing to take: the camera is opened as one."""

    def run(self, stop: threading.Event, deliver: Deliver) -> None:
        """Take frames until told to stop, and deliver a trigger for each part."""
        after_ns = time.monotonic_ns()
        while not stop.is_set():
            if not self._started.wait(_POLL_S):
                continue
            frame = self._next(after_ns, stop)
            if frame is None:
                continue
            after_ns = frame.sof_ns + 1
            part = frame if self._detector is None else self._detector.look(frame)
            if part is not None:
                deliver(self._part(part))

    def _next(self, after_ns: int, stop: threading.Event) -> Frame | None:
        """The next frame, None when there is none within a poll; a camera that has failed is opened anew."""
        frame: Frame | None = None
        why = ""
        self._begin(_POLL_S * 1000 + _STUCK_MS)
        try:
            frame = self._camera.grab(Trigger(0, after_ns, following=True), _POLL_S)
            self._seen_ns = time.monotonic_ns()
        except CameraError as exc:
            why = self._failure_of(exc)
        finally:
            self._end()
        if not why:
            self._is_well()
        elif self._interrupted or not self._started.is_set():
            stop.wait(_POLL_S)  # on purpose
        else:
            self._has_failed(why)
            self._reopen(stop)
        return frame

    def _failure_of(self, exc: CameraError) -> str:
        """What is wrong, or an empty string: between parts a triggered camera is silent, and that is no fault."""
        if not isinstance(exc, SilentError):
            return str(exc)
        silent_s = (time.monotonic_ns() - self._seen_ns) / 1e9
        if self._detector is None or silent_s < _SILENT_S:
            return ""
        return f"{self.name}: no frame for {silent_s:.0f} s, and it runs by itself; check cable, power and network"

    def _part(self, frame: Frame) -> LineTrigger:
        # The camera's own numbers where they go up: a gap is a part whose picture was lost.
        self._count = frame.frame_id if self._detector is None and frame.frame_id > self._count else self._count + 1
        with self._ready:
            self._parts[self._count] = frame
            while len(self._parts) > KEPT:
                self._parts.popitem(last=False)
                self.displaced += 1
        return LineTrigger(TRIGGER_SCHEMA, self._count, frame.sof_ns // 1000)

    def _reopen(self, stop: threading.Event) -> None:
        """Close and open, again and again until that succeeds: no frame of a camera that is not open says that it is well."""
        while True:
            stop.wait(max(0.0, _REOPEN_EVERY_S - (time.monotonic_ns() - self._opened_ns) / 1e9))
            if self._interrupted or stop.is_set():
                return
            self._opened_ns = time.monotonic_ns()
            self._begin(_OPEN_MS)
            try:
                self._camera.close()
                self._camera.start()
                break
            except CameraError as exc:
                self._has_failed(str(exc))
            finally:
                self._end()
        self._failure = ""
        self._seen_ns = time.monotonic_ns()
        if self._watch is not None:
            self._watch.reopened()

    # --- who watches ------------------------------------------------------------------------------------------------------

    def _begin(self, limit_ms: float) -> None:
        if self._watch is not None:
            self._watch.begin(limit_ms)

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.end()

    def _has_failed(self, why: str) -> None:
        self._failure, self._well = why, 0
        if self._watch is not None:
            self._watch.failed(why)

    def _is_well(self) -> None:
        if self._well >= _WELL_AFTER:
            return
        self._well += 1
        if self._well == _WELL_AFTER:
            self._failure = ""
            if self._watch is not None:
                self._watch.recovered()
