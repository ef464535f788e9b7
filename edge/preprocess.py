"""From a picture or camera frame to what the engine takes: THE definition, used by training, calibration and the box alike.

A model's input is uint8 RGB (size, size, 3). A frame of another size is stretched to it with Pillow's bilinear filter, which
widens its support when shrinking (antialiased) and computes in fixed point for 8-bit pictures: the same bytes on every machine.
A frame at least four times as large in both directions is first averaged over whole blocks of pixels, as many as fit (Pillow's
`reduce`, integers too), since the filter's cost grows with the frame: 12 ms of processor time for one of 1920x1200, against 4.
Large frames are shrunk in two bands at once where there are two cores: the same bytes in less time.
Mean and standard deviation are folded into the graph; nothing else happens to a pixel outside it.
"""

import functools
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from edge.errors import PictureError

Frame8 = NDArray[np.uint8]

MIN_SIDE_PX = 16  # below this a picture holds less than one receptive field (33 px) even when enlarged twice
MAX_PIXELS = 64_000_000  # larger than any area camera in this trade; caps what a crafted file can make us allocate
BLOCKS_FROM = 4  # times the model's size in both directions: below, pictures keep the filter's sharper edges and cost little
BANDS_FROM_PX = 500_000  # below, handing work to a second thread costs what it saves
_EIGHT_BIT_MODES = {"RGB", "L", "P", "RGBA", "LA", "1"}
UNREADABLE = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError,
    struct.error, TypeError, LookupError, ArithmeticError,
)  # fmt: skip
"""What Pillow raises on files that are cut, damaged or no pictures: a damaged EXIF field raises the last four."""


def fit(frame: Frame8, size: int) -> Frame8:
    """Resize a frame to the model's input.

    Args:
        frame: (H, W, 3) uint8 RGB.
        size: side of the model's square input in pixels.

    Returns:
        (size, size, 3) uint8 RGB, C-contiguous; the same array when it already fits.

    Raises:
        PictureError: the frame is not (H, W, 3) uint8 or is smaller than 16 px.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise PictureError(f"expected a frame of (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
    height, width = frame.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise PictureError(f"expected a frame of at least {MIN_SIDE_PX} px a side, got {width}x{height}")
    if (height, width) == (size, size):
        return np.ascontiguousarray(frame)
    frame = np.ascontiguousarray(frame)
    large = min(height, width) >= BLOCKS_FROM * size
    blocks = (height // size, width // size) if large else (1, 1)
    rows = height / blocks[0] / size
    # Bands begin at whole multiples of the step between rows: the same bytes only where binary fractions hold it exactly.
    if height * width < BANDS_FROM_PX or (rows * 2**16) % 1 or height % blocks[0] or len(os.sched_getaffinity(0)) < 2:
        return _rows(frame, size, blocks, 0, size)
    upper = _helper(os.getpid()).submit(_rows, frame, size, blocks, 0, size // 2)
    lower = _rows(frame, size, blocks, size // 2, size)
    return np.concatenate([upper.result(), lower])


def _rows(frame: Frame8, size: int, blocks: tuple[int, int], first: int, last: int) -> Frame8:
    """The rows first to last - 1 of a fitted frame.

    Args:
        frame: (H, W, 3), contiguous.
        size: side of the fitted frame.
        blocks: height and width of the blocks that are averaged first.
        first: 0 to size - 1.
        last: first + 1 to size.
    """
    height, width = frame.shape[0] / blocks[0], frame.shape[1] / blocks[1]
    step = height / size
    reach = max(step, 1.0)  # of the filter, in averaged rows
    top = max(0, int((first + 0.5) * step - reach) - 1)
    image = Image.fromarray(frame[top * blocks[0] : (int((last - 0.5) * step + reach) + 2) * blocks[0]])
    if blocks != (1, 1):
        image = image.reduce((blocks[1], blocks[0]))
    # Two calls: which direction goes first decides about the last bit, and Pillow 13 chooses it by the picture's proportions.
    across = image.resize((size, image.height), Image.Resampling.BILINEAR, box=(0.0, 0.0, width, image.height))
    down = (0.0, first * step - top, size, last * step - top)
    return np.asarray(across.resize((size, last - first), Image.Resampling.BILINEAR, box=down), dtype=np.uint8)


@functools.lru_cache(maxsize=1)
def _helper(pid: int) -> ThreadPoolExecutor:
    """The second thread of this process; a forked child has none of its parent's."""
    del pid
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="fit")


def read_picture(path: Path) -> Frame8:
    """Read a picture file as uint8 RGB in upright orientation.

    Args:
        path: a file Pillow can read: PNG, JPEG, BMP, TIFF and so on.

    Returns:
        (H, W, 3) uint8 RGB. Gray is repeated to three channels, a palette is looked up, alpha is composited on black,
        EXIF rotation is applied.

    Raises:
        PictureError: missing, unreadable, truncated, 16-bit or float, CMYK or another colour model we will not guess at,
            smaller than 16 px or larger than 64 megapixels. The message names the file and the remedy.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise PictureError(
                    f"{path}: expected at most {MAX_PIXELS} pixels, got {opened.width}x{opened.height}; crop or shrink it"
                )
            if min(opened.width, opened.height) < MIN_SIDE_PX:
                raise PictureError(
                    f"{path}: expected at least {MIN_SIDE_PX} px a side, got {opened.width}x{opened.height}; "
                    "give the camera's own picture"
                )
            if opened.mode not in _EIGHT_BIT_MODES:
                raise PictureError(
                    f"{path}: expected 8-bit RGB or gray, got mode {opened.mode}; convert it the way the camera's pictures are "
                    "made (16-bit: choose the shift, CMYK: choose the profile), since a guess would change the scores"
                )
            upright = ImageOps.exif_transpose(opened) or opened
            if upright.mode in {"P", "LA", "RGBA"}:
                rgba = upright.convert("RGBA")
                canvas = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
                canvas.alpha_composite(rgba)
                upright = canvas
            return np.array(upright.convert("RGB"), dtype=np.uint8)
    except FileNotFoundError as exc:
        raise PictureError(f"{path}: no such picture") from exc
    except UNREADABLE as exc:
        raise PictureError(
            f"{path}: not a readable picture ({exc}); expected PNG, JPEG, BMP or TIFF, whole and undamaged"
        ) from exc
