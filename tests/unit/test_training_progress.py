"""What a training run tells: a rate that was measured, and none where there is nothing to measure yet."""

import io
import json
from types import SimpleNamespace

import pytest

from training.progress import Progress, told


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr("training.progress.time.monotonic", lambda: now.s)
    return now


def test_rate_and_time_left_are_those_of_the_phase_without_its_preparation(tmp_path, clock):
    told = io.StringIO()
    progress = Progress(tmp_path / "log.jsonl", 0, 6, every_s=0.0, stream=told)
    clock.s += 50.0  # features are computed before the first step
    for step in (1, 2, 3):
        progress.update(step, "autoencoder", 4, {"d_ta": 1.0})
        clock.s += 2.0
    lines = told.getvalue().splitlines()
    assert lines[0].endswith("| first step of this phase")
    assert lines[2].endswith("| 0.50 steps/s, 2 s left in this phase")


def test_another_phase_begins_anew(tmp_path, clock):
    told = io.StringIO()
    progress = Progress(tmp_path / "log.jsonl", 0, 6, every_s=0.0, stream=told)
    for step, phase in ((1, "autoencoder"), (2, "autoencoder"), (3, "student"), (4, "student")):
        clock.s += 8.0 if phase == "autoencoder" else 1.0
        progress.update(step, phase, 2 if phase == "autoencoder" else 6, {"loss": float(step)})
    lines = told.getvalue().splitlines()
    assert lines[2] == "student step 3/6 loss 3.0000 | first step of this phase"
    assert lines[3].endswith("| 1.00 steps/s, 2 s left in this phase")
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["steps_per_s"] for line in logged] == [0.0, 0.125, 0.0, 1.0]
    assert logged[-1]["elapsed_s"] == 18.0


def test_lines_come_when_it_is_time_and_at_the_end(tmp_path, clock):
    told = io.StringIO()
    progress = Progress(tmp_path / "log.jsonl", 0, 10, every_s=5.0, stream=told)
    for step in range(1, 11):
        clock.s += 1.0
        progress.update(step, "student", 10, {"loss": 1.0})
    assert [line.split()[2] for line in told.getvalue().splitlines()] == ["5/10", "10/10"]


def test_work_without_steps_tells_how_far_it_is_where_it_takes_long(clock):
    stream = io.StringIO()
    for _ in told(range(8), "vectors of 8 pictures", every_s=5.0, stream=stream):
        clock.s += 2.0
    assert stream.getvalue().splitlines() == ["vectors of 8 pictures: 38%, 10 s left", "vectors of 8 pictures: 75%, 4 s left"]
    quick = io.StringIO()
    assert list(told(range(3), "vectors", stream=quick)) == [0, 1, 2]
    assert quick.getvalue() == ""
