"""Masks: which pixels of a picture are defective, and how much of them has to be found.

Every mask file is one region group. In MVTec LOCO AD its pixel value names the defect and, through `defects_config.json`, its
saturation threshold; elsewhere any value but 0 is defective and all of it has to be found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edge.errors import DataError
from training.datasets.frames import picture_shape
from training.datasets.items import DefectConfig, Item


@dataclass(frozen=True, slots=True)
class Truth:
    """One marked region group of a picture.

    Attributes:
        pixels: (H, W) bool, True where defective; at least one pixel.
        name: the defect's name where the data set gives one, else an empty string.
        saturation_px: pixels that have to be found for full marks.
    """

    pixels: NDArray[np.bool_]
    name: str
    saturation_px: int


def read_truth(item: Item, defects: Mapping[int, DefectConfig]) -> tuple[Truth, ...]:
    """Read the masks of one picture.

    Args:
        item: the picture.
        defects: the data set's `saturation`; empty where it has no `defects_config.json`.

    Returns:
        One entry a mask file, in the order of the item; empty for an item without masks.

    Raises:
        DataError: a mask is unreadable, marks nothing, has another size than its picture or a value nobody explained.
        PictureError: the picture itself is unreadable.
    """
    if not item.masks:
        return ()
    shape = picture_shape(item.path)
    return tuple(_read_one(mask, item.path, shape, defects) for mask in item.masks)


def _read_one(mask: Path, picture: Path, shape: tuple[int, int], defects: Mapping[int, DefectConfig]) -> Truth:
    values = _read_gray(mask)
    if values.shape != shape:
        hint = (
            "the picture carries an EXIF rotation: save it upright, or rotate the mask"
            if values.shape == shape[::-1]
            else "draw the mask on the picture itself, or resize it without interpolation"
        )
        raise DataError(
            f"{mask}: expected a mask of {shape[1]}x{shape[0]} px like its picture {picture}, "
            f"got {values.shape[1]}x{values.shape[0]}; {hint}"
        )
    found = [int(v) for v in np.unique(values) if v]
    if not found:
        raise DataError(f"{mask}: expected some pixels other than 0, got none; delete the mask, or move the picture to test/good")
    pixels = values > 0
    area = int(np.count_nonzero(pixels))
    if not defects:
        return Truth(pixels, "", area)
    if len(found) > 1 or found[0] not in defects:
        raise DataError(
            f"{mask}: expected 0 and one value of defects_config.json ({', '.join(map(str, sorted(defects)))}), "
            f"got {', '.join(map(str, found[:8]))}; write one file for each defect, without smoothing"
        )
    defect = defects[found[0]]
    return Truth(pixels, defect.defect_name, defect.saturation_px(area))


def _read_gray(mask: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(mask) as opened:
            # "P" keeps its indices and "1" its bits: a mask's values are labels, not colours.
            if opened.mode not in {"L", "P", "1"}:
                raise DataError(f"{mask}: expected a mask of one 8-bit channel, got mode {opened.mode}; save it as gray")
            return np.asarray(opened, dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as exc:
        raise DataError(f"{mask}: not a readable mask ({exc}); expected an 8-bit gray PNG, whole and undamaged") from exc
