"""Pictures for the browser, made when asked for and kept for the next who asks: the frame as JPEG, the map as PNG.

Encoding is the dear part of the page. It happens in the server's threads one at a time, never in the inference thread; a
frame is shrunk first (Pillow holds the interpreter's lock while it compresses), and its cost is measured so that the browser
can be told how often to ask.
"""

import io
import threading
import time
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.anomaly_map import to_picture
from edge.page.live import LiveView
from edge.page.rows import HEAT_FROM

SHOWN_SIDE_PX = 720  # what a phone or a third of a shop-floor screen can show
JPEG_QUALITY = 85
CACHE_ENTRIES = 64
HEAT_STEPS = 255
_CPU_SHARE = 0.02  # of one core, for encoding
_MIN_INTERVAL_MS = 100.0
_MAX_INTERVAL_MS = 2000.0


def _heat_palette() -> tuple[bytes, bytes]:
    """Colours (768 bytes RGB) and opacities (256 bytes) of the heat map; index 0 is clear, 255 is at the limit and above.

    Yellow, orange, red: lightness falls steadily, so the order survives a gray print and red-green colour blindness.
    """
    share = np.clip((np.arange(256) - 1) / (HEAT_STEPS - 1), 0.0, 1.0)
    stops = np.array([0.0, 0.5, 1.0])
    rgb = np.stack(
        [
            np.interp(share, stops, [255, 255, 214]),
            np.interp(share, stops, [236, 146, 20]),
            np.interp(share, stops, [70, 20, 28]),
        ],
        axis=1,
    )
    alpha = np.interp(share, [0.0, 0.25, 1.0], [0, 130, 255])
    alpha[0] = 0
    return rgb.round().astype(np.uint8).tobytes(), alpha.round().astype(np.uint8).tobytes()


_PALETTE, _ALPHA = _heat_palette()


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Shrink a frame (H, W, 3) uint8 RGB to at most 720 px a side and compress it."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    factor = -(-max(picture.size) // SHOWN_SIDE_PX)
    if factor > 1:
        picture = picture.reduce(factor)
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=JPEG_QUALITY)
    return sink.getvalue()


def encode_heat(anomaly_map: NDArray[np.float32], side_px: int = 256) -> bytes:
    """Draw a map (n, n) float32 in units of the limit as a PNG with transparency that covers the whole picture.

    Clear below half the limit, then yellow to red; everything at or above the limit has the same red, so that what rejects is
    one colour.
    """
    full = to_picture(np.nan_to_num(anomaly_map, nan=0.0, posinf=1.0, neginf=0.0), side_px, side_px)
    share = (full - HEAT_FROM) / (1.0 - HEAT_FROM)
    index = np.where(share <= 0.0, 0, np.clip(np.ceil(share * HEAT_STEPS), 1, HEAT_STEPS)).astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(_PALETTE)
    sink = io.BytesIO()
    picture.save(sink, "PNG", compress_level=1, transparency=_ALPHA)
    return sink.getvalue()


class Pictures:
    """Encoded pictures by kind and part; at most 64, the least recently asked for go first."""

    def __init__(self, view: LiveView) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._encode_ms = 2.0

    def jpeg(self, seq: int) -> bytes | None:
        """The frame of a part as JPEG, or None when there is none any more."""
        return self._get("jpeg", seq)

    def heat(self, seq: int) -> bytes | None:
        """The heat map of a part as PNG, or None when there is none any more."""
        return self._get("heat", seq)

    def interval_ms(self, readers: int) -> float:
        """How long a browser should wait between two pictures, so that encoding stays below 2 % of a core."""
        return min(max(_MIN_INTERVAL_MS, self._encode_ms * max(readers, 1) / _CPU_SHARE), _MAX_INTERVAL_MS)

    def _get(self, kind: str, seq: int) -> bytes | None:
        key = (kind, seq)
        with self._lock:
            done = self._cache.get(key)
            if done is not None:
                self._cache.move_to_end(key)
                return done
            picture = self._view.picture(seq)
            source = None if picture is None else picture.pixels if kind == "jpeg" else picture.anomaly_map
            if source is None:
                return None
            start_ns = time.thread_time_ns()
            done = encode_jpeg(source) if kind == "jpeg" else encode_heat(source)  # type: ignore[arg-type]
            spent_ms = (time.thread_time_ns() - start_ns) / 1e6
            if kind == "jpeg":
                self._encode_ms += 0.1 * (spent_ms - self._encode_ms)
            self._cache[key] = done
            if len(self._cache) > CACHE_ENTRIES:
                self._cache.popitem(last=False)
            return done
