"""Writes parts of the simulated belt as a data set in the layout of MVTec LOCO AD.

    OUT/train/good, OUT/validation/good, OUT/test/good, OUT/test/logical_anomalies, OUT/test/structural_anomalies
    OUT/ground_truth/<type>/<stem>/000.png   the defect's pixel value where defective, else 0
    OUT/defects_config.json                  pixel value and saturation threshold of every defect
    OUT/scenes.json                          where every picture comes from, enough to draw it again

Every folder has a seed of its own, far from the seeds people give to cameras, so no part is in two of them and none of them runs
on a demonstration's belt. Indices step over batches: each picture shows another batch of material, and the lamp drifts.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.belt.defects import DEFECTS
from edge.belt.scene import BATCH, PRODUCTS, Kind, Product, render
from edge.errors import DataError

Progress = Callable[[int, int], None]

INDEX_STEP = BATCH + 2  # every picture from another batch; and prime to the lamp's period, so all its phases are seen
FIRST_SEED = 1_000_000  # cameras take small seeds: nobody judges a part a model has learned from
TOP_VALUE = 255  # LOCO counts its pixel values down from here
INFO_FILE = "scenes.json"
INFO_SCHEMA = "onbelt.scenes/1"


@dataclass(frozen=True, slots=True)
class Split:
    """One folder of pictures.

    Attributes:
        folder: relative to the data set. kind: of its parts. seed: its belt. count: how many.
    """

    folder: str
    kind: Kind
    seed: int
    count: int

    @property
    def type(self) -> str:
        """Name of the type in the layout, the folder's last word."""
        return self.folder.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: pictures, and the SHA-256 of their contents (see `scenes.json`)."""

    pictures: int
    sha256: str


def splits(seed: int, train: int, validation: int, test: int) -> tuple[Split, ...]:
    """The folders of a data set.

    Args:
        seed: of the data set; two different ones share no part.
        train: good parts to learn from.
        validation: good parts to set limits on.
        test: parts of each type to judge.
    """
    first = FIRST_SEED + 10 * seed
    return (
        Split("train/good", Kind.GOOD, first, train),
        Split("validation/good", Kind.GOOD, first + 1, validation),
        Split("test/good", Kind.GOOD, first + 2, test),
        Split("test/logical_anomalies", Kind.LOGICAL, first + 3, test),
        Split("test/structural_anomalies", Kind.STRUCTURAL, first + 4, test),
    )


def pixel_values(product: Product) -> dict[str, int]:
    """The value of each defect's pixels in a mask, as LOCO has it: 255 for the first, then downwards."""
    return {name: TOP_VALUE - place for place, name in enumerate((*product.logical, *DEFECTS))}


def defects_config(product: Product) -> list[dict[str, object]]:
    """The content of `defects_config.json`: structural defects have to be found whole, logical ones as the product says."""
    saturation = product.logical | dict.fromkeys(DEFECTS, 1.0)
    return [
        {"defect_name": name, "pixel_value": value, "saturation_threshold": saturation[name], "relative_saturation": True}
        for name, value in pixel_values(product).items()
    ]


def claim(folder: Path) -> None:
    """Make the folder, or take an empty one.

    Raises:
        DataError: it holds something, is a file, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(child.name for child in folder.iterdir())
    except OSError as exc:
        raise DataError(f"{folder}: expected a folder that can be made or is empty ({exc}); choose another one") from exc
    if found:
        raise DataError(
            f"{folder}: expected an empty folder, found {len(found)} entries (such as {found[0]}); "
            "choose another one, or delete it first: old and new pictures in one data set would go unnoticed"
        )


def write_scenes(product: str, out: Path, parts: tuple[Split, ...], size: int, progress: Progress | None = None) -> Written:
    """Write one product's data set.

    Args:
        product: one of PRODUCTS.
        out: an empty folder, or one to be made.
        parts: its folders, from `splits`.
        size: side of the pictures in pixels.
        progress: called with (done, total) after each picture.

    Raises:
        DataError: `out` is not empty, or cannot be written.
        ValueError: unknown product, or a size below 128 px.
    """
    claim(out)
    made = PRODUCTS[product]
    values = pixel_values(made)
    total, done = sum(split.count for split in parts), 0
    digest = hashlib.sha256()
    defects: dict[str, str] = {}
    try:
        for split in parts:
            (out / split.folder).mkdir(parents=True)
            for number in range(split.count):
                name = defect_of(made, split.kind, number)
                part = render(product, split.seed, number * INDEX_STEP, kind=split.kind.value, defect=name, size=size)
                file = f"{split.folder}/{number:04d}.png"
                _save(out / file, part.frame)
                digest.update(f"{file}\0{hashlib.sha256(part.frame.tobytes()).hexdigest()}\n".encode())
                if name is not None:
                    defects[file] = name
                    mask = f"ground_truth/{split.type}/{number:04d}/000.png"
                    pixels = (part.truth.mask > 0).astype(np.uint8) * np.uint8(values[name])
                    (out / mask).parent.mkdir(parents=True)
                    _save(out / mask, pixels)
                    digest.update(f"{mask}\0{hashlib.sha256(pixels.tobytes()).hexdigest()}\n".encode())
                done += 1
                if progress is not None:
                    progress(done, total)
        _save_json(out / "defects_config.json", defects_config(made))
        _save_json(out / INFO_FILE, _info(made, parts, size, digest.hexdigest(), defects))
    except OSError as exc:
        raise DataError(
            f"{exc.filename or out}: cannot be written ({exc.strerror or exc}) after {done} of {total} pictures; "
            f"make room or check permissions, delete {out} and write it again"
        ) from exc
    return Written(done, digest.hexdigest())


def defect_of(product: Product, kind: Kind, number: int) -> str | None:
    """The defect of a folder's picture: all names in turn, so that every one is there equally often; None for good parts."""
    if kind is Kind.GOOD:
        return None
    names = tuple(product.logical) if kind is Kind.LOGICAL else DEFECTS
    return names[number % len(names)]


def _info(product: Product, parts: tuple[Split, ...], size: int, sha256: str, defects: dict[str, str]) -> dict[str, object]:
    return {
        "schema": INFO_SCHEMA,
        "scene_version": product.version,
        "product": product.name,
        "rule": product.rule,
        "size_px": size,
        "splits": {
            split.folder: {
                "kind": split.kind.value,
                "seed": split.seed,
                "indices": {"first": 0, "step": INDEX_STEP, "count": split.count},
            }
            for split in parts
        },
        "sha256": sha256,
        "sha256_of": "lines 'file NUL sha256 of its decoded pixels', a picture's before its mask's, in the order of `splits`",
        "defects": defects,
    }


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    # Level 1: a third of the time of the usual level for a tenth more bytes; noise does not compress anyway.
    Image.fromarray(pixels).save(path, compress_level=1)


def _save_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
