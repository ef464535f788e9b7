"""The page of training speed: measured again, what was written by hand stays."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support.bundles import good_frame

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "training-speed.md"
NAMES = ("anomalib's", "channels last", "auto-encoder", "student")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.training_speed")


def test_a_new_measurement_leaves_what_was_written_by_hand(script, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    before = PAGE.read_text()
    page.write_text(before)
    monkeypatch.setattr(script, "make_settings", lambda _size: dict.fromkeys(NAMES, (None, 2)))
    for seconds in (40.0, 8.0):
        monkeypatch.setattr(script, "measure", lambda *_, s=seconds: dict(zip(NAMES, (s, s, s / 2, s / 8), strict=True)))
        monkeypatch.setattr(sys, "argv", ["training_speed.py", "--report", str(page)])
        assert script.main() == 0
        assert f"| student | {seconds / 8:.3f} |" in capsys.readouterr().out
    now = page.read_text()
    head, rest = before.split(script.BEGIN)
    assert now.startswith(head + script.BEGIN)
    assert now.endswith(script.END + rest.split(script.END)[1])
    assert "| student | 1.000 | 1.00 | 8.0 | 2.00 |" in now
    assert "5.000" not in now


def test_the_paper_s_step_is_computed_in_the_memory_format_that_its_row_names(script):
    settings = script.make_settings(128)
    formats = []
    for trainer, _ in list(settings.values())[:2]:
        seen: list[bool] = []
        for network in (trainer._detector.teacher, trainer._detector.student, trainer._detector.autoencoder):
            first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
            first.register_forward_hook(lambda _module, _args, out, seen=seen: seen.append(out.is_contiguous()))
        trainer.step()
        formats.append(seen)
    # Of the teacher two calls, of the student three, of the auto-encoder one.
    assert formats == [[True] * 6, [False] * 6]


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # torch.compile's own import
def test_what_was_tried_starts_from_one_state_and_computes_nearly_the_same(script, tmp_path):
    for i in range(2):
        Image.fromarray(good_frame(128, seed=i)).save(tmp_path / f"{i}.png")
    settings = script.make_tried(tmp_path, 128)
    assert list(settings) == ["as it is", "bf16 autocast", "torch.compile", "both"]
    trainers = [trainer for trainer, _ in settings.values()]
    assert len({trainer.step_number for trainer in trainers}) == 1
    students = [script.student_of(trainer) for trainer in trainers]
    first, *others = ([weight.detach() for weight in student.parameters()] for student in students)
    for weights in others:
        assert all(torch.equal(a, b) and a is not b for a, b in zip(first, weights, strict=True))
    x = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        plain, cast = (student.forward(x) for student in students[:2])
    assert cast.dtype == torch.float32
    assert 0 < float((plain - cast).abs().max() / plain.abs().max()) < 0.05
    # Compiled are the last two, and each trains a student of its own.
    assert [student._compiled_call_impl is not None for student in students] == [False, False, True, True]


def test_a_folder_without_pictures_is_named(script, tmp_path):
    with pytest.raises(SystemExit, match="found no"):
        script.make_tried(tmp_path, 128)


def test_the_table_of_what_was_tried_has_shares_of_the_step_as_it_is(script):
    text = script.report_tried({"as it is": 2.0, "bf16 autocast": 50.0, "torch.compile": 1.9}, "command")
    assert "| as it is | 2.000 | 1.00 |" in text
    assert "| bf16 autocast | 50.000 | 25.00 |" in text
    assert "| torch.compile | 1.900 | 0.95 |" in text
