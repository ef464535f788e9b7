"""Round, shiny, slightly bent: wires and other cylinders seen from above."""

import numpy as np

from edge.belt.canvas import Canvas, Colour, Plane, Pose, Window
from edge.belt.dice import Dice


def tube(
    canvas: Canvas,
    pose: Pose,
    length: float,
    radius: float,
    colour: Colour,
    *,
    bend: float,
    dice: Dice,
    bare: bool = True,
    shadow: float = 0.45,
    body: bool = True,
) -> None:
    """Draw a wire that starts at the pose and runs along +v.

    Args:
        canvas: the picture.
        pose: the wire's start.
        length: to its cut end, units.
        radius: units.
        colour: of the insulation.
        bend: sideways offset of the far end.
        dice: highlight and texture.
        bare: whether stripped strands stick out of the end.
        shadow: strength of the shadow on the belt, 0 for none.
        body: whether this belongs to the inspected part.
    """
    middle = pose.at(0.0, length / 2)
    window = canvas.window(middle, radius + abs(bend) + 8.0, length / 2 + 14.0, margin=8.0)
    if window is None:
        return
    along = window.v + np.float32(length / 2)
    share = np.clip(along / np.float32(length), 0, None)
    across = window.u - np.float32(bend) * share * share
    end = np.maximum(along - np.float32(length), -along)
    if shadow > 0.0:
        reach = np.float32(5.0)
        drift = across + np.float32(canvas.light[0] * 6.0)
        away = np.maximum(np.abs(drift) - np.float32(radius), np.maximum(along - np.float32(length + 6.0), -along))
        soft = np.clip(np.float32(0.5) - away / (2 * reach), 0, 1)
        canvas.darken(window, soft * soft * np.float32(shadow))
    if bare:
        _strands(canvas, across=across, along=along, length=length, radius=radius * 0.55, pose=pose, window=window, dice=dice)
    distance = np.maximum(np.abs(across) - np.float32(radius), end)
    alpha = canvas.cover(distance, pose)
    slope = np.clip(across / np.float32(radius), -1, 1)
    # A cylinder's normal: its height over the middle line; light comes from the side of `light`.
    lift = np.sqrt(np.float32(1) - slope * slope)
    side = np.float32(canvas.light[0] * pose.cos + canvas.light[1] * pose.sin)
    shade = np.float32(0.38) + np.float32(0.62) * lift + np.float32(0.22) * slope * side
    line = np.clip(np.float32(1) - np.abs(slope - np.float32(0.42) * side) * np.float32(4.5), 0, 1)
    shine = line * line * np.float32(dice.uniform(0.10, 0.30))
    canvas.paint(window, alpha, colour, shade, shine)
    if body:
        region = canvas.part[window.rows, window.columns]
        np.maximum(region, alpha, out=region)


def _strands(
    canvas: Canvas, *, across: Plane, along: Plane, length: float, radius: float, pose: Pose, window: Window, dice: Dice
) -> None:
    """Stripped copper strands at the cut end."""
    tip = np.maximum(along - np.float32(length + dice.uniform(6.0, 10.0)), np.float32(length - 2.0) - along)
    distance = np.maximum(np.abs(across) - np.float32(radius), tip)
    slope = np.clip(across / np.float32(radius), -1, 1)
    lift = np.sqrt(np.float32(1) - slope * slope)
    ridges = np.abs(across * np.float32(0.55) - np.floor(across * np.float32(0.55)) - np.float32(0.5))
    shade = (np.float32(0.4) + np.float32(0.5) * lift) * (np.float32(0.75) + ridges)
    copper: Colour = (0.80, 0.50, 0.30) if dice.chance(0.6) else (0.70, 0.70, 0.70)
    canvas.paint(window, canvas.cover(distance, pose), copper, shade)
