"""Ctrl-C within a step: the step is finished and saved, or nothing is; a resumed run has the bits of an unbroken one."""

import os
import signal
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.support.trainings import make_ground
from training.loop import train
from training.recipe import FastKnobs, PaperKnobs, RunConfig
from training.run import CHECKPOINT_NAME
from training.teacher import distillation, pictures
from training.teacher.backbones import BACKBONES
from training.teacher.distill import distill
from training.teacher.distillation import DistillConfig, checkpoint_path
from training.teacher.levels import Level
from training.trainers import Interruption

CPU = torch.device("cpu")
FAST = FastKnobs(steps=2, autoencoder_steps=2, autoencoder_batch=2, student_batch=1, student_width=0.25)
PAPER = PaperKnobs(steps=3)


@pytest.fixture(autouse=True)
def _ordinary_ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, as in a terminal: a shell's background jobs ignore it. One thread makes bits repeat."""
    threads, handler = torch.get_num_threads(), signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return make_ground(tmp_path_factory.mktemp("ground"), train=3)


@pytest.fixture(autouse=True)
def _cheap_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "generate_texture", lambda rng, side: rng.integers(0, 256, (side, side, 3), np.uint8))
    monkeypatch.setattr("training.natural_pictures.GENERATED_PICTURES", 2)


@pytest.fixture
def request_for(ground, tmp_path):
    def make(knobs, name="run", **changes):
        return ground.request(
            RunConfig("efficientad-s", 128, 0, knobs, None), tmp_path / name, **{"progress_every_s": 1.0} | changes
        )

    return make


@pytest.fixture(scope="module")
def whole_runs():
    """Unbroken runs by recipe, each made once."""
    return {}


@pytest.fixture
def unbroken(request_for, whole_runs):
    def make(knobs):
        if knobs not in whole_runs:
            whole_runs[knobs] = train(request_for(knobs, "whole"))
        return whole_runs[knobs]

    return make


def press_ctrl_c(within, times=1):
    """Sends this process a real SIGINT when optimizers have moved weights for the `within`-th time; returns the hook's handle.

    The short recipe moves weights twice a step (Muon, then Adam), Algorithm 1 once.
    """
    moved = 0

    def hook(*_arguments):
        nonlocal moved
        moved += 1
        if moved == within:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    return register_optimizer_step_post_hook(hook)


def same(a, b):
    first, second = a.detector.state_dict(), b.detector.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("knobs", "within", "step"), [(FAST, 3, 2), (FAST, 8, 4), (PAPER, 2, 2)])
def test_ctrl_c_within_a_step_waits_for_its_end_and_resumes_to_the_same_bits(request_for, unbroken, knobs, within, step):
    whole = unbroken(knobs)
    pressed = press_ctrl_c(within)
    with pytest.raises(KeyboardInterrupt):
        train(request_for(knobs))
    pressed.remove()
    assert torch.load(request_for(knobs).out / CHECKPOINT_NAME, weights_only=True)["trainer"]["step"] == step
    assert same(train(request_for(knobs, resume=True)), whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_stays(request_for, unbroken):
    whole = unbroken(FAST)
    pressed = press_ctrl_c(within=5, times=2)
    with pytest.raises(KeyboardInterrupt):
        train(request_for(FAST, checkpoint_every_s=0.0))
    pressed.remove()
    assert torch.load(request_for(FAST).out / CHECKPOINT_NAME, weights_only=True)["trainer"]["step"] == 2
    assert same(train(request_for(FAST, resume=True)), whole)


class Means:
    """A backbone of one level: local means."""

    name = "means"
    levels = (Level(3, 8, 4.0, 1.0),)

    def __init__(self, device):
        self.device = device

    @torch.no_grad()
    def __call__(self, x):
        return [nn.functional.avg_pool2d(x, 8)]


@pytest.mark.parametrize(("times", "step"), [(1, 2), (2, 1)])
def test_ctrl_c_within_a_step_of_a_distillation(tmp_path, monkeypatch, times, step):
    monkeypatch.setitem(BACKBONES, "means", Means)
    for name in ("STATISTICS_CROPS", "HELD_OUT_CROPS"):
        monkeypatch.setattr(distillation, name, 8)
    config = DistillConfig(backbone="means", steps=3, batch=1, size=64, textures=2, save_every_s=0.0)
    distill(config, [], tmp_path / "whole.safetensors", CPU)
    out = tmp_path / "stopped.safetensors"
    pressed = press_ctrl_c(within=3, times=times)
    with pytest.raises(KeyboardInterrupt):
        distill(config, [], out, CPU)
    pressed.remove()
    assert torch.load(checkpoint_path(out), weights_only=True)["step"] == step
    distill(config, [], out, CPU, resume=True)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_the_last_step_leaves_a_whole_teacher(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(BACKBONES, "means", Means)
    for name in ("STATISTICS_CROPS", "HELD_OUT_CROPS"):
        monkeypatch.setattr(distillation, name, 8)
    pressed = press_ctrl_c(within=1)
    with pytest.raises(KeyboardInterrupt):
        distill(DistillConfig(backbone="means", steps=1, batch=1, size=64, textures=2), [], tmp_path / "t.safetensors", CPU)
    pressed.remove()
    assert "stopped at step 1; the teacher is whole" in capsys.readouterr().err
    assert not checkpoint_path(tmp_path / "t.safetensors").exists()


def test_only_the_main_thread_takes_the_handler_over():
    seen = []

    def elsewhere():
        with Interruption() as interruption:
            seen.append((signal.getsignal(signal.SIGINT), interruption.asked))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(signal.default_int_handler, False)]


def test_an_ignored_ctrl_c_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert not interruption.asked
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_handler_of_anothers_is_put_back():
    heard = []

    def theirs(number, _frame):
        heard.append(number)

    signal.signal(signal.SIGINT, theirs)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
    assert (interruption.asked, heard) == (True, [])
    os.kill(os.getpid(), signal.SIGINT)
    assert heard == [signal.SIGINT]
