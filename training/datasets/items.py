"""What a data set is made of: one picture with its type and masks, and LOCO's table of defects."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.errors import DataError

GOOD = "good"
"""The type of a part without a defect."""

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
DEFECTS_FILE = "defects_config.json"


@dataclass(frozen=True, slots=True)
class Item:
    """One picture.

    Attributes:
        path: the file.
        type: "good", or the name of the folder of its defect ("logical_anomalies", "scratch").
        masks: files that mark the defect, one a region group; empty for good parts and where nobody drew any.
    """

    path: Path
    type: str
    masks: tuple[Path, ...] = ()


class DefectConfig(msgspec.Struct, frozen=True):
    """One kind of defect in `defects_config.json` (MVTec LOCO AD).

    Attributes:
        defect_name: for people.
        pixel_value: the value its pixels have in a mask, 1 to 255.
        saturation_threshold: how much of the marked region has to be found for full marks.
        relative_saturation: whether the threshold is a share of the region (0 to 1) or a number of pixels.
    """

    defect_name: str
    pixel_value: int
    saturation_threshold: float
    relative_saturation: bool

    def saturation_px(self, area_px: int) -> int:
        """Pixels of a region of `area_px` that have to be found for full marks; at least 1.

        Source: Bergmann et al., Beyond Dents and Scratches (IJCV 2022), section 5.2: a relative threshold is a share of the
        region, an absolute one is capped by it.
        """
        wanted = self.saturation_threshold * area_px if self.relative_saturation else self.saturation_threshold
        return max(1, min(int(wanted), area_px))


def read_defects(path: Path) -> dict[int, DefectConfig]:
    """Read LOCO's table of defects.

    Args:
        path: `defects_config.json`.

    Returns:
        Pixel value in a mask -> the defect it means; empty where the file does not exist.

    Raises:
        DataError: not the form LOCO uses, a value twice, or a threshold out of range.
    """
    if not path.is_file():
        return {}
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=list[DefectConfig])
    except msgspec.MsgspecError as exc:
        raise DataError(f"{path}: expected a list of defects as MVTec LOCO AD writes it, got: {exc}") from exc
    table: dict[int, DefectConfig] = {}
    for row in rows:
        top = 1.0 if row.relative_saturation else float("inf")
        if not 1 <= row.pixel_value <= 255:
            raise DataError(f"{path}: {row.defect_name}: expected a pixel_value from 1 to 255, got {row.pixel_value}")
        if row.pixel_value in table:
            raise DataError(
                f"{path}: pixel_value {row.pixel_value} stands for {table[row.pixel_value].defect_name} and "
                f"{row.defect_name}; give each defect a value of its own"
            )
        if not 0 < row.saturation_threshold <= top:
            raise DataError(
                f"{path}: {row.defect_name}: expected a saturation_threshold above 0"
                f"{' and at most 1, being relative' if row.relative_saturation else ''}, got {row.saturation_threshold}"
            )
        table[row.pixel_value] = row
    return table
