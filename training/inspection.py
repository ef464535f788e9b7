"""The inspected region: which cells of the maps count, where a picture shows more than the part.

A belt, a fixture or a neighbour in the picture is of no interest, but what lies there sets the limit as much as the part does.
Whoever exports a run may say where to look, as a gray picture on the part's own: white is inspected, black is not. Nothing is
trained again: the maps' normalization and the constants of the fusion are fitted to the inspected cells, and the others get an
infinite scale, with which nothing they show is unusual. In the engine a map's scale is a constant of each cell
(`export.fuse.maps`), so this costs no time there.

A cell describes a patch of 33 px at the model's side, so what lies up to 16 px outside the region still shows at its edge. On
the belt's tray at 128 px nothing is gained: all 24 x 24 cells touch the tray, and a smudge on the belt 10 px beside it is in
their patches (limit 19.3 of the whole picture, 18.9 with the region). It is for parts that fill less of a larger picture.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 an annotation of a public function
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from edge.anomaly_map import BORDER_CELLS, FIRST_CELL
from edge.errors import DataError
from training.errors import RecipeError
from training.families import family_of_detector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.run import AnyDetector

_WHITE_FROM = 128


def read_region(path: Path) -> NDArray[np.bool_]:
    """Reads where to look.

    Args:
        path: A gray picture on the part's own, of any size; it is laid over the picture as a whole.

    Returns:
        (H, W), True where the part is inspected; not the same everywhere.

    Raises:
        DataError: Not a gray picture, or all of it is black or white.
    """
    try:
        with Image.open(path) as opened:
            if opened.mode not in {"L", "1"}:
                raise DataError(
                    f"{path}: expected a picture of one 8-bit gray channel, white where the part is inspected, got mode "
                    f"{opened.mode}; save it as gray"
                )
            white = np.asarray(opened.convert("L")) >= _WHITE_FROM
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as exc:
        raise DataError(f"{path}: not a readable picture ({exc}); expected an 8-bit gray PNG, whole and undamaged") from exc
    if white.all() or not white.any():
        raise DataError(
            f"{path}: expected white where the part is inspected and black elsewhere, got {'white' if white.any() else 'black'} "
            "only; paint the part white, or leave the region out to inspect the whole picture"
        )
    return white


def cells_of(region: NDArray[np.bool_], edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cells of a map are inspected: those that touch a white pixel.

    Args:
        region: (H, W), as `read_region` gives it.
        edges: (n + 1,) where the cells of a side begin, and where the last one ends, in parts of the picture from 0 to 1.

    Returns:
        (n, n), True where the cell counts.
    """
    rows = _any_along(region, edges)
    cells: NDArray[np.bool_] = _any_along(rows.T, edges).T
    return cells


def _any_along(marked: NDArray[np.bool_], edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(H, W) -> (n, W): True where any row of the cell is."""
    height = len(marked)
    first = np.minimum(np.floor(edges[:-1] * height + 1e-9).astype(int), height - 1)
    behind = np.maximum(np.ceil(edges[1:] * height - 1e-9).astype(int), first + 1)
    return np.stack([marked[low:high].any(0) for low, high in zip(first, behind, strict=True)])


def edges_of(detector: AnyDetector) -> NDArray[np.float64]:
    """Where the cells of a detector's own maps lie; those of the rim reach to the picture's edge."""
    cells, beyond = detector.cell_st.shape[-1], detector.beyond_cells
    edges = (np.arange(cells + 1) + FIRST_CELL - beyond) / (cells + 2 * (BORDER_CELLS - beyond))
    edges[0], edges[-1] = 0.0, 1.0
    return edges


def restrict(detector: AnyDetector, frames: NDArray[np.uint8], region: NDArray[np.bool_]) -> float:
    """Lets only the inspected cells count, in place; how much each branch counts stays as it is.

    Args:
        detector: Trained and fitted.
        frames: (N, S, S, 3) uint8 held-out good parts that shape the score, those it was fitted on.
        region: (H, W), where to look.

    Returns:
        Share of the cells that is inspected.

    Raises:
        RecipeError: A global head counts, which looks at the whole picture.
    """
    if detector.fusion[6] > 0:
        raise RecipeError(
            "the global head pools the whole picture and counts in this run's score, so no region can be left out: train "
            "without --head (LGFDR: --knob pooled_head=false)"
        )
    inspected = cells_of(region, edges_of(detector))
    st, ae = family_of_detector(detector).refit_maps(detector, frames, inspected)
    for index, value in zip((0, 1, 3, 4), (st.center, st.scale, ae.center, ae.scale), strict=True):
        detector.fusion[index] = value
    return float(inspected.mean())
