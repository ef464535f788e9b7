"""Pixel measures over many pictures: pixel AUROC and AP, AU-PRO and MVTec LOCO AD's AU-sPRO.

Full-size maps of a data set do not fit in memory (LOCO: 600 pictures of 2 megapixels), so each picture is counted into bins of
its scores once and forgotten. Counts add up, so the measures of one type of defect are those of its pictures and the good
ones. Within a bin a curve is taken as straight; with the bins of `threshold_edges` the pixel AUROC is off by less than 1e-4
(the test gives the bound), and with one bin a distinct score all measures are exact.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.metrics.ranking import area_up_to

BINS = 8192
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int8)

Mask = NDArray[np.bool_]
Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """What pictures add up to; (bins,) arrays run from the lowest scores to the highest.

    Attributes:
        negative: int64, good pixels with a score in the bin. positive: int64, defective ones.
        pro: float64, sum over connected regions of the share of the region at or above the bin.
        regions: connected regions summed in `pro`.
        spro: float64, sum over defects of the saturated share found at or above the bin. defects: defects summed in `spro`.
    """

    negative: NDArray[np.int64]
    positive: NDArray[np.int64]
    pro: Curve
    regions: int
    spro: Curve
    defects: int

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(
            self.negative + other.negative,
            self.positive + other.positive,
            self.pro + other.pro,
            self.regions + other.regions,
            self.spro + other.spro,
            self.defects + other.defects,
        )

    def fpr(self) -> Curve:
        """(bins + 1,) share of good pixels above each threshold, from the highest threshold (0) to the lowest (1)."""
        return _from_the_top(self.negative) / max(1, int(self.negative.sum()))

    def auroc(self) -> float | None:
        """Pixel AUROC; None where no pixel is good or none is defective.

        Source: as `ranking.auroc`, every pixel of every picture being one sample (Bergmann et al., MVTec AD, IJCV 2021).
        """
        if not self.negative.any() or not self.positive.any():
            return None
        tpr = _from_the_top(self.positive) / int(self.positive.sum())
        return area_up_to(self.fpr(), tpr, 1.0)

    def average_precision(self) -> float | None:
        """Pixel AP: precision summed over the steps of recall; None where no pixel is good or none is defective.

        Unlike the AUROC it does not forgive a rim around every defect: false pixels count against the few defective ones. The
        precision of a bin is that at its lower end, so coarse bins give too little, never too much.
        Source: as scikit-learn's `average_precision_score`, every pixel of every picture being one sample.
        """
        if not self.negative.any() or not self.positive.any():
            return None
        found, false = _from_the_top(self.positive)[1:], _from_the_top(self.negative)[1:]
        precision = found / np.maximum(found + false, 1)
        return float(np.dot(self.positive[::-1], precision) / found[-1])

    def auroc_resolution(self) -> float:
        """How far `auroc` may be from the exact one: half the pairs that share a bin, as a share of all pairs."""
        pairs = float(self.negative.sum()) * float(self.positive.sum())
        return 0.5 * float(np.dot(self.negative.astype(np.float64), self.positive)) / pairs if pairs else 0.0

    def au_pro(self, limit: float) -> float | None:
        """Area under the per-region overlap up to a false positive rate, divided by it; None without a region.

        Source: Bergmann et al., MVTec AD (IJCV 2021), section 5.2.2: for each threshold the mean over connected regions
        (8-neighbourhood) of the share of the region found; the false positive rate is over all good pixels of all pictures.
        """
        return self._area(self.pro, self.regions, limit)

    def au_spro(self, limit: float) -> float | None:
        """Area under the saturated per-region overlap up to a false positive rate, divided by it; None without a defect.

        Source: Bergmann et al., Beyond Dents and Scratches (IJCV 2022), section 5.2: for each threshold the mean over defects
        of min(found / saturation, 1). With saturation at the whole region and one region a defect it equals `au_pro`.
        """
        return self._area(self.spro, self.defects, limit)

    def _area(self, sums: Curve, count: int, limit: float) -> float | None:
        if count == 0 or not self.negative.any():
            return None
        return area_up_to(self.fpr(), np.concatenate(([0.0], sums[::-1] / count)), limit)


def no_pixels(bins: int) -> PixelCounts:
    """Counts of no picture: what sums start from."""
    return PixelCounts(np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins), 0, np.zeros(bins), 0)


def threshold_edges(maps: Iterable[NDArray[np.float32]], bins: int = BINS) -> NDArray[np.float32]:
    """Choose where bins begin, from the small maps of all pictures, dense where few pixels lie: at the top.

    Args:
        maps: maps of any shape, float32.
        bins: number of bins wanted at most.

    Returns:
        (K,) float32 ascending and distinct with K <= bins - 1: bin k holds scores from edge k - 1 up to below edge k. All
        distinct values, where there are no more than that.
    """
    values = np.unique(np.concatenate([np.ravel(m) for m in maps]))
    if values.size < bins:
        return values.astype(np.float32)
    # The limits on the false positive rate (0.05, 0.3) lie in the upper tail, so edges crowd there: rank 1 - t^2.
    ranks = 1.0 - np.linspace(1.0, 0.0, bins - 1) ** 2
    return np.unique(values[np.rint(ranks * (values.size - 1)).astype(np.int64)]).astype(np.float32)


def split_regions(masks: Sequence[Mask]) -> list[tuple[Mask, int]]:
    """Split marked pixels into connected regions that have to be found whole; with these, sPRO is PRO.

    Args:
        masks: (H, W) bool each.

    Returns:
        One mask and its area in pixels for each connected region of their union.
    """
    if not masks:
        return []
    labels, count = ndimage.label(np.logical_or.reduce(masks), structure=_EIGHT_NEIGHBOURS)
    regions = [labels == index for index in range(1, count + 1)]
    return [(region, int(np.count_nonzero(region))) for region in regions]


def count_pixels(scores: NDArray[np.float32], defects: Sequence[tuple[Mask, int]], edges: NDArray[np.float32]) -> PixelCounts:
    """Count one picture.

    Args:
        scores: (H, W) float32, larger is more anomalous.
        defects: (H, W) bool and the pixels that saturate it, one pair a defect; none for a good part.
        edges: as `threshold_edges` gives them.

    Returns:
        Counts over edges.size + 1 bins.
    """
    bins = edges.size + 1
    at = np.searchsorted(edges, scores, side="right")
    if not defects:
        empty = no_pixels(bins)
        return PixelCounts(_histogram(at, bins), empty.positive, empty.pro, 0, empty.spro, 0)
    union = np.logical_or.reduce([mask for mask, _ in defects])
    labels, regions = ndimage.label(union, structure=_EIGHT_NEIGHBOURS)
    # One two-dimensional histogram (region, bin) over the defective pixels alone.
    flat = (labels[union].astype(np.int64) - 1) * bins + at[union]
    by_region = np.bincount(flat, minlength=regions * bins).reshape(regions, bins)
    found = by_region[:, ::-1].cumsum(axis=1)[:, ::-1]
    pro = (found / found[:, :1]).sum(axis=0)
    spro = np.zeros(bins)
    for mask, saturation_px in defects:
        above = _histogram(at[mask], bins)[::-1].cumsum()[::-1]
        spro += np.minimum(above / saturation_px, 1.0)
    return PixelCounts(_histogram(at[~union], bins), by_region.sum(axis=0), pro, int(regions), spro, len(defects))


def _histogram(at: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    return np.bincount(at.ravel(), minlength=bins).astype(np.int64)


def _from_the_top(counts: NDArray[np.int64]) -> Curve:
    return np.concatenate(([0.0], counts[::-1].cumsum().astype(np.float64)))
