"""Lying cylinders: glass, labels wrapped around it, ribbed caps."""

import numpy as np

from edge.belt.canvas import Canvas, Colour, Pose, Shape


def cylinder_shade(
    canvas: Canvas,
    pose: Pose,
    shape: Shape,
    half_u: float,
    half_v: float,
    colour: Colour,
    *,
    clear: float,
    gloss: float,
    ribs: float = 0.0,
) -> None:
    """Draw a piece as the visible half of a cylinder whose axis runs along v.

    Args:
        canvas: the picture.
        pose: its middle.
        shape: its outline.
        half_u: the radius.
        half_v: half its length.
        colour: of the material.
        clear: opacity in the middle, 1 for solid; glass is denser towards its sides.
        gloss: strength of the two highlight lines.
        ribs: period of knurling across u in units, 0 for none.
    """
    window = canvas.window(pose, half_u, half_v)
    if window is None:
        return
    alpha = canvas.cover(shape(window.u, window.v), pose)
    slope = np.clip(window.u / np.float32(half_u), -1, 1)
    lift = np.sqrt(np.float32(1) - slope * slope)
    side = np.float32(canvas.light[0] * pose.cos + canvas.light[1] * pose.sin)
    shade = np.float32(0.50) + np.float32(0.50) * lift + np.float32(0.16) * slope * side
    if ribs > 0.0:
        turn = window.u * np.float32(1.0 / ribs)
        shade *= np.float32(0.86) + np.float32(0.28) * np.abs(turn - np.floor(turn) - np.float32(0.5)) * 2
    line = np.clip(np.float32(1) - np.abs(slope - np.float32(0.5) * side) * np.float32(6), 0, 1)
    rim = np.clip(np.float32(1) - np.abs(slope + np.float32(0.72) * side) * np.float32(9), 0, 1)
    shine = (line * line + np.float32(0.5) * rim * rim) * np.float32(gloss)
    if clear < 1.0:
        alpha = alpha * (np.float32(clear) + np.float32(1.0 - clear) * slope * slope)
    canvas.paint(window, alpha, colour, shade, shine)
