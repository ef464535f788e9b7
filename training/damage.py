"""Damage painted on good parts while the student learns: what it must *not* say like the teacher.

A short run on parts that vary much (materials, tints, free places) teaches the student to say what the teacher says nearly
everywhere, defects included: the difference of the two then finds none. So the student also sees good parts with painted damage,
and there its target lies apart from what the teacher would say of the undamaged part (see `training.trainers`).

The damage is generic, of any trade: strokes (straight, bent, branching) and patches (round, ragged, angular) filled with a
colour, darker or brighter, with a piece of a photograph, with pixels from elsewhere on the part, or shaded like a bump or a
groove. It knows nothing of any product or of the belt's defects, and it is not what calibration and certificate use
(`calibration.damage`).

After DRAEM (Zavrtanik et al., ICCV 2021: painted anomalies teach a discriminative network) and DeSTSeg (Zhang et al., CVPR 2023:
a student that sees the damaged picture learns the teacher's features of the clean one).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.nn import functional

from training.networks.pdn import RECEPTIVE_FIELD_PX, STRIDE_PX, grid_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Frame = NDArray[np.uint8]
    NaturalPictures = Callable[[np.random.Generator], Frame]

MOST_MARKS = 4
STROKES = 0.4
"""Marks on one picture, and the part of them that are strokes."""

REFERENCE_PX = 128.0
"""Side for which widths are given; they grow with the picture."""

LEAST_CHANGE = 14
"""Grey levels from which a pixel counts as damaged: sensor noise stays below."""

WINDOW_PX = 8
FULL_SHARE = 0.08
"""A cell counts as damaged in full when 8 % of the 8 x 8 px around its middle (5 pixels: a scratch across) are."""


def paint_damage(frame: Frame, natural: NaturalPictures, rng: np.random.Generator) -> tuple[Frame, NDArray[np.bool_]]:
    """Paints one to four marks on a good part.

    Args:
        frame: (S, S, 3) uint8 RGB; left as it is.
        natural: Draws photographs of side S to fill marks with.
        rng: Draws everything.

    Returns:
        (S, S, 3) uint8, and (S, S) bool: where a pixel changed by at least `LEAST_CHANGE`. A mark may not show at all (grey on
        grey); then nothing is marked.
    """
    painted = frame.astype(np.float32)
    for _ in range(int(rng.integers(1, MOST_MARKS + 1))):
        painted = _paint_mark(painted, natural, rng)
    result = np.clip(np.rint(painted), 0, 255).astype(np.uint8)
    change = np.abs(result.astype(np.int16) - frame.astype(np.int16)).max(axis=2)
    return result, change >= LEAST_CHANGE


def damaged_cells(changed: NDArray[np.bool_]) -> torch.Tensor:
    """(N, S, S) bool changed pixels -> (N, n, n) float32: how far a grid cell counts as damaged, 0 to 1."""
    side = grid_side(changed.shape[-1])
    first = (RECEPTIVE_FIELD_PX - 1) // 2 - WINDOW_PX // 2
    seen = slice(first, first + (side - 1) * STRIDE_PX + WINDOW_PX)
    share = functional.avg_pool2d(torch.from_numpy(changed[:, None, seen, seen].astype(np.float32)), WINDOW_PX, STRIDE_PX)
    return (share[:, 0] / FULL_SHARE).clamp_max(1.0)


def _paint_mark(frame: Plane, natural: NaturalPictures, rng: np.random.Generator) -> Plane:
    """Paints one mark on (S, S, 3) float32."""
    size = frame.shape[0]
    stroke = bool(rng.random() < STROKES)
    opacity = _stroke(size, rng) if stroke else _patch(size, rng)
    how = rng.random()
    if how < 0.2:
        return _shade(frame, opacity, rng.uniform(0.8, 2.5) if stroke else rng.uniform(1.0, 4.0), rng)
    fill: NDArray[np.floating]
    if how < 0.5:
        level = rng.uniform(0, 255, 3) if rng.random() < 0.4 else rng.uniform(0, 255) * rng.uniform(0.85, 1.15, 3)
        fill = np.broadcast_to(level.astype(np.float32), frame.shape)
    elif how < 0.7:
        fill = frame * np.float32(rng.uniform(0.2, 0.75) if rng.random() < 0.6 else rng.uniform(1.3, 2.2))
    elif how < 0.85:
        fill = natural(rng).astype(np.float32)
    else:
        fill = np.roll(frame, rng.integers(size // 10, size - size // 10, 2), (0, 1))
    if stroke and rng.random() < 0.4:  # a groove's other shoulder lies in shadow
        beside = np.roll(opacity, rng.choice([-1, 1], 2), (0, 1))
        frame = frame * (1 - np.float32(rng.uniform(0.2, 0.6)) * beside[..., None])
    alpha = np.float32(rng.uniform(0.3, 1.0)) * opacity[..., None]
    return np.asarray(frame * (1 - alpha) + fill * alpha, np.float32)


def _shade(frame: Plane, opacity: Plane, blur_px: float, rng: np.random.Generator) -> Plane:
    """Lights a bump or a hollow of the mark's shape from a random direction."""
    picture = Image.fromarray((opacity * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur_px))
    height = np.asarray(picture, np.float32)
    down, across = np.gradient(height)
    angle = rng.uniform(0, 2 * np.pi)
    slope = down * np.sin(angle) + across * np.cos(angle)
    slope = (slope / max(float(np.abs(slope).max()), 1e-6)).astype(np.float32)[..., None]
    depth = np.float32(rng.uniform(0.35, 0.9))
    return np.asarray(np.clip(frame * (1 + depth * slope) + 25 * depth * slope, 0, 255), np.float32)


