"""The worst cases as pictures: the part, its anomaly map, and what was marked on it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edge.heatmap import overlay
from edge.preprocess import Frame8, read_picture
from training.datasets import DefectConfig, read_truth
from training.evaluate import Judged

SHOWN = 6
_AT_LEAST = 2  # right verdicts shown where none was wrong: how close it was
_SIDE_PX = 320  # as the cards show them on a projector, at twice the density of a laptop's
_TRUTH = (0, 200, 255)
_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Case:
    """One card of the gallery; pictures are data URLs.

    Attributes:
        title: type, file and the names of its defects. note: score, verdict and cause.
        picture: the part. heat: with its anomaly map. truth: with the outline of its masks; None where there are none.
        wrong: whether the verdict was wrong.
    """

    title: str
    note: str
    picture: str
    heat: str
    truth: str | None
    wrong: bool


def worst_misses(judged: Sequence[Judged]) -> list[Judged]:
    """Bad parts by ascending score."""
    return sorted((one for one in judged if one.bad), key=lambda one: one.scores.raw)


def worst_alarms(judged: Sequence[Judged]) -> list[Judged]:
    """Good parts by descending score."""
    return sorted((one for one in judged if not one.bad), key=lambda one: -one.scores.raw)


def at_worst(ordered: Sequence[Judged]) -> list[Judged]:
    """The cases worth showing, of parts ordered from the worst: those judged wrongly, and some near misses where few were."""
    wrong = sum(one.bad != one.rejected for one in ordered)
    return list(ordered[: min(SHOWN, max(wrong, _AT_LEAST))])


def make_case(one: Judged, defects: dict[int, DefectConfig]) -> Case:
    """Draw one card.

    Raises:
        PictureError: the picture cannot be read any more.
        DataError: a mask is unusable.
    """
    picture = read_picture(one.item.path)
    truths = read_truth(one.item, defects)
    masks = [truth.pixels for truth in truths]
    names = ", ".join(sorted({truth.name for truth in truths if truth.name}))
    judgement = one.judgement
    cause = f", cause {judgement.cause}" if judgement.cause else ""
    return Case(
        title=f"{one.item.type}/{one.item.path.name}" + (f": {names}" if names else ""),
        note=f"score {judgement.cal:.2f} of the limit: {judgement.verdict}{cause} "
        f"(st {judgement.st:.2f}, ae {judgement.ae:.2f}, global {judgement.global_:.2f})",
        picture=_url(Image.fromarray(picture)),
        heat=_url(overlay(picture, judgement)),
        truth=_url(outline(picture, np.logical_or.reduce(masks))) if masks else None,
        wrong=one.bad != one.rejected,
    )


def outline(picture: Frame8, mask: NDArray[np.bool_]) -> Image.Image:
    """Draw a mask's border on a dimmed picture.

    Args:
        picture: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
    """
    filled = Image.fromarray(mask.astype(np.uint8) * 255)
    reach = 2 * max(1, round(min(mask.shape) / _SIDE_PX)) + 1
    border = np.asarray(filled.filter(ImageFilter.MaxFilter(reach))) > np.asarray(filled.filter(ImageFilter.MinFilter(reach)))
    shown = np.where(mask[:, :, None], picture, picture // 2)
    shown[border] = _TRUTH
    return Image.fromarray(shown.astype(np.uint8))


def _url(image: Image.Image) -> str:
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
