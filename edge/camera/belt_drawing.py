"""Draws the belt's coming parts while nobody asks: one thread, a few finished pictures, and the waits of whoever asks.

A picture is asked for by what stands before the lens. When a fault changes that, pictures nobody will ask for any more are
forgotten and the right ones drawn instead.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.camera.base import SilentError
from edge.camera.belt_counts import Counts
from edge.camera.belt_faults import Pixels
from edge.errors import CameraError

JOIN_S = 2.0  # one part takes tens of milliseconds, more on a loaded machine


@dataclass(frozen=True, slots=True)
class View:
    """What stands before the lens: a part, the lamp's brightness, the part's offset in shares of the frame, or an empty belt."""

    index: int
    light: float = 1.0
    shift: float = 0.0
    present: bool = True


class Drawing:
    """The pictures.

    Args:
        name: of the camera, for messages. view_of: what stands before the lens at part n. draw: its picture.
        counts: told what was drawn, and what was ready before it was asked for.
        ahead: how many coming parts are drawn beforehand. first: number of the first part expected.
    """

    def __init__(
        self,
        name: str,
        view_of: Callable[[int], View],
        draw: Callable[[View], Pixels],
        counts: Counts,
        *,
        ahead: int,
        first: int,
    ) -> None:
        self._name = name
        self._view_of = view_of
        self._draw = draw
        self._counts = counts
        self._ahead = ahead
        self._changed = threading.Condition()  # guards everything below
        self._next = first
        self._asked: View | None = None
        self._drawn: dict[View, Pixels] = {}
        self._broken: Exception | None = None
        self._thread: threading.Thread | None = None
        self._interrupted = False

    @property
    def next(self) -> int:
        """Number of the part expected next."""
        return self._next

    @property
    def waiting(self) -> int:
        """Pictures drawn and not yet asked for: at most `ahead`, and the one somebody waits for."""
        with self._changed:
            return len(self._drawn)

    def start(self) -> None:
        """Begin to draw; allows waits again after `interrupt`."""
        with self._changed:
            self._interrupted = False
            if self._thread is None:
                self._broken = None
                self._thread = threading.Thread(target=self._draw_ahead, name="belt camera", daemon=True)
                self._thread.start()

    def interrupt(self) -> None:
        """Make whoever waits raise at once, and every later one until `start`."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop drawing. May be called twice."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._drawn.clear()
            self._changed.notify_all()
        if thread is not None:
            thread.join(JOIN_S)

    def look_again(self) -> None:
        """What stands before the lens has changed."""
        with self._changed:
            self._changed.notify_all()

    # --- the caller's thread ------------------------------------------------------------------------------------------------

    def take(self, count: int, end_ns: int, timeout_s: float) -> Pixels:
        """The finished picture of part `count`; the drawing thread learns what comes next.

        Args:
            count: the part.
            end_ns: CLOCK_MONOTONIC, when to give up.
            timeout_s: how long that is from the call, for the message.

        Raises:
            CameraError: not started, interrupted, or not drawn in time.
        """
        view = self._view_of(count)
        with self._changed:
            self._counts.ready += view in self._drawn
            self._next, self._asked = count + 1, view
            self._changed.notify_all()
            try:
                while view not in self._drawn:
                    self._check()
                    left_ns = end_ns - time.monotonic_ns()
                    if left_ns <= 0:
                        raise SilentError(
                            f"{self._name}: no frame within {timeout_s:g} s, part {count} is still being drawn; this machine "
                            "draws slower than the line runs: lower the line's rate or the frame's size"
                        )
                    self._changed.wait(left_ns / 1e9)
                return self._drawn.pop(view)
            finally:
                self._asked = None

    def skip(self, count: int) -> None:
        """Part `count` passes without its picture being needed."""
        with self._changed:
            self._next = count + 1
            self._changed.notify_all()

    def sleep_until(self, end_ns: int) -> None:
        """Wait like a camera that has nothing to give. Raises CameraError: interrupted or closed meanwhile."""
        with self._changed:
            while (left_ns := end_ns - time.monotonic_ns()) > 0:
                self._check()
                self._changed.wait(left_ns / 1e9)
            self._check()

    def check(self) -> None:
        """Raises CameraError: not started, interrupted, or it cannot draw."""
        with self._changed:
            self._check()

    def _check(self) -> None:
        if self._interrupted:
            raise CameraError(f"{self._name}: interrupted")
        if self._broken is not None:
            raise CameraError(f"{self._name}: cannot draw ({self._broken})") from self._broken
        if self._thread is None:
            raise CameraError(f"{self._name}: not started")

    # --- the drawing thread -------------------------------------------------------------------------------------------------

    def _draw_ahead(self) -> None:
        mine = threading.current_thread()
        while True:
            with self._changed:
                view = self._wanted()
                while view is None and self._thread is mine:
                    self._changed.wait()
                    view = self._wanted()
                if view is None or self._thread is not mine:
                    return
            try:
                pixels = self._draw(view)
            except Exception as exc:  # noqa: BLE001 - whatever it was, `take` reports it as CameraError
                with self._changed:
                    self._broken = exc
                    self._changed.notify_all()
                return
            with self._changed:
                if self._thread is mine:
                    self._counts.drawn += 1
                    self._drawn[view] = pixels
                    self._changed.notify_all()

    def _wanted(self) -> View | None:
        """The next picture to draw, the one asked for first; None when enough are waiting. Forgets those not wanted any more."""
        coming = [self._view_of(count) for count in range(self._next, self._next + self._ahead)]
        if self._asked is not None:
            coming.insert(0, self._asked)
        for view in self._drawn.keys() - set(coming):
            del self._drawn[view]
        return next((view for view in coming if view not in self._drawn), None)
