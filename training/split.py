"""Held-out good parts are split once more: some shape the score, the others set the limit.

Quantiles, centres and scales of the fusion are fitted on the first ones. A limit keeps its promise only on parts that shaped
nothing, so it is fitted on the rest (split conformal prediction: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random
World", section 4.3).
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

SHAPING_PARTS = 100
"""Enough for two quantiles of 57,600 and more cells; every further part is worth more to the limit."""


def shaping_count(parts: int) -> int:
    """How many of the held-out parts shape the score: at most 100, at most half."""
    return min(SHAPING_PARTS, parts // 2)


def shaping_parts(held_out: Sequence[T]) -> list[T]:
    """The first ones: quantiles and fusion constants."""
    return list(held_out[: shaping_count(len(held_out))])


def scoring_parts(held_out: Sequence[T]) -> list[T]:
    """The others: the limit and the calibration scores."""
    return list(held_out[shaping_count(len(held_out)) :])
