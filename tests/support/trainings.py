"""Trainings of a few steps: six textures as parts, an untrained teacher, requests and what to compare of a run."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from training import loop
from training.datasets import open_dataset
from training.families import Sources
from training.few_parts import enlarge
from training.loop import TrainRequest
from training.losses import DfscKnobs
from training.networks.pdn import Pdn, PdnSize
from training.recipe import FastKnobs, RunConfig
from training.run import Run
from training.teacher.store import TeacherInfo, save_teacher
from training.teacher.textures import generate_texture

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Ground:
    """What trainings of one test file share.

    Attributes:
        data: a data set: six pictures to train on, four held out; textures differ enough to scale by.
        teacher: a teacher's file.
    """

    data: Path
    teacher: Path

    def request(self, config: RunConfig, out: Path, **changes: Any) -> TrainRequest:
        """A training into `out` that reports every step."""
        made = TrainRequest(open_dataset(self.data), config, Sources(self.teacher), out, None, CPU, progress_every_s=0.0)
        return dataclasses.replace(made, **changes)


def make_ground(folder: Path, train: int = 6, held_out: int = 4) -> Ground:
    """Pictures and a teacher in an empty folder."""
    rng = np.random.default_rng(5)
    for part, count in (("train", train), ("validation", held_out)):
        good = folder / "thing" / part / "good"
        good.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(generate_texture(rng, 128)).save(good / f"{i}.png")
    torch.manual_seed(2)
    info = TeacherInfo("pdn-s", "none", 0, "", 0, 0, 0, 128, 2, 1.0, 1.0, complete=True)
    save_teacher(folder / "teacher.safetensors", Pdn(PdnSize.SMALL), info)
    return Ground(folder / "thing", folder / "teacher.safetensors")


def tiny(model: str = "efficientad-s", seed: int = 0, **changes: Any) -> RunConfig:
    """Three steps of an auto-encoder and two of a quarter of a student; DFSC from the first step."""
    knobs = FastKnobs(
        steps=2, autoencoder_steps=3, autoencoder_batch=2, student_batch=1, student_width=0.25, penalty_every=2, versions=2
    )
    dfsc = DfscKnobs(start=0.0, ramp=0.0) if model.startswith("dfsc") else None
    return msgspec.structs.replace(RunConfig(model, 128, seed, knobs, dfsc), **changes)


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Every number of a run's detector by name."""
    return run.detector.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two detectors agree to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def watch_parts(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The parts each training from now on learns from, in order: those given and their varied copies."""
    seen: list[np.ndarray] = []

    def watched(*given: Any) -> np.ndarray:
        seen.append(enlarge(*given))
        return seen[-1]

    monkeypatch.setattr(loop, "enlarge", watched)
    return seen
