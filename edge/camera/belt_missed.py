"""What a simulated camera gives for a part it did not expose: nothing, until the line's next exposure has come.

A real camera does not know whose exposure it gives out. When one is missed, whoever waits for it waits on, and what comes is the
next part's picture; whether that is believed is for `edge.camera.stream`, as for any other camera. Believed once, it is missing
for its own part, which gets the one after it, and so on until the line pauses.
"""

from collections.abc import Callable

from edge.camera.base import Frame, SilentError, Trigger
from edge.camera.belt_drawing import Drawing
from edge.camera.stream import FrameStream

EXPOSURE_NS = 200_000  # a part at 1 m/s moves 0.2 mm in it: what a strobed line camera uses
_FURTHEST = 64  # parts in a row that may be missed before the line counts as standing


class NextExposure:
    """The exposures of later parts, which the line goes on to make at the pitch of the last two triggers.

    Args:
        name: of the camera, for messages. drawing: the pictures. late_ns: how long after its trigger an exposure may begin.
        is_missed: whether this part is not exposed.
    """

    def __init__(self, name: str, drawing: Drawing, late_ns: int, is_missed: Callable[[int], bool]) -> None:
        self._name = name
        self._drawing = drawing
        self._late_ns = late_ns
        self._is_missed = is_missed
        self._frames = FrameStream()
        self._made = -1  # the last part exposed before it was asked for
        self._last: Trigger | None = None
        self._pitch_ns = 0

    def begin(self) -> None:
        """The camera was opened."""
        self._frames.begin(0)
        self._made, self._last, self._pitch_ns = -1, None, 0

    def is_due(self, trigger: Trigger) -> bool:
        """Whether this part was not exposed, or its exposure has already gone to an earlier one."""
        last, self._last = self._last, trigger
        if last is not None and trigger.count > last.count:
            self._pitch_ns = (trigger.mono_ns - last.mono_ns) // (trigger.count - last.count)
        elif last is not None:  # the line counts anew
            self._made = -1
            self._frames.begin(0)
        if trigger.count == self._made and self._frames.waiting:
            self._frames.begin(0)  # it was left for this part: exposed now, at its own trigger
            return self._is_missed(trigger.count)
        return trigger.count <= self._made or self._is_missed(trigger.count)

    def take(self, trigger: Trigger, end_ns: int, timeout_s: float, frame_id: int) -> Frame:
        """The next exposure, if its time fits this trigger. Raises SilentError, MissedError as a camera does."""
        if not self._frames.waiting:
            self._frames.put(self._expose(trigger, end_ns, timeout_s, frame_id))
        return self._frames.take(self._name, trigger, 0.0, late_ns=self._late_ns)

    def _expose(self, trigger: Trigger, end_ns: int, timeout_s: float, frame_id: int) -> Frame:
        first = max(trigger.count, self._made) + 1
        part = next((count for count in range(first, first + _FURTHEST) if not self._is_missed(count)), None)
        at_ns = end_ns if part is None or not self._pitch_ns else trigger.mono_ns + (part - trigger.count) * self._pitch_ns
        self._drawing.sleep_until(min(at_ns, end_ns))
        if part is None or at_ns >= end_ns:
            raise SilentError(f"{self._name}: no frame within {timeout_s:g} s for part {trigger.count}")
        pixels = self._drawing.take(part, end_ns, timeout_s)
        pixels.flags.writeable = False
        self._made = part
        return Frame(pixels, frame_id, at_ns, at_ns + EXPOSURE_NS)
