"""Pictures to distil on and to penalize on: photographs from folders, and generated ones.

Photographs are decoded once and kept small in memory; every draw from a `PicturePool` is a fresh crop at a random scale, mirrored
half of the time. The paper's recipe draws as Algorithm 1 does instead, from a `CentrePool`. Nothing here depends on the order in
which a file system lists its files.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edge.errors import PictureError
from edge.preprocess import Frame8, read_picture
from training.teacher.textures import generate_texture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

KEPT_SIDE_PX = 768
"""Short side at which a photograph is kept: 1.7 MB for a square one, and every crop of 256 px has many places."""

GENERATED_SIDE_PX = 384
"""Side of generated pictures."""


def find_pictures(places: Iterable[Path]) -> list[Path]:
    """Lists picture files, in an order of their own names.

    Args:
        places: Files, or folders searched to any depth.

    Raises:
        PictureError: A place does not exist, or there is no picture in any of them.
    """
    places = list(places)
    found: set[Path] = set()
    for place in places:
        if place.is_dir():
            found.update(p for p in place.rglob("*") if p.is_file() and p.suffix.lower() in PICTURE_SUFFIXES)
        elif place.is_file():
            found.add(place)
        else:
            raise PictureError(f"no such picture or folder: {place}; name photographs, or folders that hold some")
    if not found:
        raise PictureError(
            f"expected pictures ({', '.join(sorted(PICTURE_SUFFIXES))}) in {', '.join(map(str, places))}, found none; "
            "put some there, or name another folder"
        )
    return sorted(found, key=lambda p: (p.name, str(p)))


def read_photograph(path: Path, short_side_px: int = KEPT_SIDE_PX) -> Frame8:
    """Reads one photograph, shrunk (never enlarged) to a short side.

    Args:
        path: The file.
        short_side_px: Short side of what is returned, at most.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        PictureError: See `edge.preprocess.read_picture`.
    """
    pixels = read_picture(path)
    scale = short_side_px / min(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def hash_pictures(pictures: Sequence[Frame8]) -> str:
    """SHA-256 over the shapes and pixels of pictures in order, as hexadecimal."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.shape).encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()


class PicturePool:
    """Photographs and generated pictures from which square crops are drawn.

    Args:
        photographs: (H, W, 3) uint8 each; may be empty.
        generated: How many pictures to generate into the pool.
        generated_share: Part of the draws that come from the generated ones (1 where there are no photographs).
        rng: Source of the generated pictures.
        generated_side_px: Side of the generated ones.
    """

    def __init__(
        self,
        photographs: Sequence[Frame8],
        *,
        generated: int,
        generated_share: float,
        rng: np.random.Generator,
        generated_side_px: int = GENERATED_SIDE_PX,
    ) -> None:
        self.photographs = list(photographs)
        self.generated = [generate_texture(rng, generated_side_px) for _ in range(generated)]
        if not self.photographs and not self.generated:
            raise PictureError("no pictures: expected photographs, generated pictures, or both; got neither")
        self._share = 1.0 if not self.photographs else (generated_share if self.generated else 0.0)

    def draw(self, rng: np.random.Generator, side: int, *, grey_chance: float = 0.0) -> Frame8:
        """Draws one crop.

        Args:
            rng: Source of every choice.
            side: Side of the crop in pixels.
            grey_chance: Chance that colour is taken away (three equal channels).

        Returns:
            (side, side, 3) uint8 RGB: a square of 0.7 to 1.6 times the side (at most the picture's short side) at a
            random place, mirrored half of the time, resized bilinearly with antialiasing.
        """
        pool = self.generated if rng.random() < self._share else self.photographs
        picture = pool[int(rng.integers(0, len(pool)))]
        short = min(picture.shape[:2])
        span = int(min(short, side * np.exp(rng.uniform(np.log(0.7), np.log(1.6)))))
        top = int(rng.integers(0, picture.shape[0] - span + 1))
        left = int(rng.integers(0, picture.shape[1] - span + 1))
        crop = Image.fromarray(picture[top : top + span, left : left + span])
        crop = crop.resize((side, side), Image.Resampling.BILINEAR)
        if rng.random() < grey_chance:
            crop = crop.convert("L").convert("RGB")
        pixels = np.asarray(crop)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)


class CentrePool:
    """Pictures drawn as Algorithm 1 of EfficientAD draws its natural ones: whole pictures, of which the middle is taken.

    A picture is resized to a square of twice the side (256 px: to 512 x 512, whatever its proportions), and the middle of that is
    cut out; neither place nor scale is drawn, and nothing is mirrored.

    Args:
        pictures: (H, W, 3) uint8 each; taken one by one, only the middles are kept.
        side: Side of what is drawn, in pixels.

    Raises:
        PictureError: There is no picture.
    """

    def __init__(self, pictures: Iterable[Frame8], side: int) -> None:
        self.middles = [_middle(picture, side) for picture in pictures]
        if not self.middles:
            raise PictureError("no pictures: expected at least one to draw from")

    def draw(self, rng: np.random.Generator, *, grey_chance: float) -> Frame8:
        """Draws one picture.

        Args:
            rng: Source of every choice.
            grey_chance: Chance that colour is taken away (three equal channels).

        Returns:
            (side, side, 3) uint8 RGB.
        """
        middle = self.middles[int(rng.integers(0, len(self.middles)))]
        if rng.random() < grey_chance:
            return np.asarray(Image.fromarray(middle).convert("L").convert("RGB"), np.uint8)
        return np.array(middle)


def _middle(picture: Frame8, side: int) -> Frame8:
    whole = Image.fromarray(picture).resize((2 * side, 2 * side), Image.Resampling.BILINEAR)
    first, last = side // 2, side // 2 + side
    return np.asarray(whole.crop((first, first, last, last)), np.uint8)
