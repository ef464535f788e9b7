"""From the judge's small anomaly map to the picture: the one place that knows where a cell of the map lies.

The patch description network has stride 4 and describes patches of 33 px without padding, so its grid is 4 cells short on
every side of the picture. A map is padded by those 4 cells and stretched over the picture. The cells of the rim are repeated
into the border, since the patch a rim cell describes reaches to the picture's edge; padding with a number would state
something about pixels that the rim cell has seen.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BORDER_CELLS = 4


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
    padded = np.pad(np.asarray(anomaly_map, dtype=np.float32), BORDER_CELLS, mode="edge")
    # Pillow's filter widens when shrinking (antialiased) and is plain bilinear when enlarging, as `edge.preprocess.fit` is.
    return np.asarray(Image.fromarray(padded).resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
