"""Local structural defects: scratch, crack, stain, chip, dent; 1 to 4 % of the part's area.

Each is drawn over the finished part and clipped to it; the truth mask is where it was drawn. A part that is called defective
shows it: where the outline cuts a defect off, or the material has its colour (a crack on black), it is drawn again elsewhere.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from edge.belt.canvas import Canvas, Plane, Pose, Window
from edge.belt.dice import Dice
from edge.belt.product import Surface
from edge.belt.texture import tile

DEFECTS = ("scratch", "crack", "stain", "chip", "dent")
MASK_LEVEL = 0.35  # opacity from which a pixel counts as defective
LEAST_AREA = 0.004  # share of the part's area that must show: half of what the smallest defect takes
LEAST_CHANGE = 0.16  # of full brightness, in one channel: a pixel changed by less does not count as showing
ATTEMPTS = 24


def draw_defect(canvas: Canvas, pose: Pose, surfaces: tuple[Surface, ...], name: str, dice: Dice, area: float) -> None:
    """Draw one structural defect.

    Args:
        canvas: the finished part; its `part` coverage clips the defect and its `mask` receives it.
        pose: the part's.
        surfaces: where the defect's middle may lie.
        name: one of DEFECTS.
        dice: the defect's numbers.
        area: the part's area in square units; the defect takes 1 to 4 % of it.
    """
    enough = LEAST_AREA * area * canvas.unit * canvas.unit
    before = canvas.rgb.copy()
    best, shown = (before, canvas.mask.copy()), -1
    for attempt in range(ATTEMPTS):
        own = dice.fork("again", attempt) if attempt else dice
        surface = own.pick(surfaces)
        u = surface.u + own.uniform(-surface.half_u, surface.half_u)
        v = surface.v + own.uniform(-surface.half_v, surface.half_v)
        size = area * own.steep(0.01, 0.04)
        strength = own.uniform(0.7, 1.0)
        place = pose.at(u, v, own.uniform(0.0, 360.0))
        _DRAWERS[name](canvas, place, own, size, strength)
        changed = np.abs(canvas.rgb - before).max(axis=0) >= LEAST_CHANGE
        shows = int(np.count_nonzero(changed & (canvas.mask > 0)))
        if shows > shown:
            best, shown = (canvas.rgb.copy(), canvas.mask.copy()), shows
        if shown >= enough:
            break
        canvas.rgb[:] = before
        canvas.mask[:] = 0.0
    canvas.rgb[:], canvas.mask[:] = best


def _finish(canvas: Canvas, window: Window, alpha: Plane) -> Plane:
    """Clip an opacity to the part, note it in the truth mask and return it."""
    part = canvas.part[window.rows, window.columns]
    clipped: Plane = alpha * part
    region = canvas.mask[window.rows, window.columns]
    np.maximum(region, (clipped > MASK_LEVEL).astype(np.float32), out=region)
    return clipped


def _bright(canvas: Canvas, window: Window) -> float:
    """Brightness at the window's middle, 0 to 1: a dark surface shows a defect that is lighter."""
    height, width = window.u.shape
    middle = canvas.rgb[:, window.rows, window.columns][:, height // 2, width // 2]
    return float(middle[0] + 2 * middle[1] + middle[2]) / 4


def _ragged(window: Window, dice: Dice, strength: float, stretch: float) -> Plane:
    """Smooth random height over a window, for outlines that no compass drew; in about +-strength."""
    source = tile("smooth", 2)
    top, left = dice.integer(200), dice.integer(200)
    rows = top + (np.clip(window.v * np.float32(stretch), -100, 100) + 100).astype(np.int64)
    columns = left + (np.clip(window.u * np.float32(stretch), -100, 100) + 100).astype(np.int64)
    return source[rows, columns] * np.float32(strength)


def _path(dice: Dice, length: float, legs: int, wander: float) -> list[tuple[float, float]]:
    """Corners of a line along u that wanders sideways."""
    step = length / legs
    points, height = [(-length / 2, 0.0)], 0.0
    for leg in range(1, legs + 1):
        height += dice.around(0.0, wander)
        points.append((-length / 2 + step * leg, height))
    return points


def _polyline(window: Window, points: list[tuple[float, float]]) -> Plane:
    """Distance to a line through these points, (h, w)."""
    nearest: Plane | None = None
    for (u0, v0), (u1, v1) in pairwise(points):
        du, dv = u1 - u0, v1 - v0
        along = ((window.u - np.float32(u0)) * np.float32(du) + (window.v - np.float32(v0)) * np.float32(dv)) / np.float32(
            du * du + dv * dv
        )
        share = np.clip(along, 0, 1)
        away_u = window.u - np.float32(u0) - share * np.float32(du)
        away_v = window.v - np.float32(v0) - share * np.float32(dv)
        square: Plane = np.asarray(away_u * away_u + away_v * away_v, dtype=np.float32)
        nearest = square if nearest is None else np.minimum(nearest, square)
    assert nearest is not None
    return np.sqrt(nearest)


def _scratch(canvas: Canvas, pose: Pose, dice: Dice, size: float, strength: float) -> None:
    width = dice.uniform(3.0, 4.5)
    length = min(110.0, size / width)
    points = _path(dice, length, 3, length * 0.05)
    window = canvas.window(pose, length / 2 + width, length * 0.16 + width)
    if window is None:
        return
    away = _polyline(window, points)
    alpha = np.clip((np.float32(width / 2 + 0.5) - away) * np.float32(canvas.unit), 0, 1)
    alpha = _finish(canvas, window, alpha)
    core = np.clip(np.float32(1) - away / np.float32(width / 2), 0, 1)
    tone = 0.30 if _bright(canvas, window) > 0.6 else 0.85
    canvas.paint(window, alpha * core * np.float32(0.75 * strength), (tone, tone, tone))
    # The groove's shoulder: a dark line beside the bright one.
    canvas.darken(window, alpha * (np.float32(1) - core) * np.float32(0.45 * strength))


def _crack(canvas: Canvas, pose: Pose, dice: Dice, size: float, strength: float) -> None:
    width = dice.uniform(2.8, 4.0)
    length = min(80.0, 0.75 * size / width)
    points = _path(dice, length, 7, length * 0.09)
    u, v = points[3]
    branch = [(u, v), (u + length * 0.16, v + length * 0.14), (u + length * 0.22, v + length * 0.27)]
    window = canvas.window(pose, length / 2 + width, length * 0.5 + width)
    if window is None:
        return
    away = np.minimum(_polyline(window, points), _polyline(window, branch) + np.float32(0.4))
    alpha = np.clip((np.float32(width / 2) - away) * np.float32(canvas.unit), 0, 1)
    alpha = _finish(canvas, window, alpha)
    canvas.darken(window, alpha * np.float32(0.45 + 0.35 * strength))
    if _bright(canvas, window) < 0.35:
        # On dark material the broken edge catches the light instead.
        rim = np.clip(np.float32(1) - np.abs(away - np.float32(width * 0.45)) / np.float32(1.2), 0, 1)
        canvas.paint(window, alpha * rim * np.float32(0.6 * strength), (0.7, 0.7, 0.7))


def _stain(canvas: Canvas, pose: Pose, dice: Dice, size: float, strength: float) -> None:
    radius = float(np.sqrt(size / 3.1416))
    window = canvas.window(pose, radius * 1.7, radius * 1.7)
    if window is None:
        return
    away = np.sqrt(window.u**2 + window.v**2 * np.float32(dice.uniform(1.0, 1.9))) - np.float32(radius)
    away += _ragged(window, dice, radius * 0.22, 28.0 / radius)
    alpha = _finish(canvas, window, np.clip(np.float32(0.5) - away / np.float32(3.0), 0, 1))
    tone = dice.pick(((0.27, 0.19, 0.10), (0.12, 0.11, 0.10), (0.42, 0.24, 0.10)))
    if _bright(canvas, window) < 0.3:
        tone = (0.62, 0.58, 0.50)
    rim = np.clip(np.float32(1) - np.abs(away + np.float32(1.5)) / np.float32(3.0), 0, 1)
    canvas.paint(window, alpha * (np.float32(0.6 * strength) + np.float32(0.2 * strength) * rim), tone)


def _chip(canvas: Canvas, pose: Pose, dice: Dice, size: float, strength: float) -> None:
    radius = float(np.sqrt(size / 2.6))
    window = canvas.window(pose, radius * 1.3, radius * 1.3)
    if window is None:
        return
    away = np.full_like(window.u, -1e3)
    for corner in range(5):
        # Five straight breaks around the middle; directions on a coarse circle without trigonometry.
        a, b = ((1.0, 0.15), (0.25, 1.0), (-0.85, 0.6), (-0.75, -0.7), (0.35, -0.95))[corner]
        reach = radius * dice.uniform(0.6, 1.0)
        length = float(np.sqrt(a * a + b * b))
        away = np.maximum(away, (window.u * np.float32(a / length) + window.v * np.float32(b / length)) - np.float32(reach))
    away += _ragged(window, dice, 1.2, 3.0)
    alpha = _finish(canvas, window, np.clip(np.float32(0.5) - away * np.float32(canvas.unit), 0, 1))
    facet = _ragged(window, dice, 0.16, 2.2)
    lit = canvas.facing(away, pose)
    edge = np.clip(np.float32(1) + away / np.float32(3.5), 0, 1)
    tone = 0.36 if _bright(canvas, window) > 0.5 else 0.62
    shade = np.float32(1) + facet - np.float32(0.6) * edge * lit
    canvas.paint(window, alpha * np.float32(0.45 + 0.4 * strength), (tone, tone * 0.97, tone * 0.92), shade)


def _dent(canvas: Canvas, pose: Pose, dice: Dice, size: float, strength: float) -> None:
    radius = float(np.sqrt(size / 3.1416))
    window = canvas.window(pose, radius * 1.2, radius * 1.2)
    if window is None:
        return
    square = (window.u**2 + window.v**2 * np.float32(dice.uniform(1.0, 1.7))) / np.float32(radius * radius)
    hollow = np.clip(np.float32(1) - square, 0, 1)
    height = -hollow * hollow
    lit = canvas.facing(height * np.float32(radius), pose)
    part = _finish(canvas, window, np.clip(hollow * np.float32(6), 0, 1))
    shading = lit * part * np.float32(0.42 * strength)
    region = canvas.rgb[:, window.rows, window.columns]
    region *= np.float32(1) - shading
    region -= np.float32(0.10) * shading


_DRAWERS: dict[str, Callable[[Canvas, Pose, Dice, float, float], None]] = {
    "scratch": _scratch,
    "crack": _crack,
    "stain": _stain,
    "chip": _chip,
    "dent": _dent,
}
