"""Data sets on disk: MVTec AD, MVTec LOCO AD, or a plain folder of good pictures.

    DATA/train/good/*.png                        good parts, to learn from
    DATA/validation/good/*.png                   good parts, to set limits on; without it a share of train is held out
    DATA/test/good/*.png, DATA/test/TYPE/*.png   parts to judge
    DATA/ground_truth/TYPE/NAME_mask.png         MVTec AD: one mask a picture
    DATA/ground_truth/TYPE/NAME/000.png          MVTec LOCO AD: one mask a defect
    DATA/defects_config.json                     MVTec LOCO AD: what the values in masks mean

or pictures lying directly in DATA, all of good parts. What is held out depends on the seed and on file names alone, so a copy
of the folder on another machine is split alike. A folder that contradicts itself is refused with the remedy: a wrong label
costs more than a minute of tidying.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from edge.errors import DataError
from training.datasets.items import DEFECTS_FILE, GOOD, PICTURE_SUFFIXES, DefectConfig, Item, read_defects

VALIDATION_SHARE = 0.2
"""Part of the good pictures held out where a data set has no validation folder (MVTec LOCO AD's own share is 0.15)."""

_HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Dataset:
    """Pictures of one product.

    Attributes:
        name: the folder's name.
        root: the folder.
        train: good parts to learn from. validation: good parts to set limits on. test: parts to judge, good ones first.
        saturation: pixel value in a mask -> LOCO's defect; empty for other layouts.
        split: how validation came about, in words, for the run's record.
    """

    name: str
    root: Path
    train: list[Item]
    validation: list[Item]
    test: list[Item]
    saturation: dict[int, DefectConfig] = field(default_factory=dict)
    split: str = "as laid out"

    @cached_property
    def data_sha256(self) -> str:
        """SHA-256 over names (relative to the folder) and contents of all train and validation files, as hexadecimal."""
        digest = hashlib.sha256()
        for path in sorted((item.path for item in (*self.train, *self.validation)), key=self._key):
            digest.update(f"{self._key(path)}\0{hash_file(path)}\n".encode())
        return digest.hexdigest()

    @property
    def held_out(self) -> list[str]:
        """Names (relative to the folder) of the validation files, in order."""
        return [self._key(item.path) for item in self.validation]

    @property
    def types(self) -> list[str]:
        """Types in the test list, "good" first."""
        return list(dict.fromkeys(item.type for item in self.test))

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def open_dataset(path: Path, seed: int = 0, *, need_train: bool = True) -> Dataset:
    """List a data set's pictures; no picture is decoded yet.

    Args:
        path: the folder.
        seed: which good pictures are held out where the data set has no validation folder.
        need_train: whether a folder without train is refused (to evaluate, test alone will do).

    Returns:
        The lists, each sorted by file name.

    Raises:
        DataError: the folder is missing, empty, or contradicts itself.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set (train/good, test/...) or a folder of good pictures")
    if any((root / part).is_dir() for part in ("train", "test")):
        return _open_laid_out(root, seed, need_train=need_train)
    return _open_plain(root, seed)


def _open_laid_out(root: Path, seed: int, *, need_train: bool) -> Dataset:
    defects = read_defects(root / DEFECTS_FILE)
    train = _good_only(root, "train", required=need_train)
    validation = _good_only(root, "validation", required=False)
    split = "as laid out"
    if train and not validation:
        train, validation, split = _hold_out(train, root, seed)
    return Dataset(root.resolve().name, root, train, validation, _test_items(root), defects, split)


def _open_plain(root: Path, seed: int) -> Dataset:
    pictures = _pictures(root)
    folders = [folder for folder in _folders(root) if next(folder.rglob("*.*"), None) is not None]
    if not pictures:
        products = [folder.name for folder in folders if (folder / "train").is_dir()]
        if products:
            raise DataError(f"{root}: holds several data sets; give one of them: {', '.join(products)}")
        raise DataError(
            f"{root}: no pictures; expected train/good (and test/...), or good pictures "
            f"({' '.join(sorted(PICTURE_SUFFIXES))}) directly in it"
        )
    if folders:
        raise DataError(
            f"{root}: holds {len(pictures)} pictures and also folders ({', '.join(f.name for f in folders[:4])}); a plain folder "
            "holds good parts only: move the good ones to train/good and the others to test/TYPE"
        )
    train, validation, split = _hold_out([Item(picture, GOOD) for picture in pictures], root, seed)
    return Dataset(root.resolve().name, root, train, validation, [], {}, split)


def _good_only(root: Path, part: str, *, required: bool) -> list[Item]:
    """Read train or validation: a folder that may hold `good` and nothing else."""
    folder = root / part
    if not folder.is_dir():
        if required:
            raise DataError(f"{root}: expected a folder {part}/{GOOD} with pictures of good parts, found none")
        return []
    others = [child.name for child in _folders(folder) if child.name != GOOD]
    if others:
        raise DataError(
            f"{folder}: expected only {GOOD}/, got also {', '.join(others[:4])}; a model learns from good parts alone: "
            f"move pictures of defects to {root / 'test'}/TYPE"
        )
    loose = _pictures(folder)
    if loose:
        raise DataError(
            f"{folder}: {len(loose)} pictures lie beside {GOOD}/ (such as {loose[0].name}); move them to {folder / GOOD}"
        )
    pictures = _pictures(folder / GOOD) if (folder / GOOD).is_dir() else []
    if not pictures:
        raise DataError(f"{folder / GOOD}: no pictures; expected files ending in {' '.join(sorted(PICTURE_SUFFIXES))}")
    return [Item(picture, GOOD) for picture in pictures]


def _hold_out(items: list[Item], root: Path, seed: int) -> tuple[list[Item], list[Item], str]:
    """Split good pictures in two by the hash of seed and name: the same on every machine and for every library version."""
    if len(items) < 2:
        raise DataError(f"{root}: expected at least 2 pictures of good parts, one of them to set limits on, got {len(items)}")
    count = max(1, round(VALIDATION_SHARE * len(items)))
    order = sorted(items, key=lambda item: hashlib.sha256(f"{seed}\0{item.path.relative_to(root).as_posix()}".encode()).digest())
    held = {item.path for item in order[:count]}
    train = [item for item in items if item.path not in held]
    validation = [item for item in items if item.path in held]
    return train, validation, f"{count} of {len(items)} good pictures held out by seed {seed}"


def _test_items(root: Path) -> list[Item]:
    folder = root / "test"
    if not folder.is_dir():
        if (root / "ground_truth").is_dir():
            raise DataError(f"{root}: has ground_truth but no test; masks belong to pictures in test/TYPE")
        return []
    loose = _pictures(folder)
    if loose:
        raise DataError(f"{folder}: pictures lie outside a type's folder (such as {loose[0].name}); move them to {folder}/TYPE")
    types = sorted(_folders(folder), key=lambda child: (child.name != GOOD, child.name))
    if not types:
        raise DataError(f"{folder}: no folders; expected {GOOD}/ and one folder for each type of defect")
    items: list[Item] = []
    for child in types:
        pictures = _pictures(child)
        if not pictures:
            raise DataError(f"{child}: no pictures; add some, or remove the folder")
        items.extend(_with_masks(pictures, child.name, root / "ground_truth" / child.name))
    stray = [t.name for t in _folders(root / "ground_truth") if not (folder / t.name).is_dir()]
    if stray:
        raise DataError(f"{root / 'ground_truth'}: masks for {', '.join(stray[:4])}, but {folder} has no such type")
    return items


def _with_masks(pictures: list[Path], kind: str, masks_folder: Path) -> list[Item]:
    """Join pictures of one type with their masks; all have some, or none has."""
    stems: dict[str, Path] = {}
    for picture in pictures:
        if picture.stem in stems:
            raise DataError(f"{picture}: same name as {stems[picture.stem].name}; masks are found by name: rename one of them")
        stems[picture.stem] = picture
    if not masks_folder.is_dir():
        return [Item(picture, kind) for picture in pictures]
    if kind == GOOD:
        raise DataError(f"{masks_folder}: masks for good parts; remove the folder, or move the pictures to their type of defect")
    masks: dict[str, tuple[Path, ...]] = {}
    for mask in _pictures(masks_folder):
        if not mask.stem.endswith("_mask"):
            raise DataError(f"{mask}: expected a name like {pictures[0].stem}_mask.png (the picture's name and _mask); rename it")
        masks[mask.stem.removesuffix("_mask")] = (mask,)
    for folder in _folders(masks_folder):
        if folder.name in masks:
            raise DataError(f"{folder}: masks beside {masks[folder.name][0].name}; keep one form: NAME_mask.png or NAME/000.png")
        masks[folder.name] = tuple(_pictures(folder))
    orphans = sorted(set(masks) - set(stems))
    if orphans:
        raise DataError(
            f"{masks_folder}: {len(orphans)} masks without a picture (such as {orphans[0]}); expected them in "
            f"{pictures[0].parent}: add the picture, or remove the mask"
        )
    bare = [stem for stem in stems if not masks.get(stem)]
    if bare:
        raise DataError(
            f"{stems[bare[0]]}: no mask in {masks_folder}, though other pictures of {kind} have one ({len(bare)} of "
            f"{len(pictures)} lack it); draw it, or remove all masks of this type"
        )
    return [Item(picture, kind, masks[picture.stem]) for picture in pictures]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()),
        key=lambda p: p.name,
    )


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: p.name)