def _coordinates(size: int) -> tuple[Plane, Plane]:
    """Rows and columns as they broadcast: (S, 1) and (1, S)."""
    axis = np.arange(size, dtype=np.float32)
    return axis[:, None], axis[None, :]


def _stroke(size: int, rng: np.random.Generator) -> Plane:
    """A line of one to five legs that may bend and branch: opacity (S, S) in [0, 1]."""
    rows, columns = _coordinates(size)
    length, legs = rng.uniform(0.08, 0.5) * size, int(rng.integers(1, 6))
    width = rng.uniform(0.5, 1.6) * size / REFERENCE_PX
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6)
    points = [rng.uniform(0.12, 0.88, 2) * size]
    for _ in range(legs):
        points.append(points[-1] + np.array([np.sin(angle), np.cos(angle)]) * length / legs)
        angle += rng.normal(0, bend)
    lines = list(pairwise(points))
    if legs > 2 and rng.random() < 0.4:
        root, turn = points[int(rng.integers(1, legs))], angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
        lines.append((root, root + np.array([np.sin(turn), np.cos(turn)]) * 0.3 * length))
    away = np.full((size, size), np.inf, np.float32)
    for start, end in lines:
        (row, column), (down, across) = start.astype(np.float32), (end - start).astype(np.float32)
        along = np.clip(((rows - row) * down + (columns - column) * across) / (down * down + across * across), 0, 1)
        away = np.minimum(away, np.hypot(rows - row - along * down, columns - column - along * across))
    return np.asarray(np.clip(width + 0.5 - away, 0, 1), np.float32)


def _patch(size: int, rng: np.random.Generator) -> Plane:
    """A round, ragged or angular patch: opacity (S, S) in [0, 1]."""
    rows, columns = _coordinates(size)
    radius = rng.uniform(0.025, 0.11) * size
    row, column = rng.uniform(0.12, 0.88, 2) * size
    squeeze, turn = rng.uniform(0.55, 1.8), rng.uniform(0, np.pi)
    u = (rows - row) * np.cos(turn) + (columns - column) * np.sin(turn)
    v = (columns - column) * np.cos(turn) - (rows - row) * np.sin(turn)
    if rng.random() < 0.5:
        reach = np.hypot(u * squeeze, v / squeeze) / radius
        reach = reach + rng.uniform(0, 0.9) * (_smooth_noise(size, int(rng.integers(6, 24)), rng) - 0.5)
    else:
        reach = np.hypot(u, v) / (1.5 * radius)
        for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))):
            reach = np.maximum(reach, (u * np.cos(angle) + v * np.sin(angle)) / (radius * rng.uniform(0.6, 1.0)))
    return np.asarray(np.clip((1 - reach) * radius * rng.uniform(0.3, 1.0), 0, 1), np.float32)


def _smooth_noise(size: int, knots: int, rng: np.random.Generator) -> Plane:
    """Uniform noise at `knots` x `knots` points, interpolated: (S, S) float32 in [0, 1]."""
    points = Image.fromarray(rng.random((knots, knots)).astype(np.float32))
    return np.asarray(points.resize((size, size), Image.Resampling.BILINEAR), np.float32)
