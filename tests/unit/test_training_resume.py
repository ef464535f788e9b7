"""A stopped training goes on to the bits of an unbroken one, and refuses to go on as another."""

import functools

import msgspec
import pytest
import torch
from PIL import Image

from tests.support.trainings import equal, tiny, weights
from training.errors import RunError
from training.loop import train
from training.progress import Progress
from training.recipe import PaperKnobs
from training.run import CHECKPOINT_NAME, load_run

pytestmark = pytest.mark.usefixtures("one_thread")


FAST = tiny("dfsc-efficientad-s")
CONFIGS = {
    "fast": FAST,
    "noisy": msgspec.structs.replace(FAST, knobs=msgspec.structs.replace(FAST.knobs, autoencoder_noise=6.0)),
    "paper": msgspec.structs.replace(FAST, knobs=PaperKnobs(steps=5)),
}


@pytest.fixture(scope="module")
def unbroken(ground, tmp_path_factory):
    """The weights of a recipe's whole training, made once."""

    @functools.cache
    def make(recipe):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.natural_pictures.GENERATED_PICTURES", 4)
            return weights(train(ground.request(CONFIGS[recipe], tmp_path_factory.mktemp("unbroken") / recipe)))

    return make


@pytest.mark.parametrize(("recipe", "stop_after"), [("fast", 1), ("fast", 3), ("fast", 4), ("noisy", 1), ("paper", 3)])
def test_a_stopped_run_goes_on_to_the_same_bits(request_for, unbroken, monkeypatch, stop_after, recipe):
    config = CONFIGS[recipe]
    update = Progress.update

    def interrupt(self, step, *rest):
        update(self, step, *rest)
        if step == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(request_for(config, "stopped"))
    monkeypatch.setattr(Progress, "update", update)
    with pytest.raises(RunError, match="--resume"):
        load_run(request_for(config, "stopped").out)
    with pytest.raises(RunError, match="unfinished"):
        train(request_for(config, "stopped"))
    resumed = train(request_for(config, "stopped", resume=True))
    assert equal(unbroken(recipe), weights(resumed))


def test_resume_refuses_another_run(request_for, monkeypatch):
    def interrupt(self, step, *rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(request_for(tiny()))
    with pytest.raises(RunError, match="another config"):
        train(request_for(tiny(seed=3), resume=True))
    with pytest.raises(RunError, match="nothing to resume"):
        train(request_for(tiny(), "elsewhere", resume=True))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_a_damaged_checkpoint_is_said_and_names_the_way_out(request_for, damage):
    request = request_for(tiny(), resume=True)
    request.out.mkdir()
    checkpoint = request.out / CHECKPOINT_NAME
    torch.save({"identity": {}, "trainer": torch.zeros(99)}, checkpoint)
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no checkpoint", "other": whole}[damage])
    with pytest.raises(RunError, match=r"checkpoint.*remove it and start without --resume") as said:
        train(request)
    assert str(checkpoint) in str(said.value)


def test_resume_refuses_other_photographs(request_for, monkeypatch, tmp_path, caplog):
    for name, value in (("some", 40), ("others", 41)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (160, 140), (value, 0, 0)).save(tmp_path / name / "1.png")
    given = {"natural": tmp_path / "some"}
    whole = train(request_for(tiny(), "whole", **given))
    update = Progress.update

    def interrupt(self, step, *rest):
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(request_for(tiny(), **given))
    monkeypatch.setattr(Progress, "update", update)
    with pytest.raises(RunError, match=r"another --natural: expected 1 photographs, sha256 \w+, got 1 photographs, sha256 \w+;"):
        train(request_for(tiny(), natural=tmp_path / "others", resume=True))
    with pytest.raises(RunError, match=r"another --natural: expected no photographs, got 1 photographs, sha256"):
        train(request_for(tiny(), resume=True))
    checkpoint = tmp_path / "run" / CHECKPOINT_NAME
    state = torch.load(checkpoint, weights_only=True)
    del state["identity"]["--natural"]  # as checkpoints were before
    torch.save(state, checkpoint)
    assert equal(weights(train(request_for(tiny(), resume=True, **given))), weights(whole))
    assert "does not say which photographs" in caplog.text
