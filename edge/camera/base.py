"""What every camera gives: one frame per trigger, with its identity and its times.

The abstract side owns the errors: whatever a driver throws, callers see CameraError, or MissedError where the camera lives and
only this part has no picture.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError


class SilentError(CameraError):
    """No frame came within the time given, and nothing else is known to be wrong: a triggered camera is so between parts."""


class MissedError(CameraError):
    """The camera did not expose for this part: its next frame is a later part's."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One part before the camera.

    Attributes:
        count: the trigger's number on the line, the same for box and gate (`part.trig` on the wire).
        mono_ns: when it fired, CLOCK_MONOTONIC of this machine.
        encoder: encoder counts at that moment, or 0 where there is no encoder.
        part_id: serial number read elsewhere, or an empty string.
        following: any frame begun from `mono_ns` on is asked for, not that of one part.
    """

    count: int
    mono_ns: int
    encoder: int = 0
    part_id: str = ""
    following: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB; read-only to the receiver.
        frame_id: the camera's own counter; a gap is a dropped frame, a repeat a frozen camera.
        sof_ns: start of exposure. eof_ns: end of exposure, both CLOCK_MONOTONIC.
        complete: False when the transport lost a part of the picture; such a frame is never judged.
        views: of several cameras on one part, each one's name and own frame, left to right.
        late_ns: so long after its trigger this camera's exposure may begin; 0 where the camera cannot say.
    """

    pixels: NDArray[np.uint8]
    frame_id: int
    sof_ns: int
    eof_ns: int
    complete: bool = True
    views: tuple[tuple[str, "Frame"], ...] = ()
    late_ns: int = 0


class Camera(Protocol):
    """Delivers the frame that belongs to a trigger."""

    @property
    def name(self) -> str:
        """Which camera this is, for people and for `camera/{id}/state`."""
        ...

    def start(self) -> None:
        """Open the device and begin to deliver. Raises CameraError."""
        ...

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """Return the frame exposed for this trigger.

        Args:
            trigger: the part before the camera.
            timeout_s: how long to wait at most, in seconds.

        Raises:
            MissedError: a later part's frame has come, and this one's never did.
            CameraError: no frame in time, device gone, or the driver failed.
        """
        ...

    def interrupt(self) -> None:
        """Make a blocked `grab` of another thread raise CameraError at once (shutdown)."""
        ...

    def close(self) -> None:
        """Free the device. May be called twice."""
        ...

    def __enter__(self) -> "Camera": ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
