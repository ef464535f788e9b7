"""A distillation by two workers that torchrun starts: gradients are averaged, Ctrl-C and resuming work for all of them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from training.teacher.distillation import Distillation, DistillConfig, checkpoint_path
from training.teacher.store import load_teacher

CONFIG = DistillConfig(steps=4, batch=2, size=64, textures=4, seed=5)
WORDS = ["distill", "--steps", "4", "--batch", "2", "--size", "64", "--textures", "4", "--seed", "5"]


def torchrun(*words, workers=2, **more):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers), "-m", "edge.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def distance(a, b):
    return sum((x - y).abs().sum().item() for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The teacher of two workers."""
    out = tmp_path_factory.mktemp("workers") / "whole.safetensors"
    with torchrun(*WORDS, "--out", str(out)) as running:
        said, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    assert said.count("held-out error") == 1  # the leader alone tells
    return out


def test_two_workers_learn_from_both_halves_of_a_batch(whole):
    """One process that sees both workers' pictures in one batch learns the same; one that sees the leader's alone does not."""
    torch.set_num_threads(1)

    def by_one(ranks):
        work = Distillation(CONFIG, [], torch.device("cpu"))
        draw = work._batch  # a batch is put together of what the workers draw

        def together(pool, _rng, _count):
            rngs = [np.random.default_rng([CONFIG.seed, work.step_number, *f"step of {rank} in 2".encode()]) for rank in ranks]
            halves = [draw(pool, rng, 1) for rng in rngs]
            return tuple(torch.cat(parts) for parts in zip(*halves, strict=True))

        work._batch = together
        for _ in range(CONFIG.steps):
            work.step()
        return work.mean_teacher

    learnt, info = load_teacher(whole)
    assert (info.workers, info.steps, info.complete) == (2, 4, True)
    off, moved = distance(learnt, by_one([0, 1])), distance(learnt, by_one([0]))
    print(f"off by {off:.3f} in half precision, by {moved:.3f} where the leader's pictures are all there is")
    assert off < 0.2 * moved


def test_ctrl_c_stops_all_workers_and_they_go_on_to_the_same_teacher(whole, tmp_path):
    out = tmp_path / "stopped.safetensors"
    words = [*WORDS, "--out", str(out)]
    words[words.index("4")] = "4000"
    with torchrun(*words) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("step "):
                break
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert "stopped at step" in errors
    stopped_at = torch.load(checkpoint_path(out), weights_only=True)["step"]
    assert 10 <= stopped_at < 4000
    with torchrun(*words, "--resume") as running:
        assert running.stderr is not None
        first = next(line for line in running.stderr if line.startswith("step "))
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=120)
    assert int(first.split()[1].partition("/")[0]) > stopped_at
    with torchrun(*words, "--resume", workers=1) as running:
        _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "made with other workers: expected 1, got 2" in errors


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    words = [*WORDS, "--out", str(tmp_path / "t.safetensors")]
    words[words.index("2")] = "3"
    with torchrun(*words) as running:
        _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "--batch 3: expected a multiple of 2" in errors
