"""Is this frame the picture of this part? What a camera gives is not believed until these questions are answered.

A frozen camera repeats a frame number or the same pixels: sensors have noise, so two equal pictures in a row are one picture.
A frame exposed before its trigger shows an earlier part, one exposed too long after it a later one: after one lost frame or one
missed exposure every later part would get its neighbour's picture, and nobody would notice. A frame the transport damaged is
never judged, nor one whose rows are partly those of the frame before. Last comes what only the station knows: light, focus, and
where a part lies (`edge.camera.sight`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Frame
from edge.camera.sight import Sight
from edge.daemon.stages.parts import NS_PER_MS, Ticket

_STRIDE = 16  # every 16th row and column tells most different pictures apart at 1/256 of the cost
TORN = 0.05  # share of a frame's rows; what a transport mixes is more, a saturated edge that repeats is not counted at all


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a frame: a reason code, a sentence for people, and of several cameras which one."""

    reason: str
    text: str
    view: str = ""


class FrameCheck:
    """Compares each frame with its ticket, with the frame before, and with what this station should see.

    Args:
        early_ms: how long before the trigger's stamp an exposure may begin.
        sights: what each camera should see, by its name, where that was learned; the name is empty for a single camera.
        torn: look for rows of the frame before; compressed streams repeat rows by themselves.

    Attributes:
        dropped: frame numbers the camera skipped. incomplete: frames that came damaged.
    """

    def __init__(self, early_ms: float, sights: Mapping[str, Sight] | None = None, *, torn: bool = True) -> None:
        self.dropped = 0
        self.incomplete = 0
        self._early_ms = early_ms
        self._early_ns = round(early_ms * NS_PER_MS)
        self._sights = dict(sights or {})
        self._torn = torn
        self._last: Frame | None = None
        self._views: dict[str, FrameCheck] = {}

    def look(self, frame: Frame, ticket: Ticket) -> Finding | None:
        """None when the frame may be judged."""
        if frame.views:
            return self._look_at_views(frame, ticket)
        last, self._last = self._last, frame
        finding = self._as_taken(frame, last) or self._of_its_time(frame, ticket) or self._torn_from(frame, last)
        if finding is not None:
            return finding
        sight = self._sights.get("")
        seen = None if sight is None else sight.look(frame.pixels)
        return None if seen is None else Finding(seen.reason, f"frame {frame.frame_id}: {seen.text}")

    def _as_taken(self, frame: Frame, last: Frame | None) -> Finding | None:
        if last is not None and frame.frame_id == last.frame_id:
            return Finding("frozen", f"frame {frame.frame_id} came again")
        if last is not None and frame.frame_id > last.frame_id + 1:
            self.dropped += frame.frame_id - last.frame_id - 1
        if not frame.complete:
            self.incomplete += 1
            return Finding("incomplete", f"frame {frame.frame_id} lost a part in transport")
        if last is not None and _same(frame.pixels, last.pixels):
            return Finding("frozen", f"frame {frame.frame_id} has the pixels of frame {last.frame_id}")
        return None

    def _of_its_time(self, frame: Frame, ticket: Ticket) -> Finding | None:
        early_ns = ticket.trigger.mono_ns - frame.sof_ns
        if early_ns > self._early_ns:
            return Finding("stale", f"frame {frame.frame_id} was exposed {early_ns / NS_PER_MS:.0f} ms before its trigger")
        if frame.late_ns and -early_ns > frame.late_ns:
            return Finding(
                "stale",
                f"frame {frame.frame_id} was exposed {-early_ns / NS_PER_MS:.0f} ms after its trigger, "
                f"{frame.late_ns / NS_PER_MS:.0f} ms at most are allowed (camera.late_ms)",
            )
        if frame.eof_ns > ticket.deadline_ns:
            return Finding("stale", f"frame {frame.frame_id} was exposed after the part's deadline")
        return None

    def _torn_from(self, frame: Frame, last: Frame | None) -> Finding | None:
        if not self._torn or last is None or (share := _old_rows(frame.pixels, last.pixels)) < TORN:
            return None
        return Finding(
            "incomplete", f"frame {frame.frame_id} is torn: {share:.0%} of its rows are those of frame {last.frame_id}"
        )

    def _look_at_views(self, frame: Frame, ticket: Ticket) -> Finding | None:
        """Each camera has its own numbers and its own last picture; the first finding stands for the part."""
        found: Finding | None = None
        for name, view in frame.views:
            if name not in self._views:
                sights = {"": self._sights[name]} if name in self._sights else {}
                self._views[name] = FrameCheck(self._early_ms, sights, torn=self._torn)
            finding = self._views[name].look(view, ticket)
            if finding is not None and found is None:
                found = Finding(finding.reason, f"{name}: {finding.text}", name)
        self.dropped = sum(check.dropped for check in self._views.values())
        self.incomplete = sum(check.incomplete for check in self._views.values())
        return found


def _same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    if a.shape != b.shape or not _row_same(a, b, len(a) // 2):
        return False
    return bool(np.array_equal(a[::_STRIDE, ::_STRIDE], b[::_STRIDE, ::_STRIDE]) and np.array_equal(a, b))


def _row_same(a: NDArray[np.uint8], b: NDArray[np.uint8], row: int) -> bool:
    """One row, to the bit: what tells most frames apart at once."""
    return bool(a[row].tobytes() == b[row].tobytes())


def _old_rows(new: NDArray[np.uint8], old: NDArray[np.uint8]) -> float:
    """Share of rows from the top or from the bottom on that are the old frame's, to the bit, and no flat black or white."""
    if new.shape != old.shape or min(new.shape[:2]) < 2 * _STRIDE:
        return 0.0
    a, b = new[:, ::_STRIDE], old[:, ::_STRIDE]
    if not (_row_same(a, b, 0) or _row_same(a, b, -1)):
        return 0.0  # what nearly every frame is found to be: the whole comparison costs 0.1 ms for 256 px
    same = np.asarray((a == b).all(axis=(1, 2)))
    if same.all():
        return 0.0
    changes = np.flatnonzero(~same)
    blocks = [slice(0, changes[0]), slice(changes[-1] + 1, len(same))]
    counted = 0
    for block in blocks:
        rows = new[block]
        if rows.shape[0] and np.array_equal(rows, old[block]):
            counted += int((rows.max(axis=(1, 2)) - rows.min(axis=(1, 2)) > 2).sum())
    return counted / len(same)
