"""How well scores and maps separate good from bad; numpy, one screen per definition, each with its source."""

from training.metrics.intervals import auroc_interval, clopper_pearson
from training.metrics.pixels import PixelCounts, count_pixels, threshold_edges
from training.metrics.ranking import area_up_to, auroc, roc_curve

__all__ = [
    "PixelCounts",
    "area_up_to",
    "auroc",
    "auroc_interval",
    "clopper_pearson",
    "count_pixels",
    "roc_curve",
    "threshold_edges",
]
