"""What a camera should see: light, exposure, focus, and a part in its place; learned from good pictures of this very station.

"Cannot see" is another answer than "bad": a dark, blurred or empty picture tells nothing of the part, and a model that was never
shown one may score it as it likes. Seven figures of a frame are compared with the range they had on good parts:

    level      median brightness                                                          light, exposure
    dark       share of pixels at black                                                   exposure
    bright     share of pixels at white                                                   exposure
    noise      median of the second difference along rows, grey levels                    exposure
    sharp      steepest change between neighbours over that eight times as far             defocus
    match      correlation of the map of edges (24 x 24) with the mean one                absent
    shift      how far the middle of its edges lies from where it lay, share of the side  shifted

Edges and not brightness are compared: carriers, labels and belts of other colours are still the same part in the same place.

The range of each is smallest and largest seen, widened by a margin: a defect must stay a defect. By exchangeability a good
picture leaves the unwidened range of one figure at one side with probability 1/(n + 1); `onbelt sight` states the bound for all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.errors import ConfigError

SCHEMA = "onbelt.sight/1"
MAX_FILE_BYTES = 64 * 1024
THUMB = 24
_ROWS = 96  # rows looked at for light, noise and sharpness: they tell it as well as all
_COARSE = 256  # px: frames twice as large or more are averaged in blocks before their edges are looked at
_BLACK, _WHITE = 8, 250
_STEEP = 0.995  # quantile of the changes along a row that counts as the steepest: a hot pixel is none
_SHIFT = 64  # px a side of the map of edges


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Smallest and largest value on good pictures, and how far beyond them a frame may lie."""

    low: float
    high: float
    margin: float


class SightFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `onbelt sight` writes: the ranges, the mean map of edges and its middle, and on how many pictures they rest."""

    sch: str
    n: int
    level: Range
    dark: Range
    bright: Range
    noise: Range
    sharp: Range
    match: Range
    shift: Range
    thumb: list[float]
    place: list[float]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why a frame tells nothing: a reason of edge.wire.verdict.REASONS, and a sentence with the figure."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """The seven figures of one frame."""

    level: float
    dark: float
    bright: float
    noise: float
    sharp: float
    match: float
    shift: float


class Sight:
    """Compares frames with what was learned.

    Args:
        learned: the file's content.
    """

    def __init__(self, learned: SightFile) -> None:
        self._learned = learned
        self._thumb = np.array(learned.thumb, np.float32).reshape(THUMB, THUMB)
        self._place = (learned.place[0], learned.place[1])

    def figures(self, pixels: NDArray[np.uint8]) -> Figures:
        """The frame's figures. pixels: (H, W, 3) uint8 RGB."""
        rows = _luma(pixels[:: max(1, len(pixels) // _ROWS)])
        edges = _edges(pixels)
        match = float((_normed(_pooled(edges, THUMB)) * self._thumb).mean())
        return Figures(*_light(rows), *_grain(rows), match, _offset(edges, self._place))

    def look(self, pixels: NDArray[np.uint8]) -> Unseen | None:
        """None when a part can be judged on this frame."""
        return next(self._complaints(self.figures(pixels)), None)

    def _complaints(self, seen: Figures) -> Iterator[Unseen]:
        """All that is wrong, what explains the rest first."""
        want = self._learned
        if seen.level < 0.5 * want.level.low:
            yield Unseen("light", f"median brightness {seen.level:.0f}, expected {_words(want.level)}")
        if not _within(seen.level, want.level):
            yield Unseen("exposure", f"median brightness {seen.level:.0f}, expected {_words(want.level)}")
        for name, what in (("dark", "black"), ("bright", "white")):
            share, limits = getattr(seen, name), getattr(want, name)
            if share > limits.high + limits.margin:
                yield Unseen("exposure", f"{share:.1%} of it is {what}, expected at most {limits.high + limits.margin:.1%}")
        if seen.noise > want.noise.high + want.noise.margin:
            yield Unseen(
                "exposure", f"noise of {seen.noise:.0f} grey levels, expected at most {want.noise.high + want.noise.margin:.0f}"
            )
        if seen.sharp < want.sharp.low - want.sharp.margin and seen.match > 0.5 * want.match.low:
            yield Unseen("defocus", f"sharpness {seen.sharp:.2f}, expected {want.sharp.low - want.sharp.margin:.2f} or more")
        if seen.match < want.match.low - want.match.margin:
            expected = want.match.low - want.match.margin
            moved = seen.shift > want.shift.high + want.shift.margin
            text = f"it resembles the usual picture by {seen.match:.2f}, expected {expected:.2f} or more"
            yield Unseen("shifted" if moved and seen.match > 0.5 * expected else "absent", text)
        if seen.shift > want.shift.high + want.shift.margin:
            limit = want.shift.high + want.shift.margin
            yield Unseen("shifted", f"the part lies {seen.shift:.1%} of the picture away, expected at most {limit:.1%}")


def learn(pictures: list[NDArray[np.uint8]]) -> SightFile:
    """Learn from good pictures of one camera; each (H, W, 3) uint8 RGB. Raises ConfigError: fewer than 20."""
    if len(pictures) < 20:
        raise ConfigError(f"expected at least 20 good pictures to learn a sight from, got {len(pictures)}; take more")
    edges = [_edges(pixels) for pixels in pictures]
    thumb = _normed(np.mean([_normed(_pooled(one, THUMB)) for one in edges], axis=0))
    place = np.mean([_middle(one) for one in edges], axis=0)
    whole = Range(-1e9, 1e9, 0.0)
    bare = SightFile(
        SCHEMA, len(pictures), *(whole,) * 7, [round(float(v), 4) for v in thumb.ravel()], [round(float(v), 4) for v in place]
    )
    sight = Sight(bare)
    seen = [sight.figures(pixels) for pixels in pictures]

    def range_of(name: str, least: float, times: float) -> Range:
        values = [getattr(one, name) for one in seen]
        low, high = min(values), max(values)
        # The spread itself as margin: what defects and another lot do to a figure is of its size; blur and darkness do more.
        return Range(round(low, 5), round(high, 5), round(max(least, times * (high - low)), 5))

    return msgspec.structs.replace(
        bare,
        level=range_of("level", 8.0, 1.0),
        dark=range_of("dark", 0.02, 1.0),
        bright=range_of("bright", 0.02, 1.0),
        noise=range_of("noise", 2.0, 1.0),
        sharp=range_of("sharp", 0.05, 0.25),
        match=range_of("match", 0.05, 0.25),
        shift=range_of("shift", 0.02, 0.5),
    )


def write_sight(path: Path, learned: SightFile) -> None:
    """Write the file whole. Raises ConfigError: it cannot be written there."""
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(learned), indent=0))
        beside.replace(path)
    except OSError as exc:
        raise ConfigError(
            f"{path}: the sight cannot be written there ({exc.strerror}); name a file in a folder that exists"
        ) from exc


def read_sight(path: Path) -> Sight:
    """Read a learned sight. Raises ConfigError: unreadable, too large, or not one of ours."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: the sight cannot be read ({exc.strerror}); make it with onbelt sight") from exc
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, it is larger; this is no sight")
    try:
        learned = msgspec.json.decode(content, type=SightFile)
    except msgspec.MsgspecError as exc:
        raise ConfigError(f"{path}: not a sight: {exc}; make it anew with onbelt sight") from exc
    finite = np.isfinite(np.array([*learned.thumb, *learned.place])).all()
    if learned.sch != SCHEMA or len(learned.thumb) != THUMB**2 or len(learned.place) != 2 or not finite:
        raise ConfigError(f"{path}: expected a sight of schema {SCHEMA}, got {learned.sch!r}; make it anew with onbelt sight")
    return Sight(learned)


# --- figures ----------------------------------------------------------------------------------------------------------------


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8: a quarter red, half green, a quarter blue, in integers."""
    wide = pixels.astype(np.uint16)
    return ((wide[:, :, 0] + 2 * wide[:, :, 1] + wide[:, :, 2]) >> 2).astype(np.uint8)


def _light(luma: NDArray[np.uint8]) -> tuple[float, float, float]:
    counts = np.bincount(luma.ravel(), minlength=256)
    below = np.cumsum(counts) / luma.size
    return float(np.searchsorted(below, 0.5)), float(below[_BLACK - 1]), float(1.0 - below[_WHITE - 1])


def _grain(luma: NDArray[np.uint8]) -> tuple[float, float]:
    """(noise in grey levels, sharpness 0 to 1) along rows."""
    rows = luma.astype(np.int16)
    if rows.shape[1] < 24:
        return 0.0, 0.0
    near, far = np.abs(rows[:, 1:] - rows[:, :-1]), np.abs(rows[:, 8:] - rows[:, :-8])
    noise = np.abs(rows[:, 2:] - 2 * rows[:, 1:-1] + rows[:, :-2])
    return _at(noise, 0.5), _at(near, _STEEP) / max(_at(far, _STEEP), 8.0)


def _at(values: NDArray[np.int16], share: float) -> float:
    """The quantile of small whole numbers from 0 on, by counting: a tenth of the time that sorting takes."""
    return float(np.searchsorted(np.cumsum(np.bincount(values.ravel())), share * values.size))


def _edges(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(64, 64) float32: how much changes where; the root keeps one hard edge from outweighing the rest."""
    blocks = max(1, min(pixels.shape[:2]) // _COARSE)
    skipped = max(1, blocks // 2)  # two rows of each block are enough, and half the memory to read
    coarse = np.asarray(Image.fromarray(pixels[::skipped]).reduce((blocks, blocks // skipped)))
    small = np.asarray(Image.fromarray(_luma(coarse)).resize((2 * _SHIFT, 2 * _SHIFT), Image.Resampling.BOX), np.float32)
    across = np.zeros_like(small)
    across[:, 1:-1] = np.abs(small[:, 2:] - small[:, :-2])
    across[1:-1] += np.abs(small[2:] - small[:-2])
    pooled = np.sqrt(across).reshape(_SHIFT, 2, _SHIFT, 2).mean(axis=(1, 3))
    return np.asarray(pooled / max(float(pooled.mean()), 0.5), np.float32)


def _pooled(edges: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(edges).resize((side, side), Image.Resampling.BOX), np.float32)


def _normed(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = thumb - thumb.mean()
    return np.asarray(centred / max(float(centred.std()), 0.05), np.float32)


def _offset(edges: NDArray[np.float32], place: tuple[float, float]) -> float:
    """How far the middle of what has edges lies from where it lay on good pictures, share of the side.

    Not by correlation: products repeat themselves, and a part one pitch away correlates as well as one in its place.
    """
    x, y = _middle(edges)
    return float(np.hypot(x - place[0], y - place[1]))


def _middle(edges: NDArray[np.float32]) -> tuple[float, float]:
    """(x, y), shares of the side: the mean place of the strongest quarter."""
    rows, columns = np.nonzero(edges >= np.quantile(edges, 0.75))
    return float(columns.mean()) / _SHIFT, float(rows.mean()) / _SHIFT


def _within(value: float, limits: Range) -> bool:
    return limits.low - limits.margin <= value <= limits.high + limits.margin


def _words(limits: Range) -> str:
    return f"{max(0.0, limits.low - limits.margin):.0f} to {limits.high + limits.margin:.0f}"
