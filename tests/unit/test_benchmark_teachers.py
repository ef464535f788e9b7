"""The memory of a network's vectors, and the table of what a teacher passes on of its backbone."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import teachers
from tests.support.trainings import make_ground
from training.baselines import MemoryBank

SIZE = 128


def grey(frames):
    """What a picture shows on each 4 px cell: a describer as plain as can be."""
    return torch.nn.functional.avg_pool2d(frames, 4)


@pytest.mark.usefixtures("one_thread")
def test_a_part_is_as_odd_as_its_oddest_patch():
    rng = np.random.default_rng(0)
    good = rng.integers(100, 110, (4, SIZE, SIZE, 3), np.uint8)
    shown = rng.integers(100, 110, (2, SIZE, SIZE, 3), np.uint8)
    shown[1, 40:48, 40:48] = 200
    same, odd = MemoryBank(grey, good).score(shown)
    assert odd > 10 * same
    known = MemoryBank(grey, np.concatenate([good, shown[1:]])).score(shown[1:])
    assert known[0] < odd / 10, "what is among the good parts is not odd"


@pytest.mark.usefixtures("one_thread")
def test_the_table_has_a_row_a_network_and_a_column_a_set(tmp_path, monkeypatch, capsys):
    ground = make_ground(tmp_path)
    for name, value in (("good", 0), ("structural_anomalies", 255)):
        folder = ground.data / "test" / name
        folder.mkdir(parents=True)
        frame = np.asarray(Image.open(ground.data / "train" / "good" / "0.png")).copy()
        frame[60:80, 60:80] |= value
        Image.fromarray(frame).save(folder / "0.png")
    monkeypatch.setattr(teachers, "load_backbone", lambda *_: None)
    monkeypatch.setattr(teachers, "backbone_vectors", lambda _: grey)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{teachers.BEGIN}\nold\n{teachers.END}\nafter\n")
    assert teachers.main([str(ground.data), "--teachers", str(ground.teacher), "--size", str(SIZE), "--report", str(page)]) == 0
    heads, _, *rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert heads == "| features | thing, structural |"
    assert [row.partition(",")[0] for row in rows] == [
        "| efficientnet-lite2 | 1.000 |",
        "| teacher.safetensors",
        "| an untrained PDN-S | 1.000 |",
    ]
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert "old" not in page.read_text()
    assert "teacher.safetensors, sha256" in capsys.readouterr().out
