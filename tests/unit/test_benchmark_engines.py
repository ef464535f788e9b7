"""The interleaved benchmark runs every configuration it names, and writes what it prints."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.bundles import make_tiny_bundle

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "engines.py"


def test_every_engine_is_timed_in_turn(tmp_path):
    bundle, _, trust_folder = make_tiny_bundle(tmp_path)
    out = tmp_path / "bench" / "engines.json"
    words = ["--bundle", bundle, "--trust", trust_folder, "--rounds", "2", "--block", "3", "--threads", "1", "2", "--out", out]
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [row["engine"].split()[0] for row in found["engines"]] == ["openvino", "openvino", "onnxruntime", "onnxruntime"]
    assert all(row["n"] == 6 and 0 < row["fastest_ms"] <= row["median_ms"] <= row["p99_ms"] for row in found["engines"])
    assert found["bundle"]["name"] == "tiny"
    for row in found["engines"]:
        assert row["engine"] in done.stdout
    assert found["date_utc"] in done.stdout


def test_a_bundle_that_cannot_be_opened_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--bundle", tmp_path / "none"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert "no such bundle" in done.stderr
    assert "Traceback" not in done.stderr
