"""Drawing with signed distances: every piece is a shape, a bevel that catches the light, a texture and a soft shadow.

Lengths are in units of 1/256 of the frame's width, so a part looks the same at every size. A shape is a function of local
coordinates (u, v) giving the signed distance to its outline, negative inside; coverage, shading and masks all follow from it.
Only + - * / and sqrt touch the pixels (exact in IEEE arithmetic), so a picture is bit-identical on every machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.belt.dice import Dice
from edge.belt.texture import TILE, tile

UNITS = 256.0  # the frame's side in drawing units
Plane = NDArray[np.float32]
Shape = Callable[[Plane, Plane], Plane]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a piece lies: frame = origin + scale * rotation * local, all in units, origin (0, 0) at the frame's centre."""

    x: float
    y: float
    cos: float = 1.0
    sin: float = 0.0
    scale: float = 1.0

    @staticmethod
    def of(x: float, y: float, degrees: float, scale: float) -> "Pose":
        """Make a pose; sine and cosine are rounded to 9 digits, the same in every mathematical library."""
        turn = math.radians(degrees)
        return Pose(x, y, round(math.cos(turn), 9), round(math.sin(turn), 9), scale)

    def at(self, u: float, v: float, degrees: float = 0.0, scale: float = 1.0) -> "Pose":
        """The pose of a piece lying at (u, v) of this one, turned further."""
        local = Pose.of(u, v, degrees, scale)
        return Pose(
            self.x + self.scale * (self.cos * u - self.sin * v),
            self.y + self.scale * (self.sin * u + self.cos * v),
            self.cos * local.cos - self.sin * local.sin,
            self.sin * local.cos + self.cos * local.sin,
            self.scale * scale,
        )

    def shifted(self, dx: float, dy: float) -> "Pose":
        """The same pose moved in the frame."""
        return Pose(self.x + dx, self.y + dy, self.cos, self.sin, self.scale)


@dataclass(frozen=True, slots=True)
class Window:
    """The pixels a piece may touch: slices of the frame and local coordinates of the pixel centres, (h, w) float32."""

    rows: slice
    columns: slice
    u: Plane
    v: Plane


def box(half_u: float, half_v: float, radius: float) -> Shape:
    """A rounded rectangle."""

    def distance(u: Plane, v: Plane) -> Plane:
        qu = np.abs(u) - np.float32(half_u - radius)
        qv = np.abs(v) - np.float32(half_v - radius)
        outside = np.sqrt(np.maximum(qu, 0) ** 2 + np.maximum(qv, 0) ** 2)
        made: Plane = outside + np.minimum(np.maximum(qu, qv), 0) - np.float32(radius)
        return made

    return distance


def disc(radius: float) -> Shape:
    """A circle."""

    def distance(u: Plane, v: Plane) -> Plane:
        return np.sqrt(u * u + v * v) - np.float32(radius)

    return distance


def hexagon(inner: float, rounding: float = 1.5) -> Shape:
    """A regular hexagon by its inner radius (half the width across flats)."""

    def distance(u: Plane, v: Plane) -> Plane:
        across = np.abs(u)
        slanted = np.float32(0.5) * across + np.float32(0.8660254) * np.abs(v)
        flat = np.maximum(across, slanted) - np.float32(inner)
        # Rounded corners: near a corner the distance to the circumscribed circle takes over.
        corner = np.sqrt(u * u + v * v) - np.float32(inner * 1.1547 - rounding * 0.4)
        made: Plane = np.maximum(flat, corner)
        return made

    return distance


def ring(outer: Shape, hole: float) -> Shape:
    """A shape with a round hole."""

    def distance(u: Plane, v: Plane) -> Plane:
        made: Plane = np.maximum(outer(u, v), np.float32(hole) - np.sqrt(u * u + v * v))
        return made

    return distance


