"""Leave out pixels that no cell of the maps sees.

The unpadded trunks halve twice and round down, so the last rows and columns of most sides are computed and thrown away. Of
128 px they see 125, and at 59 x 59 positions of the largest convolution one row and one column are for nothing. Cropping the
input first is exact and saves 3 to 5 % of the two first convolutions.
"""

from collections.abc import Sequence

from export.fuse.layers import Conv


def seen_side(trunk: Sequence[Conv], last: Conv, cells: int) -> int:
    """Side of the square of pixels, from the upper left corner, on which a grid of cells depends.

    Args:
        trunk: the convolutions up to the hidden map.
        last: the one after it.
        cells: side of the grid it gives.

    Raises:
        ValueError: a convolution pads or strides, so that pixels beyond the edge would count.
    """
    side = cells
    for conv in (last, *reversed(trunk)):
        if any(conv.padding) or conv.stride != 1:
            raise ValueError(f"expected unpadded convolutions of stride 1, got padding {conv.padding}, stride {conv.stride}")
        side = (2 * side if conv.pool else side) + conv.weight.shape[2] - 1
    return side
