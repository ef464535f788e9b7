"""A camera that takes its frames from picture files: for trials, for replaying what a line has recorded, for tests.

Each trigger gets the next picture in the order of the file names. Two equal pictures in a row look like a frozen camera to the
daemon, and are meant to: a folder needs at least two different ones.
"""

import threading
import time
from pathlib import Path
from types import TracebackType

from edge.camera.base import Frame, Trigger
from edge.errors import CameraError, PictureError
from edge.preprocess import read_picture

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class FolderCamera:
    """Pictures of one folder, one per trigger.

    Args:
        folder: where they are; subfolders are not entered.
        loop: begin again after the last one.
    """

    def __init__(self, folder: Path, *, loop: bool = True) -> None:
        self._folder = folder
        self._loop = loop
        self._files: list[Path] = []
        self._next = 0
        self._interrupted = threading.Event()

    @property
    def name(self) -> str:
        """The folder."""
        return f"folder {self._folder}"

    def start(self) -> None:
        """List the pictures. Raises CameraError: there is no such folder, or no picture in it."""
        self._interrupted.clear()
        if not self._folder.is_dir():
            raise CameraError(f"{self._folder}: expected a folder of pictures, there is none; check camera.folder.path")
        self._files = sorted(file for file in self._folder.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not self._files:
            raise CameraError(f"{self._folder}: expected PNG, JPEG, BMP or TIFF pictures, found none; check camera.folder.path")

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """Read the next picture.

        Args:
            trigger: the part; pictures go by order, not by part.
            timeout_s: not waited for: a file is there or not.

        Raises:
            CameraError: interrupted, the pictures are used up, or the file cannot be read.
        """
        del trigger, timeout_s
        if self._interrupted.is_set():
            raise CameraError(f"{self.name}: interrupted")
        if not self._files:
            raise CameraError(f"{self.name}: not started")
        if self._next >= len(self._files) and not self._loop:
            raise CameraError(
                f"{self.name}: all {len(self._files)} pictures are used up; set camera.folder.loop = true to repeat"
            )
        begin_ns = time.monotonic_ns()
        file = self._files[self._next % len(self._files)]
        self._next += 1
        try:
            pixels = read_picture(file)
        except PictureError as exc:
            raise CameraError(str(exc)) from exc
        pixels.flags.writeable = False
        return Frame(pixels, self._next, begin_ns, time.monotonic_ns())

    def interrupt(self) -> None:
        """The next `grab` raises; none ever blocks."""
        self._interrupted.set()

    def close(self) -> None:
        """Forget the files. May be called twice."""
        self._files = []

    def __enter__(self) -> "FolderCamera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
