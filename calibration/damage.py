"""Damaged pictures made from good ones: what calibration shows the network besides good parts.

Activation ranges taken from good parts alone clip exactly the activations by which a defect would be seen, so ranges are
collected on good and damaged pictures together, and the certificate compares float and INT8 on both. The damage is not meant
to look like any product's defects: it is there to reach further than good parts do, in texture, colour, amount and place.

Nothing is learnt from these pictures and no limit is set on them. numpy only; the same seed gives the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.preprocess import Frame8

Mask = NDArray[np.bool_]
_Painter = Callable[[Frame8, np.random.Generator], tuple[NDArray[np.float64], NDArray[np.float64]]]

_MIN_CHANGED = 12  # grey levels at the strongest pixel: weaker damage is drawn again
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged picture.

    Attributes:
        frame: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, True where a pixel differs from the good picture.
        kind: which damage it is, one of KINDS.
    """

    frame: Frame8
    mask: Mask
    kind: str


def _grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = np.mgrid[0:height, 0:width]
    return rows.astype(np.float64), columns.astype(np.float64)


def _smooth_noise(height: int, width: int, cells: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give bilinearly interpolated uniform noise of `cells` by `cells` knots, (height, width) in [0, 1]."""
    knots = rng.random((cells + 1, cells + 1))
    row, column = np.linspace(0, cells - 1e-9, height), np.linspace(0, cells - 1e-9, width)
    r0, c0 = row.astype(int), column.astype(int)
    fr, fc = (row - r0)[:, None], (column - c0)[None, :]
    top = knots[r0][:, c0] * (1 - fc) + knots[r0][:, c0 + 1] * fc
    bottom = knots[r0 + 1][:, c0] * (1 - fc) + knots[r0 + 1][:, c0 + 1] * fc
    blended: NDArray[np.float64] = top * (1 - fr) + bottom * fr
    return blended


def _blob(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give a soft, ragged blob as opacity in [0, 1], (height, width)."""
    rows, columns = _grid(height, width)
    radius = rng.uniform(0.04, 0.16) * min(height, width)
    middle_row, middle_column = rng.uniform(0.15, 0.85) * height, rng.uniform(0.15, 0.85) * width
    squeeze = rng.uniform(0.6, 1.6)
    distance = np.hypot((rows - middle_row) * squeeze, (columns - middle_column) / squeeze) / radius
    ragged = distance + 0.6 * (_smooth_noise(height, width, 8, rng) - 0.5)
    opacity: NDArray[np.float64] = np.clip((1.0 - ragged) * 4.0, 0.0, 1.0)
    return opacity


def _box(height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice]:
    tall, wide = (max(4, int(rng.uniform(0.1, 0.3) * side)) for side in (height, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    return slice(top, top + tall), slice(left, left + wide)


def _scratch(frame: Frame8, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a thin bent line, brighter or darker than the part."""
    height, width = frame.shape[:2]
    rows, columns = _grid(height, width)
    start = rng.uniform(0.1, 0.9, 2) * (height, width)
    angle, length, bend = rng.uniform(0, np.pi), rng.uniform(0.15, 0.5) * min(height, width), rng.uniform(-0.4, 0.4)
    along = (rows - start[0]) * np.sin(angle) + (columns - start[1]) * np.cos(angle)
    across = (rows - start[0]) * np.cos(angle) - (columns - start[1]) * np.sin(angle)
    thickness = rng.uniform(0.6, 2.5) * min(height, width) / 128.0
    opacity = np.clip(thickness + 0.5 - np.abs(across - bend * along * along / length), 0.0, 1.0)
    opacity *= (along >= 0) & (along <= length)
    return np.full(frame.shape, 255.0 if rng.random() < 0.5 else 0.0), opacity * rng.uniform(0.4, 1.0)


def _stain(frame: Frame8, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cover a ragged blob with a colour that may not occur on the part."""
    return np.broadcast_to(rng.uniform(0, 255, 3), frame.shape).copy(), _blob(frame.shape[0], frame.shape[1], rng) * rng.uniform(
        0.3, 1.0
    )


def _grain(frame: Frame8, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Roughen a blob with strong pixel noise: a texture no good part has."""
    noisy = frame.astype(np.float64) + rng.normal(0.0, rng.uniform(25, 90), frame.shape)
    return noisy, _blob(frame.shape[0], frame.shape[1], rng)


def _erase(frame: Frame8, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wipe a box flat with the colour of its own border: a piece is missing."""
    rows, columns = _box(frame.shape[0], frame.shape[1], rng)
    patch = frame[rows, columns].astype(np.float64)
    border = np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])
    opacity = np.zeros(frame.shape[:2])
    opacity[rows, columns] = 1.0
    return np.broadcast_to(np.median(border, axis=0), frame.shape).copy(), opacity


def _transplant(frame: Frame8, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Copy one box of the part to another place, perhaps mirrored: one piece too many, or the wrong one."""
    height, width = frame.shape[:2]
    rows, columns = _box(height, width, rng)
    patch = frame[rows, columns].astype(np.float64)
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    top = int(rng.integers(0, height - patch.shape[0] + 1))
    left = int(rng.integers(0, width - patch.shape[1] + 1))
    painted, opacity = frame.astype(np.float64), np.zeros((height, width))
    painted[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    opacity[top : top + patch.shape[0], left : left + patch.shape[1]] = 1.0
    return painted, opacity


def _tint(frame: Frame8, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exchange the colour channels of a large area: the right shape in the wrong colour."""
    turned = np.roll(frame.astype(np.float64), int(rng.integers(1, 3)), axis=2) * rng.uniform(0.7, 1.3, 3)
    opacity = np.clip((_smooth_noise(frame.shape[0], frame.shape[1], 3, rng) - rng.uniform(0.35, 0.6)) * 8.0, 0.0, 1.0)
    return turned, opacity


def _glare(frame: Frame8, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brighten or darken a soft area beyond what the camera's light does."""
    gain = rng.uniform(1.5, 3.0) if rng.random() < 0.5 else rng.uniform(0.1, 0.6)
    return frame.astype(np.float64) * gain, _blob(frame.shape[0], frame.shape[1], rng)


_PAINTERS: dict[str, _Painter] = {
    "scratch": _scratch,
    "stain": _stain,
    "grain": _grain,
    "erase": _erase,
    "transplant": _transplant,
    "tint": _tint,
    "glare": _glare,
}

KINDS = tuple(_PAINTERS)
"""The kinds of damage."""


def damage(frame: Frame8, rng: np.random.Generator, kind: str | None = None) -> Damaged:
    """Damage one good picture.

    Args:
        frame: (H, W, 3) uint8 RGB, at least 16 px a side; left as it is.
        rng: source of all chance.
        kind: one of KINDS, or None to draw one.

    Returns:
        The damaged picture. At least one pixel differs: damage that would not show (a flat area wiped flat) is drawn
        again, and after eight attempts a stain is painted, which always shows.

    Raises:
        ValueError: an unknown kind.
    """
    if kind is not None and kind not in _PAINTERS:
        raise ValueError(f"expected a kind of damage among {', '.join(KINDS)}, got {kind}")
    chosen = kind or KINDS[int(rng.integers(len(KINDS)))]
    for _ in range(_ATTEMPTS):
        painted, opacity = _PAINTERS[chosen](frame, rng)
        result = _blend(frame, painted, opacity)
        change = np.abs(result.astype(np.int16) - frame.astype(np.int16)).max(axis=2)
        if change.max() >= _MIN_CHANGED:
            return Damaged(result, change > 0, chosen)
    opposite = 255.0 - np.round(frame.mean(axis=(0, 1)) / 255.0) * 255.0
    opacity = np.zeros(frame.shape[:2])
    opacity[_box(frame.shape[0], frame.shape[1], rng)] = 1.0
    result = _blend(frame, np.broadcast_to(opposite, frame.shape), opacity)
    return Damaged(result, (result != frame).any(axis=2), "stain")


def damage_all(frames: list[Frame8], count: int, seed: int) -> list[Damaged]:
    """Make `count` damaged pictures, going round the frames and the kinds so that every kind appears.

    Args:
        frames: good pictures, (H, W, 3) uint8 each; at least one.
        count: how many to make.
        seed: same seed, same bytes.
    """
    return list(_each(frames, count, seed))


def damaged_frames(frames: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """The pictures of `damage_all` alone, as one array: (N, H, W, 3) uint8 -> (count, H, W, 3) uint8."""
    painted = np.empty((count, *frames.shape[1:]), np.uint8)
    for i, one in enumerate(_each(frames, count, seed)):
        painted[i] = one.frame
    return painted


def _each(frames: Sequence[Frame8] | NDArray[np.uint8], count: int, seed: int) -> Iterator[Damaged]:
    if not len(frames):
        raise ValueError("expected at least one good picture to damage, got none")
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield damage(frames[i % len(frames)], rng, KINDS[i % len(KINDS)])


def _blend(frame: Frame8, painted: NDArray[np.float64], opacity: NDArray[np.float64]) -> Frame8:
    mixed = frame * (1.0 - opacity[..., None]) + painted * opacity[..., None]
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
