"""Frames of a camera that runs by itself, on their way to the triggers they belong to.

A camera's own thread puts every frame in as it comes; `take` waits for the first one begun no earlier than a trigger allows and
skips older ones. Older frames give way to newer ones, and both kinds are counted: nothing is lost silently. In a stream whose
period is known, nearly two periods without a frame are a stall, said at once rather than at the part's deadline.

A frame begun later than a trigger allows belongs to a later part and is left for it. Without that bound one missed exposure would
give every part after it its neighbour's picture, each time within its deadline, and nothing would look wrong. The same holds the
other way round where a part is never asked for and its frame is left over. Where parts follow each other faster than both bounds
together, these are narrowed: no frame lies within the bounds of two parts in a row.
"""

import threading
import time
from collections import deque
from dataclasses import replace

from edge.camera.base import Frame, MissedError, SilentError, Trigger
from edge.errors import CameraError

KEPT = 4  # frames waiting for their trigger; older ones give way
STALL_PERIODS = 1.75  # said before two periods are over; a camera at a fixed rate keeps it within a few per cent
LOOKS = 8  # per period
FIRST_FRAME_NS = 1_000_000_000  # a camera may take so long to begin its stream
LATE_NS = 10_000_000  # with the 20 ms a frame may be early less than the 33 ms between 30 parts/s; a wired camera takes 1 ms
LATE_PERIODS = 2  # a camera that runs by itself begins a frame within one period; the other is for stamps that come late


def late_bound_ns(set_ns: int, period_ns: int, *, triggered: bool) -> int:
    """How long after its trigger a frame may begin.

    Args:
        set_ns: what the configuration says, 0 for nothing.
        period_ns: of a camera that runs by itself, 0 where it is not known: then only the part's deadline is a bound.
        triggered: the trigger's own wire makes the camera expose.
    """
    return set_ns or (LATE_NS if triggered else LATE_PERIODS * period_ns)


class FrameStream:
    """The frames, and the end of them.

    Attributes:
        skipped: complete frames nobody asked for.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._frames: deque[Frame] = deque()
        self._ready = threading.Condition()
        self._interrupted = False
        self._failure = ""
        self._period_ns = 0
        self._last_ns = 0
        self._asked: Trigger | None = None

    def begin(self, period_ns: int, first_ns: int = FIRST_FRAME_NS) -> None:
        """A stream starts: forget the last one.

        Args:
            period_ns: between two frames, 0 where the camera does not run by itself or does not say.
            first_ns: so long the first frame may take.
        """
        with self._ready:
            self._frames.clear()
            self._interrupted = False
            self._failure = ""
            self._period_ns = period_ns
            self._asked = None
            self._last_ns = time.monotonic_ns() + first_ns

    def put(self, frame: Frame) -> None:
        """A frame came."""
        with self._ready:
            self._last_ns = time.monotonic_ns()
            if len(self._frames) >= KEPT:
                self.skipped += self._frames.popleft().complete
            self._frames.append(frame)
            self._ready.notify_all()

    def fail(self, why: str) -> None:
        """No frame will come any more; those that wait are still given out."""
        with self._ready:
            self._failure = why
            self._ready.notify_all()

    def interrupt(self) -> None:
        """Make every `take` raise until the next `begin`."""
        with self._ready:
            self._interrupted = True
            self._ready.notify_all()

    @property
    def waiting(self) -> int:
        """Complete frames that nobody has asked for yet."""
        return sum(frame.complete for frame in self._frames)

    def take(self, name: str, trigger: Trigger, timeout_s: float, early_ns: int = 0, late_ns: int = 0) -> Frame:
        """The frame of this trigger: the first one begun no earlier and no later than it may.

        Args:
            name: of the camera, for the errors.
            trigger: the part.
            timeout_s: how long to wait at most, in seconds.
            early_ns: so long before the trigger's stamp its exposure may begin.
            late_ns: so long after it; 0: as long as there is time.

        Raises:
            MissedError: the next frame was begun later than it may; it is left for its own part.
            CameraError: no such frame in time, the stream stalls or has ended, or `interrupt` was called.
        """
        early_ns, late_ns = self._narrowed(trigger, early_ns, 0 if trigger.following else late_ns)
        not_before_ns = trigger.mono_ns - early_ns
        until_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        with self._ready:
            while True:
                if self._interrupted:
                    raise CameraError(f"{name}: interrupted")
                self._skip_until(not_before_ns)
                if self._frames:
                    after_ns = self._frames[0].sof_ns - trigger.mono_ns
                    if late_ns and after_ns > late_ns:
                        raise MissedError(
                            f"{name}: no exposure for part {trigger.count}: the next one began {after_ns / 1e6:.1f} ms after its "
                            f"trigger, at most {late_ns / 1e6:.1f} ms are allowed (camera.late_ms)"
                        )
                    return replace(self._frames.popleft(), late_ns=late_ns)
                if self._failure:
                    raise CameraError(f"{name}: {self._failure}")
                now_ns = time.monotonic_ns()
                self._expect_life(name, now_ns)
                if now_ns >= until_ns:
                    raise SilentError(f"{name}: no frame within {timeout_s * 1000:.0f} ms")
                self._ready.wait(min(until_ns - now_ns, self._period_ns // LOOKS or 50_000_000) / 1e9)

    def _narrowed(self, trigger: Trigger, early_ns: int, late_ns: int) -> tuple[int, int]:
        """The bounds, so that they do not reach into those of the part before; a camera that runs by itself has no early one."""
        last, self._asked = self._asked, trigger
        if not early_ns or not late_ns or last is None or trigger.count <= last.count:
            return early_ns, late_ns
        pitch_ns = (trigger.mono_ns - last.mono_ns) // (trigger.count - last.count)  # on average, where parts were not asked for
        if early_ns + late_ns < pitch_ns:
            return early_ns, late_ns
        late_ns = max(1, min(late_ns, pitch_ns // 2))  # 0 would be none
        return max(0, min(early_ns, pitch_ns - late_ns - 1)), late_ns

    def _skip_until(self, not_before_ns: int) -> None:
        # A damaged frame's time is as good as any: it stands for the picture this trigger should have got.
        while self._frames and self._frames[0].sof_ns < not_before_ns:
            self.skipped += self._frames.popleft().complete

    def _expect_life(self, name: str, now_ns: int) -> None:
        silent_ns = now_ns - self._last_ns
        if self._period_ns and silent_ns > STALL_PERIODS * self._period_ns:
            raise CameraError(
                f"{name}: no frame for {silent_ns / 1e6:.0f} ms, expected one every {self._period_ns / 1e6:.0f} ms; "
                "check cable, power and network"
            )
