"""Pictures as the network takes them, decoded once, through the very function the box uses."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.errors import PictureError
from edge.preprocess import UNREADABLE, fit, read_picture
from training.datasets.items import Item

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

PROGRESS_EVERY_S = 5.0
_EXIF_ORIENTATION = 0x0112
_EXIF_TURNED = frozenset({5, 6, 7, 8})  # EXIF 2.32, table 4.6.4: the orientations that swap width and height


def log_progress(what: str) -> Progress:
    """Make a progress callback that writes at most one log line every five seconds, and one at the end if it took longer."""
    began = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY_S or (done == total and now - began >= PROGRESS_EVERY_S):
            last = now
            logger.info("%s: %d of %d", what, done, total)

    return report


def load_frames(items: Sequence[Item], size: int, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Decode pictures into one array.

    Args:
        items: what to read, in order.
        size: side of the network's input in pixels.
        progress: called with (done, total) after each picture; by default a log line every five seconds.

    Returns:
        (N, size, size, 3) uint8 RGB, each as `edge.preprocess.fit` makes it. N x size x size x 3 bytes: 1,000 pictures of
        256 px take 197 MB.

    Raises:
        PictureError: a picture cannot be read or is of a kind that is not judged; the message names the file.
    """
    report = progress or log_progress("reading pictures")
    frames = np.empty((len(items), size, size, 3), dtype=np.uint8)

    def read(index: int) -> None:
        frames[index] = fit(read_picture(items[index].path), size)

    # Pillow lets go of the interpreter lock while it decodes and resizes.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="decode") as pool:
        jobs = [pool.submit(read, index) for index in range(len(items))]
        try:
            for done, job in enumerate(jobs, start=1):
                job.result()
                report(done, len(items))
        except PictureError:
            pool.shutdown(cancel_futures=True)
            raise
    return frames


def picture_shape(path: Path) -> tuple[int, int]:
    """Height and width of a picture held upright, from its header alone.

    Raises:
        PictureError: missing, or not a picture.
    """
    try:
        with Image.open(path) as opened:
            turned = opened.getexif().get(_EXIF_ORIENTATION) in _EXIF_TURNED
            return (opened.width, opened.height) if turned else (opened.height, opened.width)
    except FileNotFoundError as exc:
        raise PictureError(f"{path}: no such picture") from exc
    except UNREADABLE as exc:
        raise PictureError(
            f"{path}: not a readable picture ({exc}); expected PNG, JPEG, BMP or TIFF, whole and undamaged"
        ) from exc
