import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import DataError
from training.datasets import GOOD, open_dataset


def draw(path: Path, value: int = 90, size: tuple[int, int] = (40, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, 30)).save(path)
    return path


def mark(path: Path, value: int = 255, size: tuple[int, int] = (40, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size, 0)
    mask.paste(value, (4, 4, 12, 10))
    mask.save(path)
    return path


@pytest.fixture
def mvtec(tmp_path):
    root = tmp_path / "bolt"
    for i in range(10):
        draw(root / f"train/good/{i:03}.png", 80 + i)
    for i in range(3):
        draw(root / f"test/good/{i:03}.png", 100 + i)
        draw(root / f"test/bent/{i:03}.png", 120 + i)
        mark(root / f"ground_truth/bent/{i:03}_mask.png")
        draw(root / f"test/a_scratch/{i:03}.png", 140 + i)
    return root


@pytest.fixture
def loco(tmp_path):
    root = tmp_path / "box"
    for part in ("train", "validation", "test"):
        for i in range(2):
            draw(root / part / "good" / f"{i:03}.png", 60 + i)
    draw(root / "test/logical_anomalies/000.png")
    mark(root / "ground_truth/logical_anomalies/000/000.png", 255)
    mark(root / "ground_truth/logical_anomalies/000/001.png", 254)
    rows = [
        {"defect_name": "missing_pin", "pixel_value": 255, "saturation_threshold": 0.5, "relative_saturation": True},
        {"defect_name": "spill", "pixel_value": 254, "saturation_threshold": 10, "relative_saturation": False},
    ]
    (root / "defects_config.json").write_text(json.dumps(rows))
    return root


def test_mvtec_layout_with_good_parts_first_and_masks_where_drawn(mvtec):
    data = open_dataset(mvtec)
    assert data.name == "bolt"
    assert data.types == [GOOD, "a_scratch", "bent"]
    assert [len(item.masks) for item in data.test] == [0] * 6 + [1] * 3
    assert data.test[-1].masks[0].name == "002_mask.png"
    assert (len(data.train), len(data.validation)) == (8, 2)
    assert data.split == "2 of 10 good pictures held out by seed 0"


def test_loco_layout_keeps_its_validation_and_reads_all_masks_and_the_table(loco):
    data = open_dataset(loco)
    assert (len(data.train), len(data.validation), data.split) == (2, 2, "as laid out")
    assert [mask.name for mask in data.test[-1].masks] == ["000.png", "001.png"]
    assert data.saturation[255].defect_name == "missing_pin"
    assert data.saturation[254].saturation_px(100) == 10


def test_what_is_held_out_depends_on_seed_and_names_alone(mvtec, tmp_path):
    def held(root: Path, seed: int) -> list[str]:
        return [item.path.name for item in open_dataset(root, seed).validation]

    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(mvtec, copy)
    assert held(mvtec, 0) == held(copy, 0) == ["003.png", "008.png"]  # fixed: a new version must split as the old one did
    assert held(mvtec, 1) != held(mvtec, 0)
    data = open_dataset(mvtec, 3)
    assert sorted(i.path.name for i in (*data.train, *data.validation)) == [f"{i:03}.png" for i in range(10)]


def test_plain_folder_is_all_good_and_has_no_test(tmp_path):
    for i in range(6):
        draw(tmp_path / f"{i}.PNG")
    (tmp_path / "notes.txt").write_text("light was low on Tuesday")
    draw(tmp_path / ".thumbnails" / "0.png")
    data = open_dataset(tmp_path)
    assert (len(data.train), len(data.validation), data.test) == (5, 1, [])


def test_data_hash_follows_contents_and_names_but_not_the_place_or_the_test(mvtec, tmp_path):
    before = open_dataset(mvtec).data_sha256
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(mvtec, copy)
    draw(copy / "test/good/new.png")
    assert open_dataset(copy, seed=5).data_sha256 == before
    draw(copy / "train/good/003.png", 7)
    assert open_dataset(copy).data_sha256 != before


def test_data_hash_of_a_fixed_folder_is_fixed(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(bytes([i]))
    assert open_dataset(tmp_path).data_sha256 == "c4ff66a1c92477953b76ea0a6b4f95826d03ae15df0d6b6744893f7196e870a1"


def test_test_alone_will_do_where_nothing_is_trained(mvtec):
    shutil.rmtree(mvtec / "train")
    assert len(open_dataset(mvtec, need_train=False).test) == 9
    with pytest.raises(DataError, match="expected a folder train/good"):
        open_dataset(mvtec)


def broken(kind: str, root: Path) -> tuple[str, Path]:
    """Breaks a data set in one way and says what the message must name."""
    match kind:
        case "missing":
            shutil.rmtree(root)
            return "no such folder", root
        case "empty":
            shutil.rmtree(root)
            root.mkdir()
            return "no pictures; expected train/good", root
        case "train empty":
            shutil.rmtree(root / "train/good")
            return "no pictures", root / "train/good"
        case "one picture":
            shutil.rmtree(root / "train/good")
            draw(root / "train/good/0.png")
            return "at least 2 pictures", root
        case "defects in train":
            draw(root / "train/bent/000.png")
            return "move pictures of defects to", root / "train"
        case "loose in train":
            return "move them to", draw(root / "train/stray.png").parent
        case "loose in test":
            return "stray.png", draw(root / "test/stray.png").parent
        case "empty type":
            (root / "test/dent").mkdir()
            return "no pictures; add some", root / "test/dent"
        case "no types":
            shutil.rmtree(root / "test")
            (root / "test").mkdir()
            return "no folders", root / "test"
        case "masks without test":
            shutil.rmtree(root / "test")
            return "ground_truth but no test", root
        case "mask without picture":
            mark(root / "ground_truth/bent/777_mask.png")
            return "without a picture .such as 777", root / "ground_truth/bent"
        case "masks of no type":
            mark(root / "ground_truth/dent/000_mask.png")
            return "masks for dent", root / "ground_truth"
        case "picture without mask":
            (root / "ground_truth/bent/001_mask.png").unlink()
            return "1 of 3 lack it", root / "test/bent/001.png"
        case "empty mask folder":
            (root / "ground_truth/bent/001_mask.png").unlink()
            (root / "ground_truth/bent/001").mkdir()
            return "no mask in", root / "test/bent/001.png"
        case "two forms":
            mark(root / "ground_truth/bent/001/000.png")
            return "keep one form", root / "ground_truth/bent/001"
        case "mask name":
            return "expected a name like", mark(root / "ground_truth/bent/002.png")
        case "mask for good":
            mark(root / "ground_truth/good/000_mask.png")
            return "masks for good parts", root / "ground_truth/good"
        case "same stem":
            Image.new("RGB", (40, 32)).save(root / "test/bent/000.bmp")
            return "same name as", root / "test/bent/000.png"
        case "collection":
            return "give one of them: bolt", root.parent
        case "mixed plain":
            shutil.rmtree(root / "train")
            shutil.rmtree(root / "test")
            draw(root / "0.png")
            return "a plain folder holds good parts only", root
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "missing", "empty", "train empty", "one picture", "defects in train", "loose in train", "loose in test", "empty type",
        "no types", "masks without test", "mask without picture", "masks of no type", "picture without mask",
        "empty mask folder", "two forms", "mask name", "mask for good", "same stem", "collection", "mixed plain",
    ],
)  # fmt: skip
def test_a_folder_that_contradicts_itself_is_refused_with_place_and_remedy(mvtec, kind):
    message, place = broken(kind, mvtec)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(place if kind == "collection" else mvtec)
    assert str(place) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_value": 0}, "from 1 to 255, got 0"),
        ({"pixel_value": 254}, "stands for spill and"),
        ({"saturation_threshold": 1.5}, "at most 1, being relative"),
        ({"saturation_threshold": 0}, "above 0"),
        ({"saturation_threshold": "much"}, "saturation_threshold"),
    ],
)
def test_a_wrong_defect_table_is_refused(loco, change, message):
    path = loco / "defects_config.json"
    rows = json.loads(path.read_text())[::-1]
    rows[1].update(change)
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(loco)
    assert str(path) in str(caught.value)


def test_a_region_smaller_than_its_absolute_threshold_saturates_as_a_whole(loco):
    spill, pin = open_dataset(loco).saturation[254], open_dataset(loco).saturation[255]
    assert spill.saturation_px(4) == 4
    assert pin.saturation_px(101) == 50
    assert pin.saturation_px(1) == 1  # never 0: a share found is divided by it


@pytest.mark.data
def test_real_folders_are_read_whole(real_pictures):
    sizes = {}
    for folder in sorted((real_pictures / "real").iterdir()):
        data = open_dataset(folder)
        sizes[folder.name] = (len(data.train) + len(data.validation), len(data.test), sum(bool(i.masks) for i in data.test))
    assert sizes["commutator"] == (210, 93, 52)
    assert sizes["screws4"] == (22, 84, 73)
    assert sizes["aliens"] == (39, 79, 0)
    assert np.all([counts[0] > 0 for counts in sizes.values()])
