"""`onbelt train` killed after a checkpoint, resumed, killed again, resumed: the weights are those of an unbroken run."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# The command itself, with a checkpoint after every step instead of every minute, and without half a minute of generated pictures.
COMMAND = """
import functools, sys
from training import loop, natural_pictures
loop.TrainRequest = functools.partial(loop.TrainRequest, checkpoint_every_s=0.0)
natural_pictures.GENERATED_PICTURES = 2
from edge.cli import main
sys.exit(main(sys.argv[1:]))
"""
KNOBS = {"autoencoder_steps": 6, "autoencoder_batch": 2, "student_batch": 1, "student_width": 0.25}


def start(data, out, *more):
    words = ["train", str(data), "--model", "efficientad-s", "--size", "128", "--steps", "6", "--threads", "1", "--out", str(out)]
    knobs = [word for name, value in KNOBS.items() for word in ("--knob", f"{name}={value}")]
    return subprocess.Popen([sys.executable, "-c", COMMAND, *words, *knobs, *more], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said


def changed(path, before):
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime_ns != before
    return False


def kill_after_a_checkpoint(process, out):
    """SIGKILL once a checkpoint was written that was not there before; returns the step it holds."""
    checkpoint = out / "checkpoint.pt"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    end = time.monotonic() + 600
    try:
        while not changed(checkpoint, before):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.002)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "run.json").exists()
    import torch

    return torch.load(checkpoint, weights_only=True)["trainer"]["step"]


@pytest.mark.timeout(1800)
def test_a_killed_training_goes_on_to_the_bits_of_an_unbroken_one(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(3)
    for part, count in (("train", 3), ("validation", 4)):
        folder = tmp_path / "thing" / part / "good"
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8)).save(folder / f"{i}.png")
    data, whole, killed = (tmp_path / name for name in ("thing", "whole", "killed"))
    finish(start(data, whole))
    first = kill_after_a_checkpoint(start(data, killed), killed)
    second = kill_after_a_checkpoint(start(data, killed, "--resume"), killed)
    assert 1 <= first < second <= 12
    finish(start(data, killed, "--resume"))
    assert (killed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert json.loads((killed / "run.json").read_bytes())["steps"] == 12
    assert not (killed / "checkpoint.pt").exists()
