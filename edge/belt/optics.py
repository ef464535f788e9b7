"""From the drawn scene to the camera's bytes: belt, light, white balance, reflections, blur, noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edge.belt.canvas import Canvas, Pose
from edge.belt.dice import Dice
from edge.belt.texture import BELTS, TILE, VARIANTS, crop, sensor_noise, tile

BELT_TONES = (
    (0.13, 0.28, 0.21), (0.16, 0.18, 0.20), (0.38, 0.40, 0.41), (0.14, 0.24, 0.38), (0.60, 0.61, 0.60), (0.44, 0.38, 0.30),
)  # fmt: skip
DRIFT_PERIOD = 240  # parts; the lamp warms up and ages, slowly against one part


@dataclass(frozen=True, slots=True)
class Optics:
    """Light and camera of one exposure. All are harmless within the ranges the scene draws them from.

    Attributes:
        gain: overall brightness, 1 nominal. balance: red and blue gain against green.
        slope: brightness change across half the frame along x and y. vignette: loss in the corners.
        blur_px: Gaussian radius at 256 px. noise: deviation at mid-grey, in 8-bit counts.
    """

    gain: float
    balance: tuple[float, float]
    slope: tuple[float, float]
    vignette: float
    blur_px: float
    noise: float


def lay_belt(canvas: Canvas, batch: Dice, dice: Dice) -> None:
    """Fill the picture with the belt: texture and tone by batch, wear and place by part."""
    kind = batch.fork("belt kind").pick(BELTS)
    surface = tile(kind, batch.fork("belt tile").integer(VARIANTS))
    tone = batch.fork("belt tone").pick(BELT_TONES)
    side = min(TILE, 256)
    window = crop(surface, dice.fork("belt place"), side, side)
    if canvas.size != side:
        picture = Image.fromarray(np.ascontiguousarray(window))
        window = np.asarray(picture.resize((canvas.size, canvas.size), Image.Resampling.BILINEAR), np.float32)
    level = dice.fork("belt level").around(1.0, 0.15)
    contrast = batch.fork("belt contrast").uniform(0.05, 0.14)
    shade = (np.float32(1.0) + np.float32(contrast) * window) * np.float32(level)
    for channel in range(3):
        np.multiply(shade, np.float32(tone[channel]), out=canvas.rgb[channel])


def reflections(canvas: Canvas, dice: Dice) -> None:
    """Up to two soft reflections of the lamp on the part."""
    for _ in range(dice.integer(3)):
        x, y = dice.uniform(-90.0, 90.0), dice.uniform(-90.0, 90.0)
        window = canvas.window(Pose.of(x, y, dice.uniform(0.0, 180.0), 1.0), 46.0, 16.0)
        strength = dice.uniform(0.02, 0.09)
        if window is None:
            continue
        fall = np.clip(1 - (window.u / np.float32(46)) ** 2 - (window.v / np.float32(16)) ** 2, 0, 1)
        canvas.rgb[:, window.rows, window.columns] += fall * fall * np.float32(strength)


def expose(canvas: Canvas, optics: Optics, dice: Dice) -> NDArray[np.uint8]:
    """Take the picture.

    Returns:
        (size, size, 3) uint8 RGB, C-contiguous.
    """
    size = canvas.size
    axis = ((np.arange(size, dtype=np.float64) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    across = np.float32(optics.slope[0]) * axis - np.float32(optics.vignette / 2) * axis * axis
    down = np.float32(optics.slope[1]) * axis - np.float32(optics.vignette / 2) * axis * axis
    field = (np.float32(1) + across)[None, :] * (np.float32(1) + down)[:, None] * np.float32(optics.gain * 255.0)
    raw = np.empty((size, size, 3), np.uint8)
    gains = (optics.balance[0], 1.0, optics.balance[1])
    for channel in range(3):
        plane = canvas.rgb[channel] * field
        plane *= np.float32(gains[channel])
        raw[:, :, channel] = np.clip(plane, 0, 255, out=plane)
    radius = optics.blur_px * canvas.unit
    picture = Image.fromarray(raw).filter(ImageFilter.GaussianBlur(radius)) if radius > 0.0 else Image.fromarray(raw)
    return _add_noise(np.asarray(picture), optics.noise, dice)


def _add_noise(picture: NDArray[np.uint8], deviation: float, dice: Dice) -> NDArray[np.uint8]:
    """Add sensor noise that grows with the signal, as shot noise does: 0.6 of it in the dark, 1.4 in the light."""
    size = picture.shape[0]
    bank = sensor_noise()
    limit = bank.shape[1]
    out = np.empty_like(picture)
    rows = (np.arange(size) + dice.integer(limit)) % limit if size > limit else None
    top, left = dice.integer(max(1, limit - size)), dice.integer(max(1, limit - size))
    for channel in range(3):
        plane = picture[:, :, channel].astype(np.float32)
        noise = bank[channel][np.ix_(rows, rows)] if rows is not None else bank[channel, top : top + size, left : left + size]
        plane += noise * (plane * np.float32(0.8 * deviation / 255.0) + np.float32(0.6 * deviation))
        plane += np.float32(0.5)
        out[:, :, channel] = np.clip(plane, 0, 255, out=plane)
    return out
