"""Fixtures of unit tests: trainings of a few steps."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the box's tests run without torch
    from collections.abc import Callable

    from tests.support.trainings import Ground
    from training.loop import TrainRequest


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> "Ground":
    """Pictures and a teacher, shared by the tests of one file."""
    from tests.support.trainings import make_ground

    return make_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture
def request_for(ground: "Ground", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Callable[..., TrainRequest]":
    """Makes the request of a training into a folder of this test."""

    monkeypatch.setattr("training.natural_pictures.GENERATED_PICTURES", 4)
    return lambda config, name="run", **changes: ground.request(config, tmp_path / name, **changes)
