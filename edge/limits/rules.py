"""Further limits beside the one on the fused score: for a cause alone, or for a place on the part.

The fused score weighs causes and places as the model sees them. Whoever cannot bear a misprint on one label, and minds a scratch
elsewhere less, adds a limit for that place or that cause. A part passes when it is within all of them; the largest of
score / limit is what is published as `cal`. A further limit can only reject more. Its share of false rejects is part of what is
promised: `calibration.rules` divides the promise among all limits (Bonferroni), so that the whole still holds.

A place is a box in fractions of the picture; a cell of the map belongs to it when it touches it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.anomaly_map import BORDER_CELLS, FIRST_CELL
from edge.bundle.manifest import Rule
from edge.engine.base import Scores


@dataclass(frozen=True, slots=True)
class RuleCells:
    """A rule on maps of one size: `rows` and `columns` are the cells it looks at; all of them where the rule has no place."""

    rule: Rule
    rows: slice
    columns: slice

    @classmethod
    def of(cls, rule: Rule, cells: int) -> "RuleCells":
        """The cells of a (cells, cells) map that touch the rule's box."""
        if not rule.box:
            return cls(rule, slice(0, cells), slice(0, cells))
        x, y, w, h = rule.box
        return cls(rule, _span(y, h, cells), _span(x, w, cells))

    def value(self, scores: Scores) -> float:
        """What the rule's limit is compared with."""
        if self.rule.branch == "global":
            return scores.global_
        if not self.rule.box:  # the graph's own maximum, the number the branch's score is
            return scores.st if self.rule.branch == "st" else scores.ae
        return float(self.cells(scores.map_st if self.rule.branch == "st" else scores.map_ae).max())

    def cells(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rule's cells of a map, a view."""
        return values[self.rows, self.columns]


def _span(start: float, length: float, cells: int) -> slice:
    """Cells that touch [start, start + length] of a side; those of the rim reach to the picture's edge."""
    side = cells + 2 * BORDER_CELLS
    first = math.floor(start * side - FIRST_CELL)
    last = math.ceil((start + length) * side - FIRST_CELL) - 1
    first = min(max(first, 0), cells - 1)
    return slice(first, max(min(last, cells - 1), first) + 1)
