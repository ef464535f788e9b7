"""What of a camera's picture is judged, and which way up: a region of interest and a rotation, the same for every camera.

Cameras that can cut in the sensor should (`camera.genicam.region`): it saves bandwidth. This cuts what has arrived.
"""

from dataclasses import replace
from types import TracebackType

import numpy as np

from edge.camera.base import Camera, Frame, Trigger
from edge.errors import CameraError


class ViewedCamera:
    """A camera seen through a window.

    Args:
        camera: gives the frames.
        region: x, y, width, height in pixels of its frames; width 0 takes all.
        rotate: degrees clockwise: 0, 90, 180 or 270.
    """

    def __init__(self, camera: Camera, region: tuple[int, int, int, int], rotate: int) -> None:
        self._camera = camera
        self._region = region
        self._rotate = rotate

    @property
    def name(self) -> str:
        """The camera's."""
        return self._camera.name

    @property
    def inside(self) -> tuple[Camera, ...]:
        """The camera behind the window."""
        return (self._camera,)

    def start(self) -> None:
        """Open the camera. Raises CameraError."""
        self._camera.start()

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """The camera's frame for this trigger, cut and turned. Raises CameraError: as the camera, or the region lies outside."""
        frame = self._camera.grab(trigger, timeout_s)
        if not frame.complete:
            return frame
        pixels = frame.pixels
        x, y, width, height = self._region
        if width:
            if y + height > pixels.shape[0] or x + width > pixels.shape[1]:
                raise CameraError(
                    f"{self.name}: expected camera.region within the frame of {pixels.shape[1]} x {pixels.shape[0]} px, got "
                    f"{list(self._region)}; correct it or the camera's size"
                )
            pixels = pixels[y : y + height, x : x + width]
        pixels = np.ascontiguousarray(np.rot90(pixels, -self._rotate // 90))
        pixels.flags.writeable = False
        return replace(frame, pixels=pixels)

    def interrupt(self) -> None:
        """Make a blocked `grab` raise."""
        self._camera.interrupt()

    def close(self) -> None:
        """Free the device."""
        self._camera.close()

    def __enter__(self) -> "ViewedCamera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
