"""Where on the part: connected regions of the anomaly map above its limit, as boxes in fractions of the picture.

A small map (56x56) holds few runs of cells, so labelling joins runs of neighbouring rows by union-find: linear in the runs,
whatever their shape, and without scipy on the box.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.anomaly_map import BORDER_CELLS, FIRST_CELL

MAX_REGIONS = 8


@dataclass(frozen=True, slots=True)
class Region:
    """A box around connected cells above the limit.

    Attributes:
        x: left, y: upper edge. w: width, h: height. All fractions of the picture in [0, 1].
        peak: largest value in it, in units of the limit.
        branch: map the peak stands in: "st" (structural) or "ae" (logical).
    """

    x: float
    y: float
    w: float
    h: float
    peak: float
    branch: str


def find_regions(map_st: NDArray[np.float32], map_ae: NDArray[np.float32]) -> tuple[Region, ...]:
    """Box the regions where either map is above 1.0.

    Args:
        map_st: (n, n) float32, structural map divided by its limit.
        map_ae: (n, n) float32, logical map divided by its limit.

    Returns:
        At most 8 regions, highest peak first. Cells that touch at a corner belong together. A cell of the rim reaches to
        the picture's edge, as `edge.anomaly_map.to_picture` draws it.
    """
    combined = np.maximum(map_st, map_ae)
    above = combined > 1.0
    if not above.any():
        return ()
    labels, count = label(above)
    peaks = np.zeros(count + 1, np.float32)
    np.maximum.at(peaks, labels[above], combined[above])
    regions = []
    # Stable: of equal peaks the one that is met first in reading order leads, on every machine.
    for number in np.argsort(-peaks[1:], kind="stable")[:MAX_REGIONS] + 1:
        rows, columns = np.nonzero(labels == number)
        values = combined[rows, columns]
        top = int(values.argmax())
        is_structural = map_st[rows[top], columns[top]] >= map_ae[rows[top], columns[top]]
        x, w = _span(int(columns.min()), int(columns.max()), combined.shape[1])
        y, h = _span(int(rows.min()), int(rows.max()), combined.shape[0])
        regions.append(Region(x, y, w, h, float(values[top]), "st" if is_structural else "ae"))
    return tuple(regions)


def _span(first: int, last: int, cells: int) -> tuple[float, float]:
    """Start and length of cells first..last as fractions of a side, which is 2 * BORDER_CELLS cells longer than the grid."""
    side = cells + 2 * BORDER_CELLS
    begin = 0.0 if first == 0 else first + FIRST_CELL
    end = float(side) if last == cells - 1 else last + 1 + FIRST_CELL
    return begin / side, (end - begin) / side


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the connected regions of a mask, corners included (8 neighbours).

    Args:
        mask: (h, w) bool.

    Returns:
        (h, w) int32 with 0 outside and 1..count inside, numbered in reading order, and the count.
    """
    height, width = mask.shape
    framed = np.zeros((height, width + 2), np.int8)
    framed[:, 1:-1] = mask
    steps = np.diff(framed, axis=1)
    # Both in reading order, so the i-th start belongs to the i-th end: one run each.
    rows, begins = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    of_row = np.searchsorted(rows, np.arange(height + 1))
    for row in range(1, height):
        upper, lower = int(of_row[row - 1]), int(of_row[row])
        while upper < of_row[row] and lower < of_row[row + 1]:
            if begins[upper] <= ends[lower] and begins[lower] <= ends[upper]:
                first, second = sorted((root(upper), root(lower)))
                parent[second] = first
            if ends[upper] < ends[lower]:
                upper += 1
            else:
                lower += 1
    labels = np.zeros((height, width), np.int32)
    numbers: dict[int, int] = {}
    for run, (at, begin, end) in enumerate(zip(rows, begins, ends, strict=True)):
        labels[at, begin:end] = numbers.setdefault(root(run), len(numbers) + 1)
    return labels, len(numbers)
