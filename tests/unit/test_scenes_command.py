"""`onbelt scenes`: a data set that training reads, from parts nobody else sees, and that can be drawn again."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.belt import writer
from edge.belt.defects import DEFECTS
from edge.belt.scene import BATCH, PRODUCTS, Kind, render
from edge.belt.writer import INDEX_STEP, claim, pixel_values, splits, write_scenes
from edge.cli import main
from edge.errors import DataError
from edge.preprocess import read_picture
from training.datasets import open_dataset, read_truth

TEST_PARTS = 6  # of each type: more than any product has defects of one kind


@pytest.fixture(scope="module")
def tray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "set"
    words = ["scenes", str(out), "--product", "tray", "--train", "3", "--validation", "2", "--test", str(TEST_PARTS)]
    assert main([*words, "--size", "128", "--seed", "4"]) == 0
    return out / "tray"


def test_training_reads_what_was_written(tray):
    data = open_dataset(tray)
    assert (len(data.train), len(data.validation), len(data.test)) == (3, 2, 3 * TEST_PARTS)
    assert data.types == ["good", "logical_anomalies", "structural_anomalies"]
    assert data.split == "as laid out"
    names = {defect.defect_name: defect.saturation_threshold for defect in data.saturation.values()}
    assert names == PRODUCTS["tray"].logical | dict.fromkeys(DEFECTS, 1.0)


def test_every_test_part_has_the_mask_of_its_defect(tray):
    data = open_dataset(tray)
    told = json.loads((tray / "scenes.json").read_text())["defects"]
    found = set()
    for item in data.test:
        truths = read_truth(item, data.saturation)
        file = item.path.relative_to(tray).as_posix()
        assert [truth.name for truth in truths] == ([told[file]] if item.type != "good" else [])
        assert all(truth.pixels.any() for truth in truths)
        found |= {truth.name for truth in truths}
    assert found == {*PRODUCTS["tray"].logical, *DEFECTS}


def test_every_picture_can_be_drawn_again_from_the_record(tray):
    record = json.loads((tray / "scenes.json").read_text())
    for folder, split in record["splits"].items():
        number = split["indices"]["count"] - 1
        file = f"{folder}/{number:04d}.png"
        part = render(
            record["product"],
            split["seed"],
            split["indices"]["first"] + split["indices"]["step"] * number,
            kind=split["kind"],
            defect=record["defects"].get(file),
            size=record["size_px"],
        )
        assert np.array_equal(read_picture(tray / file), part.frame)
        if split["kind"] != "good":
            with Image.open(tray / "ground_truth" / folder.removeprefix("test/") / f"{number:04d}" / "000.png") as mask:
                marked = np.asarray(mask) > 0
            assert np.array_equal(marked, part.truth.mask > 0)


def test_no_part_is_in_two_folders_or_two_data_sets():
    seeds = [split.seed for seed in range(50) for split in splits(seed, 1, 1, 1)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 1_000_000  # cameras take small ones


def test_every_picture_is_of_another_batch():
    assert INDEX_STEP > BATCH


def test_pixel_values_tell_defects_apart():
    for product in PRODUCTS.values():
        values = pixel_values(product)
        assert len(set(values.values())) == len(values) == len(product.logical) + len(DEFECTS)
        assert max(values.values()) == 255


def test_the_same_arguments_give_the_same_sum_and_json_says_so(tmp_path, tray, capsys):
    parts = splits(4, 3, 2, TEST_PARTS)
    again = write_scenes("tray", tmp_path / "again", parts, 128)
    assert again.sha256 == json.loads((tray / "scenes.json").read_text())["sha256"]
    words = ["scenes", str(tmp_path / "other"), "--train", "1", "--validation", "1", "--test", "1", "--size", "128", "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert set(report["products"]) == set(PRODUCTS)
    assert [made["pictures"] for made in report["products"].values()] == [5, 5, 5]
    assert "tray: 5 of 5" in captured.err


def test_progress_reaches_the_end(tmp_path):
    seen: list[tuple[int, int]] = []
    write_scenes("vials", tmp_path / "set", splits(0, 2, 1, 1), 128, lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]


def test_a_folder_that_holds_something_is_refused(tmp_path, capsys):
    (tmp_path / "old.png").write_bytes(b"x")
    assert main(["scenes", str(tmp_path)]) == 1
    assert "expected an empty folder, found 1 entries (such as old.png)" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["old.png"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "set").write_bytes(b"")
    with pytest.raises(DataError, match="choose another one"):
        claim(tmp_path / "set")


def test_a_full_disk_is_told_with_the_remedy(tmp_path, monkeypatch):
    def refuse(path: Path, pixels: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(writer, "_save", refuse)
    with pytest.raises(
        DataError, match=r"0000\.png: cannot be written .No space left on device. after 0 of 5 pictures; make room"
    ):
        write_scenes("tray", tmp_path / "set", splits(0, 1, 1, 1), 128)


@pytest.mark.parametrize("words", [["--train", "0"], ["--size", "64"], ["--seed", "-1"], ["--product", "glass"]])
def test_impossible_arguments_are_usage_errors(tmp_path, words):
    with pytest.raises(SystemExit) as ended:
        main(["scenes", str(tmp_path / "set"), *words])
    assert ended.value.code == 2
    assert not (tmp_path / "set").exists()


def test_defects_come_in_turn():
    tray = PRODUCTS["tray"]
    names = [writer.defect_of(tray, Kind.LOGICAL, number) for number in range(2 * len(tray.logical))]
    assert names == [*tray.logical, *tray.logical]
    assert writer.defect_of(tray, Kind.GOOD, 0) is None
