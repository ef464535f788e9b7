"""Few good parts, shown again: a little moved, turned, nearer or farther, under other light, until they are enough to learn from.

Parts differ by where they lie and how they are lit, and twenty of them do not show how much. A detector that knew only these
would call every other place and light an anomaly. Where there are enough parts nothing is added: they show themselves what may
vary, and a place may be what makes a part good.

The light changes in tint as well, as from lamp to daylight; `training.features.jitter`, Algorithm 1's, changes one of brightness,
contrast and saturation and stays as the paper has it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENOUGH_PARTS = 100
"""Of new runs."""

MOST_TURN = math.radians(4.0)
MOST_SHIFT = 0.04
MOST_GROWTH = 0.04
"""Of the picture's side."""
MOST_LIGHT = 0.2
MOST_TINT = 0.1
"""Gain of all channels; of each channel beside it."""
_FRAME = 4
"""A quarter of the side is mirrored around the picture, so that no edge comes into view."""


def enlarge(frames: NDArray[np.uint8], least: int, seed: int) -> NDArray[np.uint8]:
    """Adds varied copies until there are enough.

    Args:
        frames: (N, S, S, 3) uint8 RGB, good parts.
        least: How many there are to be; no more than there are adds none.
        seed: Of everything drawn.

    Returns:
        (max(N, least), S, S, 3) uint8: the parts as they are, then varied copies of each in turn.
    """
    count = len(frames)
    if least <= count:
        return frames
    copies = [vary(frames[j % count], np.random.default_rng([seed, j, 0x44])) for j in range(count, least)]
    return np.concatenate([np.asarray(frames, np.uint8), np.stack(copies)])


def vary(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One varied copy.

    Args:
        frame: (S, S, 3) uint8 RGB.
        rng: Draws turn, place, size and light.
    """
    side = frame.shape[0]
    border = side // _FRAME
    framed = np.pad(np.asarray(frame, np.uint8), ((border, border), (border, border), (0, 0)), mode="reflect")
    turn = rng.uniform(-MOST_TURN, MOST_TURN)
    growth = 1.0 + rng.uniform(-MOST_GROWTH, MOST_GROWTH)
    right, down = rng.uniform(-MOST_SHIFT, MOST_SHIFT, 2) * side
    middle = framed.shape[0] / 2
    a, b = math.cos(turn) / growth, math.sin(turn) / growth
    # Pillow asks where each pixel of the copy comes from.
    whence = (a, -b, middle - a * middle + b * middle + right, b, a, middle - b * middle - a * middle + down)
    moved = Image.fromarray(framed).transform(
        (framed.shape[1], framed.shape[0]), Image.Transform.AFFINE, whence, Image.Resampling.BILINEAR
    )
    pixels = np.asarray(moved, np.float32)[border : border + side, border : border + side]
    gain = (1.0 + rng.uniform(-MOST_LIGHT, MOST_LIGHT)) * (1.0 + rng.uniform(-MOST_TINT, MOST_TINT, 3))
    return np.clip(np.rint(pixels * gain.astype(np.float32)), 0, 255).astype(np.uint8)
