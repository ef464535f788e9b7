"""Is this frame the picture of this part? What a camera gives is not believed until these questions are answered.

A frozen camera repeats a frame number or the same pixels: sensors have noise, so two equal pictures in a row are one picture.
A frame exposed before its trigger shows an earlier part: after one lost frame every later part would get its neighbour's
picture, and nobody would notice. A frame the transport damaged is never judged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Frame
from edge.daemon.parts import NS_PER_MS, Ticket

_STRIDE = 16  # every 16th row and column tells most different pictures apart at 1/256 of the cost


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a frame: a reason code, and a sentence for people."""

    reason: str
    text: str


class FrameCheck:
    """Compares each frame with its ticket and with the frame before.

    Args:
        early_ms: how long before the trigger's stamp an exposure may begin.

    Attributes:
        dropped: frame numbers the camera skipped.
    """

    def __init__(self, early_ms: float) -> None:
        self.dropped = 0
        self._early_ns = round(early_ms * NS_PER_MS)
        self._last: Frame | None = None

    def look(self, frame: Frame, ticket: Ticket) -> Finding | None:
        """None when the frame may be judged."""
        last, self._last = self._last, frame
        if last is not None and frame.frame_id == last.frame_id:
            return Finding("frozen", f"frame {frame.frame_id} came again")
        if last is not None and frame.frame_id > last.frame_id + 1:
            self.dropped += frame.frame_id - last.frame_id - 1
        if not frame.complete:
            return Finding("incomplete", f"frame {frame.frame_id} lost a part in transport")
        if last is not None and _same(frame.pixels, last.pixels):
            return Finding("frozen", f"frame {frame.frame_id} has the pixels of frame {last.frame_id}")
        early_ns = ticket.trigger.mono_ns - frame.sof_ns
        if early_ns > self._early_ns:
            return Finding("stale", f"frame {frame.frame_id} was exposed {early_ns / NS_PER_MS:.0f} ms before its trigger")
        if frame.eof_ns > ticket.deadline_ns:
            return Finding("stale", f"frame {frame.frame_id} was exposed after the part's deadline")
        return None


def _same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    if a.shape != b.shape:
        return False
    return bool(np.array_equal(a[::_STRIDE, ::_STRIDE], b[::_STRIDE, ::_STRIDE]) and np.array_equal(a, b))
