"""The page of training speed: measured again, what was written by hand stays."""

import importlib
import sys
from pathlib import Path

import pytest

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
    assert "Four times anomalib's steps/s" in now
    assert "| student | 1.000 | 1.00 | 8.0 | 2.00 |" in now
    assert "5.000" not in now
