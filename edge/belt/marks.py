"""Harmless marks: print, stickers, dust, fingerprints. None of them is a defect; a model has to learn to leave them alone.

They differ from structural defects in kind: print is made of small characters in its own place, dust is single bright specks of
one or two units, a fingerprint is a wide, faint brightening without an edge.
"""

import numpy as np

from edge.belt.canvas import Canvas, Pose, box
from edge.belt.dice import Dice


def print_code(canvas: Canvas, pose: Pose, dice: Dice, ink: float) -> None:
    """An ink-jet date code: six to ten characters of 3 x 5 dots, different on every part."""
    count = 6 + dice.integer(5)
    half = count * 4.0 / 2
    window = canvas.window(pose, half, 4.0)
    if window is None:
        return
    column = np.floor((window.u + np.float32(half)) * np.float32(1.0)).astype(np.int64)
    row = np.floor((window.v + np.float32(3.75)) / np.float32(1.5)).astype(np.int64)
    dots = np.zeros((7, 4 * count + 2), np.float32)
    for character in range(count):
        bits = dice.integer(1 << 15)
        for dot in range(15):
            dots[1 + dot // 3, 1 + 4 * character + dot % 3] = float(bits >> dot & 1)
    inside = dots[np.clip(row + 1, 0, 6), np.clip(column + 1, 0, 4 * count + 1)]
    canvas.darken(window, inside * np.float32(ink * dice.uniform(0.5, 1.0)))


def print_lines(canvas: Canvas, pose: Pose, dice: Dice, width: float) -> None:
    """Two lines of print too small to read: dark runs of random length on paper."""
    window = canvas.window(pose, width / 2, 4.0)
    if window is None:
        return
    runs = np.array([1.0 if dice.chance(0.62) else 0.0 for _ in range(48)], np.float32)
    column = np.clip(np.floor((window.u + np.float32(width / 2)) * np.float32(22.0 / width)).astype(np.int64), -1, 22)
    upper = np.clip(np.float32(1.4) - np.abs(window.v + np.float32(2.2)), 0, 1)
    lower = np.clip(np.float32(1.4) - np.abs(window.v - np.float32(2.2)), 0, 1)
    inside = (column >= 0) & (column < 22)
    ink = (upper * runs[column] + lower * runs[column + 24]) * inside
    canvas.darken(window, ink * np.float32(dice.uniform(0.4, 0.7)))


def sticker(canvas: Canvas, pose: Pose, dice: Dice, half_u: float, half_v: float) -> None:
    """A small paper label with a bar code."""
    paper = dice.uniform(0.78, 0.92)
    canvas.solid(pose, box(half_u, half_v, 0.8), half_u, half_v, (paper, paper, paper * 0.97), bevel=1.0, depth=0.1, gloss=0.02)
    window = canvas.window(pose, half_u - 2.0, half_v - 1.5)
    if window is None:
        return
    bars = np.array([1.0 if dice.chance(0.5) else 0.0 for _ in range(64)], np.float32)
    column = np.clip(np.floor((window.u + np.float32(half_u)) * np.float32(0.8)).astype(np.int64), 0, 63)
    inside = (np.abs(window.u) < half_u - 2.0) & (np.abs(window.v) < half_v - 1.5)
    canvas.darken(window, bars[column] * inside * np.float32(0.7))


def dust(canvas: Canvas, dice: Dice) -> None:
    """Up to a dozen specks of dust or lint on everything the camera sees."""
    for _ in range(dice.integer(13)):
        pose = Pose(dice.uniform(-126.0, 126.0), dice.uniform(-126.0, 126.0))
        radius, tone = dice.uniform(0.5, 1.1), dice.uniform(0.6, 0.9)
        window = canvas.window(pose, radius + 1.0, radius + 1.0, margin=1.0)
        if window is None:
            continue
        near = np.clip(np.float32(1.3) - (window.u * window.u + window.v * window.v) / np.float32(radius * radius + 0.5), 0, 1)
        canvas.paint(window, near * np.float32(dice.uniform(0.3, 0.7)), (tone, tone, tone))


def smudges(canvas: Canvas, pose: Pose, dice: Dice) -> None:
    """Fingerprint-like smudges: wide, faint, without an edge."""
    for _ in range(dice.integer(3)):
        u, v = dice.uniform(-80.0, 80.0), dice.uniform(-70.0, 70.0)
        half_u, half_v = dice.uniform(22.0, 42.0), dice.uniform(18.0, 34.0)
        strength = dice.uniform(0.01, 0.05)
        window = canvas.window(pose.at(u, v, dice.uniform(0.0, 180.0)), half_u, half_v)
        if window is None:
            continue
        fall = np.clip(np.float32(1) - (window.u / np.float32(half_u)) ** 2 - (window.v / np.float32(half_v)) ** 2, 0, 1)
        lift = fall * fall * np.float32(strength)
        lift = lift * canvas.part[window.rows, window.columns]
        canvas.rgb[:, window.rows, window.columns] += lift
