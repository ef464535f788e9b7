import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import DataError, PictureError
from edge.preprocess import fit, read_picture
from training.datasets import Item, load_frames, open_dataset, picture_shape, read_truth
from training.datasets.frames import log_progress
from training.datasets.items import DefectConfig


@pytest.fixture
def picture(tmp_path):
    y, x = np.mgrid[0:48, 0:64]
    path = tmp_path / "part.png"
    Image.fromarray(np.stack([x * 4, y * 5, x ^ y], axis=2).astype(np.uint8)).save(path)
    return path


def mask_file(tmp_path: Path, values: np.ndarray, name: str = "mask.png") -> Path:
    path = tmp_path / name
    Image.fromarray(values).save(path)
    return path


def marked(height: int = 48, width: int = 64, value: int = 255) -> np.ndarray:
    values = np.zeros((height, width), np.uint8)
    values[10:20, 30:40] = value
    return values


def test_frames_are_what_the_box_would_see_in_order(tmp_path):
    items = []
    for i in range(9):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((50, 30 + i, 3), 20 * i, np.uint8)).save(path)
        items.append(Item(path, "good"))
    calls = []
    frames = load_frames(items, 32, progress=lambda done, total: calls.append((done, total)))
    assert frames.shape == (9, 32, 32, 3)
    assert frames.dtype == np.uint8
    for frame, item in zip(frames, items, strict=True):
        np.testing.assert_array_equal(frame, fit(read_picture(item.path), 32))
    assert calls == [(i, 9) for i in range(1, 10)]
    assert load_frames([], 32).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("kind", ["corrupt", "truncated", "sixteen bit", "missing", "tiny"])
def test_an_unusable_picture_is_named(tmp_path, picture, kind):
    bad = tmp_path / "bad.png"
    if kind == "corrupt":
        bad.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    elif kind == "truncated":
        bad.write_bytes(picture.read_bytes()[:-40])
    elif kind == "sixteen bit":
        Image.fromarray(np.zeros((48, 64), np.uint16)).save(bad)
    elif kind == "tiny":
        Image.new("RGB", (4, 4)).save(bad)
    with pytest.raises(PictureError, match=r"bad\.png"):
        load_frames([Item(picture, "good"), Item(bad, "good"), Item(picture, "good")], 32)


def test_progress_is_logged_at_most_every_five_seconds(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr("training.datasets.frames.time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    report = log_progress("reading pictures")
    for done in range(1, 13):
        now[0] += 1.0
        report(done, 12)
    assert [record.getMessage() for record in caplog.records] == [
        "reading pictures: 5 of 12",
        "reading pictures: 10 of 12",
        "reading pictures: 12 of 12",
    ]


def test_quick_work_logs_nothing(caplog):
    caplog.set_level(logging.INFO)
    log_progress("reading pictures")(3, 3)
    assert not caplog.records


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_shape_from_the_header_is_that_of_the_upright_picture(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (64, 48)).save(path, exif=exif)
    assert picture_shape(path) == read_picture(path).shape[:2]


def test_shape_of_what_is_no_picture(tmp_path):
    with pytest.raises(PictureError, match="no such picture"):
        picture_shape(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(PictureError, match=r"text\.png"):
        picture_shape(tmp_path / "text.png")


@pytest.mark.parametrize("value", [1, 128, 255])
def test_without_a_table_any_value_but_zero_is_defective_and_all_of_it_counts(tmp_path, picture, value):
    (truth,) = read_truth(Item(picture, "bent", (mask_file(tmp_path, marked(value=value)),)), {})
    np.testing.assert_array_equal(truth.pixels, marked() > 0)
    assert (truth.name, truth.saturation_px) == ("", 100)


def test_one_bit_and_palette_masks_are_read_by_their_values(tmp_path, picture):
    for mode in ("1", "P"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(marked()).convert(mode).save(path)
        (truth,) = read_truth(Item(picture, "bent", (path,)), {})
        assert truth.pixels.sum() == 100, mode


def test_the_table_names_each_defect_and_its_saturation(tmp_path, picture):
    table = {7: DefectConfig("missing_pin", 7, 0.25, True), 9: DefectConfig("spill", 9, 30, False)}
    masks = tuple(mask_file(tmp_path, marked(value=v), f"{v}.png") for v in (9, 7))
    spill, pin = read_truth(Item(picture, "logical_anomalies", masks), table)
    assert (spill.name, spill.saturation_px) == ("spill", 30)
    assert (pin.name, pin.saturation_px) == ("missing_pin", 25)


def test_good_parts_have_no_truth(picture):
    assert read_truth(Item(picture, "good"), {}) == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (marked(40, 64), "64x48 px like its picture"),
        (marked(64, 48), "EXIF rotation"),
        (np.zeros((48, 64), np.uint8), "got none"),
        (np.dstack([marked()] * 3), "mode RGB"),
        (marked().astype(np.uint16), "one 8-bit channel"),
    ],
)
def test_an_unusable_mask_is_named_with_its_remedy(tmp_path, picture, values, message):
    path = mask_file(tmp_path, values)
    with pytest.raises(DataError, match=message) as caught:
        read_truth(Item(picture, "bent", (path,)), {})
    assert str(path) in str(caught.value)


def test_a_damaged_mask_is_named(tmp_path, picture):
    path = mask_file(tmp_path, marked())
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="not a readable mask"):
        read_truth(Item(picture, "bent", (path,)), {})


@pytest.mark.parametrize(
    "values", [marked(value=8), np.where(marked() > 0, np.arange(64, dtype=np.uint8)[None], 0).astype(np.uint8)]
)
def test_a_value_the_table_does_not_explain_is_refused(tmp_path, picture, values):
    with pytest.raises(DataError, match=r"one value of defects_config\.json \(7\)"):
        read_truth(Item(picture, "bent", (mask_file(tmp_path, values),)), {7: DefectConfig("pin", 7, 1.0, True)})


@pytest.mark.data
def test_every_real_mask_fits_its_picture(real_pictures):
    area = {}
    for folder in sorted((real_pictures / "real").iterdir()):
        data = open_dataset(folder)
        area[folder.name] = sum(truth.saturation_px for item in data.test for truth in read_truth(item, data.saturation))
    assert area["commutator"] == 110_973
    assert area["aliens"] == 0, json.dumps(area)