class Canvas:
    """A picture being drawn.

    Attributes:
        size: side in pixels. unit: pixels per drawing unit.
        rgb: (3, size, size) float32, display-referred, 0 dark to 1 white; may leave that range until the camera clips it.
        part: (size, size) float32 coverage of the inspected part.
        mask: (size, size) float32 coverage of what is defective.
        light: direction towards the light in the frame, a unit vector (x, y).
    """

    def __init__(self, size: int, light: tuple[float, float]) -> None:
        self.size = size
        self.unit = size / UNITS
        self.light = light
        self.rgb = np.empty((3, size, size), np.float32)
        self.part = np.zeros((size, size), np.float32)
        self.mask = np.zeros((size, size), np.float32)
        self._axis = ((np.arange(size, dtype=np.float64) + 0.5) / self.unit - UNITS / 2).astype(np.float32)

    def window(self, pose: Pose, half_u: float, half_v: float, margin: float = 2.0) -> Window | None:
        """The window of a piece of this half width and height (local units), or None outside the frame."""
        reach_x = pose.scale * (abs(pose.cos) * half_u + abs(pose.sin) * half_v) + margin
        reach_y = pose.scale * (abs(pose.sin) * half_u + abs(pose.cos) * half_v) + margin
        left, right = self._span(pose.x, reach_x)
        top, bottom = self._span(pose.y, reach_y)
        # Two pixels at least each way, or slopes cannot be taken.
        if right - left < 3 or bottom - top < 3:
            return None
        x = (self._axis[left:right] - np.float32(pose.x)) / np.float32(pose.scale)
        y = (self._axis[top:bottom] - np.float32(pose.y)) / np.float32(pose.scale)
        cos, sin = np.float32(pose.cos), np.float32(pose.sin)
        u = (cos * x)[None, :] + (sin * y)[:, None]
        v = (cos * y)[:, None] - (sin * x)[None, :]
        return Window(slice(top, bottom), slice(left, right), u, v)

    def _span(self, centre: float, reach: float) -> tuple[int, int]:
        low = math.floor((centre - reach + UNITS / 2) * self.unit)
        high = math.ceil((centre + reach + UNITS / 2) * self.unit)
        return max(0, low), min(self.size, high)

    def cover(self, distance: Plane, pose: Pose) -> Plane:
        """Share of each pixel inside the outline: an antialiased edge one pixel wide."""
        share: Plane = np.clip(np.float32(0.5) - distance * np.float32(pose.scale * self.unit), 0, 1)
        return share

    def facing(self, distance: Plane, pose: Pose) -> Plane:
        """How much the outline's outward normal faces the light, about [-1, 1]; negative on the shadow side."""
        step = np.float32(0.5 * pose.scale * self.unit)
        lit = np.zeros_like(distance)
        lit[:, 1:-1] += (distance[:, 2:] - distance[:, :-2]) * (step * np.float32(self.light[0]))
        lit[1:-1, :] += (distance[2:, :] - distance[:-2, :]) * (step * np.float32(self.light[1]))
        return lit

    def grain(self, window: Window, kind: str, dice: Dice) -> Plane:
        """A piece of texture of the window's size, scaled with the frame."""
        source = tile(kind, dice.integer(2))
        height, width = window.u.shape
        stride = self.unit
        rows = (np.arange(height, dtype=np.float64) / stride).astype(np.int64) + dice.integer(TILE)
        columns = (np.arange(width, dtype=np.float64) / stride).astype(np.int64) + dice.integer(TILE)
        return source.take(rows % TILE, axis=0).take(columns % TILE, axis=1)

    def paint(self, window: Window, alpha: Plane, colour: Colour, shade: Plane | float = 1.0, shine: Plane | float = 0.0) -> None:
        """Lay a colour over the picture: rgb <- rgb + alpha * (colour * shade + shine - rgb)."""
        for channel in range(3):
            region = self.rgb[channel, window.rows, window.columns]
            region += alpha * (np.float32(colour[channel]) * shade + shine - region)

    def darken(self, window: Window, amount: Plane) -> None:
        """Take light away: rgb <- rgb * (1 - amount)."""
        self.rgb[:, window.rows, window.columns] *= np.float32(1) - amount

    def shadow(self, pose: Pose, shape: Shape, half_u: float, half_v: float, height: float, strength: float) -> None:
        """Cast a soft shadow away from the light; it lies `height` units off and is about as soft."""
        moved = pose.shifted(-self.light[0] * height, -self.light[1] * height)
        window = self.window(moved, half_u, half_v, margin=1.5 * height + 2.0)
        if window is None:
            return
        soft = np.float32(2.0 * height + 1.0)
        depth = np.clip(np.float32(0.5) - shape(window.u, window.v) * np.float32(pose.scale) / soft, 0, 1)
        self.darken(window, depth * depth * np.float32(strength))

    def solid(
        self,
        pose: Pose,
        shape: Shape,
        half_u: float,
        half_v: float,
        colour: Colour,
        *,
        bevel: float = 4.0,
        depth: float = 0.35,
        gloss: float = 0.2,
        grain: tuple[str, float] | None = None,
        dice: Dice | None = None,
        body: bool = True,
    ) -> None:
        """Draw a solid piece: flat top, bevelled edge that is bright towards the light, a highlight, a surface texture.

        Args:
            pose: where it lies.
            shape: its outline.
            half_u: half its width, local units.
            half_v: half its height, local units.
            colour: RGB, 0 to 1.
            bevel: width of the bevel; as large as the piece makes a dome.
            depth: contrast of the bevel; negative for a slope that falls inward.
            gloss: strength of the highlight.
            grain: (texture, contrast).
            dice: chooses the texture's place.
            body: whether this belongs to the inspected part.
        """
        window = self.window(pose, half_u, half_v)
        if window is None:
            return
        distance = shape(window.u, window.v)
        alpha = self.cover(distance, pose)
        edge = np.clip(np.float32(1) + distance / np.float32(bevel), 0, 1)
        lit = edge * self.facing(distance, pose)
        shade = np.float32(1) + np.float32(depth) * lit
        if grain is not None and dice is not None:
            shade *= np.float32(1) + np.float32(grain[1]) * self.grain(window, grain[0], dice)
        glint = np.clip(lit - np.float32(0.45), 0, 1)
        self.paint(window, alpha, colour, shade, glint * glint * np.float32(gloss * 3.0))
        if body:
            region = self.part[window.rows, window.columns]
            np.maximum(region, alpha, out=region)

    def recess(
        self, pose: Pose, shape: Shape, half_u: float, half_v: float, colour: Colour, *, depth: float, wall: float
    ) -> None:
        """Sink a hollow: its floor in this colour, the wall towards the light in shadow, the far wall lit."""
        window = self.window(pose, half_u, half_v)
        if window is None:
            return
        distance = shape(window.u, window.v)
        edge = np.clip(np.float32(1) + distance / np.float32(wall), 0, 1)
        shade = np.float32(1) - np.float32(depth) * edge * self.facing(distance, pose) - np.float32(0.25 * depth) * edge
        self.paint(window, self.cover(distance, pose), colour, shade)

    def mark(self, pose: Pose, shape: Shape, half_u: float, half_v: float) -> None:
        """Add a piece's outline to the truth mask."""
        window = self.window(pose, half_u, half_v)
        if window is not None:
            region = self.mask[window.rows, window.columns]
            np.maximum(region, self.cover(shape(window.u, window.v), pose), out=region)

    def unmark(self, pose: Pose, shape: Shape, half_u: float, half_v: float) -> None:
        """Take what a piece covers out of the truth mask: there the defect cannot be seen."""
        window = self.window(pose, half_u, half_v)
        if window is not None:
            self.mask[window.rows, window.columns] *= np.float32(1) - self.cover(shape(window.u, window.v), pose)
