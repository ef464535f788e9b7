"""How well structural defects are outlined: by the map people are shown, and by map_st, the map of structural defects, alone.

The shown map has each cell's larger of map_st and map_ae in units of their limits, so what map_ae says of good surroundings
lies in the first pair of figures and not in the second.
"""

import dataclasses
from typing import Any

from training.datasets import Dataset
from training.evaluate import Evaluation, measure_pixels

STRUCTURAL = "structural_anomalies"
LIMIT = 0.3
"""False-positive rate AU-PRO is measured to."""


def structural_figures(evaluation: Evaluation, dataset: Dataset) -> dict[str, Any]:
    """Pixel AP and AU-PRO (up to 0.3) of structural defects among the good parts.

    Args:
        evaluation: its parts, judged.
        dataset: where they and their masks come from.

    Returns:
        structural_ap, structural_pro by the shown map, st_ap, st_pro by map_st; nothing where the set knows no such type or
        has no masks.
    """
    shown = evaluation.by_type.get(STRUCTURAL)
    if shown is None or shown.pixels is None:
        return {}
    parts = [
        dataclasses.replace(one, judgement=dataclasses.replace(one.judgement, anomaly_map=one.scores.map_st))
        for one in evaluation.judged
        if not one.bad or one.item.type == STRUCTURAL
    ]
    alone = measure_pixels(parts, dataset)
    if alone is None:
        raise ValueError(f"{dataset.name}: its structural defects had masks and now have none")
    return {
        "structural_ap": shown.pixels.ap, "structural_pro": shown.pixels.au_pro[LIMIT],
        "st_ap": alone.ap, "st_pro": alone.au_pro[LIMIT],
    }  # fmt: skip
