"""Generated pictures: free of any licence, without end, and full of what photographs of nature lack.

A teacher distilled from photographs alone is poor at flat colours, sharp edges, repeated parts and print, which is
what a belt shows. Each picture here is a random background (gradient, noise octaves, stripes, flat) with random
coloured shapes, repeated marks and strokes like writing on it. They also serve as the "natural" pictures of the
student's penalty where the user names none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    if rng.random() < 0.25:  # metal and plastic are often grey
        grey = int(rng.integers(15, 241))
        r, g, b = (int(np.clip(grey + rng.integers(-8, 9), 0, 255)) for _ in range(3))
    else:
        r, g, b = (int(v) for v in rng.integers(0, 256, 3))
    return r, g, b


def _octaves(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Noise with a 1/f-like spectrum: (side, side) float32 in [0, 1]."""
    roughness = rng.uniform(0.35, 0.8)
    total = np.zeros((side, side), np.float32)
    cells = int(rng.integers(2, 5))
    weight = 1.0
    while cells < side:
        coarse = Image.fromarray(rng.random((cells, cells), dtype=np.float32), mode="F")
        total += weight * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        cells *= 2
        weight *= roughness
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def _mix(amount: NDArray[np.float32], first: tuple[int, int, int], second: tuple[int, int, int]) -> Image.Image:
    a = amount[..., None]
    return Image.fromarray((np.asarray(first) * (1 - a) + np.asarray(second) * a).round().clip(0, 255).astype(np.uint8))


def _noise(rng: np.random.Generator, side: int) -> Image.Image:
    picture = _mix(_octaves(rng, side), _colour(rng), _colour(rng))
    if rng.random() < 0.4:
        amount = np.clip((_octaves(rng, side) - 0.5) * rng.uniform(2, 8) + 0.5, 0, 1)
        other = np.asarray(_mix(_octaves(rng, side), _colour(rng), _colour(rng)), np.float32)
        mixed = np.asarray(picture, np.float32) * (1 - amount[..., None]) + other * amount[..., None]
        picture = Image.fromarray(mixed.astype(np.uint8))
    return picture


def _gradient(rng: np.random.Generator, side: int) -> Image.Image:
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    ramp = np.hypot(x - rng.random(), y - rng.random()) if rng.random() < 0.3 else x * math.cos(angle) + y * math.sin(angle)
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    return _mix(ramp.astype(np.float32), _colour(rng), _colour(rng))


def _stripes(rng: np.random.Generator, side: int) -> Image.Image:
    angle, period = rng.uniform(0, math.pi), rng.uniform(4, 60)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    phase = (x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period
    if rng.random() < 0.3:
        phase = phase + 2 * _octaves(rng, side)
    wave = np.sin(phase)
    if rng.random() < 0.3:
        wave = wave * np.sin((x * math.sin(angle) - y * math.cos(angle)) * 2 * math.pi / period)
    return _mix(np.clip(wave * rng.uniform(0.5, 6) / 2 + 0.5, 0, 1).astype(np.float32), _colour(rng), _colour(rng))


def _flat(rng: np.random.Generator, side: int) -> Image.Image:
    return Image.new("RGB", (side, side), _colour(rng))


def _outline(rng: np.random.Generator, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Corners of a random closed shape around (x, y): polygon, star or blob."""
    kind = rng.integers(0, 3)
    corners = int(rng.integers(3, 9)) if kind else 24
    turn = rng.uniform(0, 2 * math.pi)
    points = []
    wobble = rng.uniform(0.6, 1.0, corners)
    for i in range(corners):
        r = radius * (wobble[i] if kind == 1 else (1.0 if i % 2 or kind == 0 else 0.5))
        a = turn + 2 * math.pi * i / corners
        points.append((x + r * math.cos(a), y + r * math.sin(a)))
    return points


def _shapes(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int) -> None:
    for _ in range(int(rng.integers(2, 14))):
        x, y = rng.uniform(0, side, 2)
        radius = rng.uniform(0.02, 0.25) * side
        fill = _colour(rng) if rng.random() < 0.85 else None
        edge = _colour(rng) if fill is None or rng.random() < 0.3 else None
        width = int(rng.integers(1, 9))
        match int(rng.integers(0, 4)):
            case 0:
                draw.ellipse((x - radius, y - radius * rng.uniform(0.4, 1), x + radius, y + radius), fill, edge, width)
            case 1:
                box = (x - radius, y - radius * rng.uniform(0.2, 1), x + radius, y + radius * rng.uniform(0.2, 1))
                draw.rounded_rectangle(box, radius * rng.uniform(0, 0.3), fill, edge, width)
            case 2:
                draw.polygon(_outline(rng, x, y, radius), fill, edge, width)
            case _:
                end = rng.uniform(0, side, 2)
                draw.line((x, y, end[0], end[1]), fill=fill or edge, width=width)


def _repeated(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int) -> None:
    """A row or grid of equal parts, like pins, holes or pads."""
    pitch = rng.uniform(0.05, 0.2) * side
    radius = pitch * rng.uniform(0.15, 0.45)
    fill, columns, rows = _colour(rng), int(rng.integers(2, 9)), int(rng.integers(1, 6))
    left, top = rng.uniform(0, side * 0.6, 2)
    round_parts = rng.random() < 0.5
    for i in range(columns):
        for j in range(rows):
            x, y = left + i * pitch, top + j * pitch
            box = (x - radius, y - radius, x + radius, y + radius)
            if round_parts:
                draw.ellipse(box, fill)
            else:
                draw.rectangle(box, fill)


def _writing(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int) -> None:
    """Strokes like a line of print, or bars like a code."""
    height = rng.uniform(0.03, 0.12) * side
    x, y = rng.uniform(0, side * 0.5), rng.uniform(0, side - height)
    ink, width = _colour(rng), max(1, int(height * rng.uniform(0.08, 0.2)))
    bars = rng.random() < 0.3
    for _ in range(int(rng.integers(4, 18))):
        if bars:
            thick = height * rng.uniform(0.03, 0.25)
            draw.rectangle((x, y, x + thick, y + height), ink)
            x += thick + height * rng.uniform(0.05, 0.2)
            continue
        points = [(x + rng.random() * height * 0.6, y + rng.random() * height) for _ in range(int(rng.integers(2, 5)))]
        draw.line(points, fill=ink, width=width)
        x += height * 0.75


_BACKGROUNDS: tuple[Callable[[np.random.Generator, int], Image.Image], ...] = (_noise, _noise, _gradient, _stripes, _flat)


def generate_texture(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Draws one picture.

    Args:
        rng: Source of every choice: the same state gives the same picture.
        side: Side in pixels.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    picture = _BACKGROUNDS[int(rng.integers(0, len(_BACKGROUNDS)))](rng, side)
    draw = ImageDraw.Draw(picture)
    if rng.random() < 0.75:
        _shapes(rng, draw, side)
    if rng.random() < 0.35:
        _repeated(rng, draw, side)
    if rng.random() < 0.4:
        _writing(rng, draw, side)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 2.0))))
    pixels = np.asarray(picture, np.float64)
    if rng.random() < 0.6:
        shade = 1 + rng.uniform(0, 0.5) * (_octaves(rng, side)[..., None] - 0.5)
        pixels = pixels * shade
    pixels = pixels + rng.normal(0, rng.uniform(0, 6), pixels.shape)
    return np.asarray(pixels.round().clip(0, 255), np.uint8)
