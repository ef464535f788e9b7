"""What cameras count of frames that became no part's picture. A camera that counts nothing of a kind has none."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Since the start. `skipped`: complete frames nobody asked for. `incomplete`: frames the transport damaged."""

    skipped: int = 0
    incomplete: int = 0


def counts_of(camera: Any) -> FrameCounts:
    """The counts of a camera, or of all cameras `inside` of it."""
    inside = [counts_of(one) for one in getattr(camera, "inside", ())]
    if inside:
        return FrameCounts(sum(one.skipped for one in inside), sum(one.incomplete for one in inside))
    return FrameCounts(getattr(camera, "skipped", 0), getattr(camera, "incomplete", 0))
