"""Pictures of other things than the part: they fill painted damage, and in the paper's recipe they feed the penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.preprocess import read_picture
from training.recipe import PaperKnobs, RunConfig
from training.teacher.pictures import (
    GENERATED_SIDE_PX,
    CentrePool,
    PicturePool,
    find_pictures,
    hash_pictures,
    read_photograph,
)
from training.teacher.textures import generate_texture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

GREY_CHANCE = 0.3
"""Chance that a natural picture loses its colour (Algorithm 1)."""

GENERATED_PICTURES = 128
GENERATED_SHARE = 0.4
"""How many pictures are generated beside the photographs, and how often they are drawn where there are photographs too; the
paper's recipe draws them only where there are none."""


@dataclass(frozen=True, slots=True)
class NaturalSource:
    """Where they come from.

    Attributes:
        draw: Draws one, at the run's size.
        said: Where they come from, in words, for the record.
        identity: What names the photographs among them: how many, and the hash of their pixels as they are used.
    """

    draw: Callable[[np.random.Generator], NDArray[np.uint8]]
    said: str
    identity: str


def natural_source(config: RunConfig, photographs: Path | None) -> NaturalSource:
    """Reads the photographs, if there are some, and generates the pictures beside them.

    Args:
        config: Of the run: the paper's recipe takes no generated picture where there are photographs.
        photographs: A folder of them, searched to any depth; None for generated pictures alone.

    Raises:
        PictureError: The folder holds no picture, or one that cannot be read.
    """
    size = config.size
    rng = np.random.default_rng([config.seed, 0x55])
    paths = find_pictures([photographs]) if photographs is not None else []
    if isinstance(config.knobs, PaperKnobs):
        generated = (generate_texture(rng, GENERATED_SIDE_PX) for _ in range(GENERATED_PICTURES))
        centres = CentrePool((read_picture(path) for path in paths) if paths else generated, size)
        said = f"{len(paths)} photographs" if paths else f"{GENERATED_PICTURES} generated pictures in place of photographs"
        return NaturalSource(
            lambda draw_rng: centres.draw(draw_rng, grey_chance=GREY_CHANCE),
            f"{said}, the middle of each (Algorithm 1)",
            _name_photographs(centres.middles if paths else []),
        )
    read = [read_photograph(path) for path in paths]
    pool = PicturePool(read, generated=GENERATED_PICTURES, generated_share=GENERATED_SHARE, rng=rng)
    beside = f"{GENERATED_PICTURES} generated pictures"
    said = f"{len(read)} photographs and {beside}" if read else f"{beside}, no photographs"
    return NaturalSource(lambda draw_rng: pool.draw(draw_rng, size, grey_chance=GREY_CHANCE), said, _name_photographs(read))


def _name_photographs(photographs: Sequence[NDArray[np.uint8]]) -> str:
    """What tells photographs, as they are used and in their order, from others."""
    return f"{len(photographs)} photographs, sha256 {hash_pictures(photographs)}" if photographs else "no photographs"
