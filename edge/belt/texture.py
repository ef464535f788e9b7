"""Procedural surfaces, made once per process and cropped for every part.

Each tile is (TILE, TILE) float32 of mean about 0 and deviation about 1; the scene multiplies a colour with `1 + k * tile`.
Tiles are built from integer noise and Pillow's fixed-point resampling, so they are the same on every machine.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.belt.dice import Dice, bell, noise_bytes

TILE = 448  # px; a 256 px crop has 192 x 192 places to come from
VARIANTS = 4  # tiles per kind of surface
Tile = NDArray[np.float32]


def _cloud(seed: int, cells_y: int, cells_x: int) -> Tile:
    """Smooth noise: a coarse grid of bytes enlarged with a bicubic filter, (TILE, TILE) in about [-1, 1]."""
    grid = Image.fromarray(noise_bytes(seed, cells_y * cells_x).reshape(cells_y, cells_x))
    wide = np.asarray(grid.resize((TILE, TILE), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.asarray((wide - np.float32(127.5)) / np.float32(74.0), dtype=np.float32)


def _fractal(seed: int, cells: int, octaves: int, stretch: int = 1) -> Tile:
    """Octaves of cloud, each twice as fine and about half as strong; `stretch` draws the grain out along x."""
    total = np.zeros((TILE, TILE), np.float32)
    weight = np.float32(1.0)
    for octave in range(octaves):
        fine = cells << octave
        total += weight * _cloud(seed + 101 * octave, min(fine, TILE), max(2, min(fine // stretch, TILE)))
        weight *= np.float32(0.6)
    return total


def _wave(period: float, phase: float, along_x: bool) -> Tile:
    """A row of bumps: parabolic, 0 at the seams and 1 on the crests, broadcast over the tile."""
    place = (np.arange(TILE, dtype=np.float64) + phase) / period
    rest = (place - np.floor(place)).astype(np.float32)
    bump = 4.0 * rest * (np.float32(1.0) - rest)
    return np.broadcast_to(bump[None, :] if along_x else bump[:, None], (TILE, TILE))


def _standard(tile: Tile) -> Tile:
    """Mean 0, deviation 1; the two moments are rounded so that summation order cannot show in the pixels."""
    mean = np.float32(round(float(tile.mean(dtype=np.float64)), 4))
    spread = np.float32(round(float(tile.std(dtype=np.float64)), 4))
    return np.ascontiguousarray((tile - mean) / spread)


def _rubber(seed: int, dice: Dice) -> Tile:
    ribs = _wave(dice.uniform(5.0, 9.0), dice.uniform(0.0, 9.0), along_x=True)
    made: Tile = 0.5 * bell(seed, TILE, TILE) + 0.8 * ribs + 0.8 * _fractal(seed, 6, 4)
    return made


def _weave(seed: int, dice: Dice) -> Tile:
    period = dice.uniform(5.0, 8.0)
    threads = _wave(period, 0.0, along_x=True) * _wave(period, 0.0, along_x=False)
    made: Tile = 2.4 * threads + 0.35 * bell(seed, TILE, TILE) + 0.7 * _fractal(seed, 5, 4)
    return made


def _slats(seed: int, dice: Dice) -> Tile:
    # A modular belt: plastic links with a dark seam between them; seams repeat about four times per picture.
    across = _wave(dice.uniform(48.0, 72.0), dice.uniform(0.0, 60.0), along_x=False)
    seam = np.clip(across * 6.0, 0.0, 1.0)
    pins = np.clip(_wave(dice.uniform(26.0, 40.0), 0.0, along_x=True) * 9.0, 0.0, 1.0)
    made: Tile = 1.6 * seam + 0.7 * pins + 0.25 * bell(seed, TILE, TILE) + 0.4 * _fractal(seed, 6, 4)
    return made


def _brushed(seed: int, dice: Dice) -> Tile:
    made: Tile = (
        _fractal(seed, 224, 2, stretch=dice.integer(20) + 24) + 0.5 * _fractal(seed + 7, 5, 3) + 0.15 * bell(seed, TILE, TILE)
    )
    return made


def _grain(seed: int, _dice: Dice) -> Tile:
    made: Tile = _fractal(seed, 110, 2) + 0.4 * bell(seed, TILE, TILE)
    return made


def _fibre(seed: int, dice: Dice) -> Tile:
    # Cardboard: short fibres both ways over slow patches.
    flat = _fractal(seed, 60, 3, stretch=5)
    upright = _fractal(seed + 3, 60, 3, stretch=5).T
    made: Tile = flat + dice.uniform(0.4, 0.8) * upright + 0.5 * _fractal(seed + 11, 5, 3) + 0.3 * bell(seed, TILE, TILE)
    return made


def _wood(seed: int, dice: Dice) -> Tile:
    warp = 14.0 * _fractal(seed, 3, 2, stretch=2)
    rows = (np.arange(TILE, dtype=np.float32)[:, None] + warp) / np.float32(dice.uniform(9.0, 17.0))
    rest = rows - np.floor(rows)
    made: Tile = 1.4 * rest + _fractal(seed + 5, 112, 2, stretch=16) + 0.2 * bell(seed, TILE, TILE)
    return made


def _smooth(seed: int, _dice: Dice) -> Tile:
    return _fractal(seed, 4, 5)


_MAKERS: dict[str, Callable[[int, Dice], Tile]] = {
    "rubber": _rubber,
    "weave": _weave,
    "slats": _slats,
    "brushed": _brushed,
    "grain": _grain,
    "fibre": _fibre,
    "wood": _wood,
    "smooth": _smooth,
}
BELTS = ("rubber", "weave", "slats", "brushed", "smooth")


@lru_cache(maxsize=len(_MAKERS) * VARIANTS)
def tile(kind: str, variant: int) -> Tile:
    """The cached tile of a surface.

    Args:
        kind: one of "rubber", "weave", "slats", "brushed", "grain", "fibre", "wood", "smooth".
        variant: which of the VARIANTS tiles.

    Returns:
        (TILE, TILE) float32, mean 0, deviation 1; read-only.
    """
    seed = 1009 * (sorted(_MAKERS).index(kind) + 1) + 31 * variant
    made = _standard(_MAKERS[kind](seed, Dice("tile", kind, variant)))
    made.flags.writeable = False
    return made


@lru_cache(maxsize=1)
def sensor_noise() -> NDArray[np.float32]:
    """Noise of a colour sensor, (3, 768, 768) float32 of deviation 1: partly shared by the channels, as demosaicing does."""
    own = bell(77_001, 3, 768, 768)
    shared = bell(77_002, 1, 768, 768)
    made = 0.8 * own + 0.6 * shared
    made.flags.writeable = False
    return made


def crop(source: Tile, dice: Dice, height: int, width: int) -> Tile:
    """A random window of a tile, mirrored at random.

    Returns:
        (height, width) float32 view.
    """
    top, left = dice.integer(TILE - height + 1), dice.integer(TILE - width + 1)
    window = source[top : top + height, left : left + width]
    if dice.chance(0.5):
        window = window[:, ::-1]
    return window[::-1] if dice.chance(0.5) else window
