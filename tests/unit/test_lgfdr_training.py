"""LGFDR's training: to the same bits after a stop in either phase, and something is learnt."""

import json

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.detectors import pictures
from tests.support.lgfdr import SIZE, assembled, small_knobs
from tests.support.trainings import watch_parts
from training.balance import Branch, balanced
from training.datasets import open_dataset
from training.errors import RecipeError, RunError
from training.families import Sources
from training.lgfdr.detector import LgfdrDetector
from training.lgfdr.fit import fit_lgfdr
from training.lgfdr.pretrained import load_pyramid
from training.lgfdr.trainer import LgfdrTrainer
from training.loop import TrainRequest, train
from training.progress import Progress
from training.recipe import make_config
from training.run import RECORD_NAME, load_run
from training.teacher.textures import generate_texture

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six pictures to train on, four held out."""
    root = tmp_path_factory.mktemp("data") / "thing"
    rng = np.random.default_rng(5)
    for part, count in (("train", 6), ("validation", 4)):
        folder = root / part / "good"
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(generate_texture(rng, SIZE)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def request_for(data, tmp_path, monkeypatch):
    monkeypatch.setattr("training.natural_pictures.GENERATED_PICTURES", 4)

    def make(name="run", seed=0, resume=False, **changes):
        config = msgspec.structs.replace(make_config("lgfdr", size=SIZE, seed=seed), knobs=small_knobs(**changes))
        none = Sources(tmp_path / "no-teacher")
        return TrainRequest(open_dataset(data), config, none, tmp_path / name, None, CPU, resume=resume, progress_every_s=0.0)

    return make


def equal(a, b):
    a, b = a.detector.state_dict(), b.detector.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stop", [2, 3, 4], ids=["towers", "between", "discriminator"])
def test_a_stopped_run_goes_on_to_the_same_bits_and_loads_as_it_was(request_for, monkeypatch, stop):
    whole = train(request_for("whole"))
    update = Progress.update

    def interrupt(self, step, *rest):
        update(self, step, *rest)
        if step == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(request_for("stopped"))
    monkeypatch.setattr(Progress, "update", update)
    with pytest.raises(RunError, match="another config"):
        train(request_for("stopped", seed=1, resume=True))
    resumed = train(request_for("stopped", resume=True))
    assert equal(whole, resumed)
    read = load_run(resumed.path)
    assert read.record == resumed.record
    assert equal(read, resumed)
    assert isinstance(read.detector, LgfdrDetector)
    assert read.record.teacher is None
    assert read.record.teacher_sha256 == load_pyramid("efficientnet-lite2", SIZE)[1]
    assert any("global tower leaves" in warning for warning in read.record.warnings)
    assert {"left_local", "left_global", "left_fused", "ae_weight"} <= read.record.figures.keys()


def test_towers_learn_the_parts():
    """Sixty steps on four pictures of one scene: less of the features is left than the mean would leave."""
    frames = pictures(6, SIZE)
    knobs = small_knobs(steps=60, batch=4, damage_share=0.25, mean_decay=0.9, noise=5.0, muon_rate=0.03)
    detector = assembled(knobs, frames[:4])
    trainer = LgfdrTrainer(knobs, 0, detector, frames[:4], lambda rng: generate_texture(rng, SIZE), CPU)
    while trainer.step_number < trainer.steps:
        trainer.step()
    trainer.finish()
    figures = fit_lgfdr(detector, frames[:4], frames[4:], CPU)
    assert figures["left_fused"] < 0.6
    assert figures["left_global"] < 0.7
    branches = [Branch(0.0, 1.0, figures[f"{name}_loudness"], parts=2) for name in ("st", "ae")]
    st_loud, ae_loud = balanced(branches)
    assert (detector.fusion[5] / detector.fusion[2]).item() == pytest.approx(figures["ae_weight"] * ae_loud / st_loud, rel=1e-4)
    assert detector.fusion[6] == 0  # the pooled head counts where it is asked for
    marked = frames[4].copy()
    marked[60:72, 60:72] = (255, 0, 0)
    good, bad = (detector(torch.from_numpy(frame[None])) for frame in (frames[4], marked))
    assert bad[0][0] > good[0][0]
    row, column = divmod(int(bad[1].argmax()), 24)
    assert 10 <= row <= 14
    assert 10 <= column <= 14


@pytest.mark.parametrize("muon_rate", [0.02, 0.0])
def test_muon_moves_the_global_towers_matrices_and_adamw_the_rest(muon_rate):
    """With AdamW at rest only Muon's share moves; with a Muon rate of 0 everything is AdamW's."""
    frames = pictures(3, SIZE)
    knobs = small_knobs(rate=1e-30, weight_decay=0.0, muon_rate=muon_rate)
    detector = assembled(knobs, frames)
    trainer = LgfdrTrainer(knobs, 0, detector, frames, lambda rng: generate_texture(rng, SIZE), CPU)
    before = {name: value.detach().clone() for name, value in detector.rebuilding_parts().named_parameters()}
    trainer.step()
    after = dict(detector.rebuilding_parts().named_parameters())
    moved = {name for name, value in before.items() if (after[name] - value).abs().max() > 1e-20}
    layer = ("query", "key_value", "mixed", "wide", "narrow")
    hidden = {f"whole.{name}.weight" for name in ("embed", "unfold", "hidden", *(f"layers.0.{part}" for part in layer))}
    assert moved == (hidden if muon_rate else set())


def test_few_parts_are_shown_as_many_and_recorded_as_few(request_for, monkeypatch):
    learnt_from = watch_parts(monkeypatch)
    few = train(request_for("few"))
    many = train(request_for("many", least_parts=11))
    assert [len(frames) for frames in learnt_from] == [6, 11]
    assert (learnt_from[1][:6] == learnt_from[0]).all()
    assert many.record.pictures == few.record.pictures == {"train": 6, "validation": 4}
    assert not equal(many, few)
    assert any("6 parts to learn from are few" in warning for warning in many.record.warnings)
    assert not any("learn from are few" in warning for warning in few.record.warnings)


def test_a_score_in_which_nothing_counts_is_refused(request_for):
    with pytest.raises(
        RecipeError, match=r"nothing counts in the score: the global tower leaves [\d.]+ of .*; train more steps, or take"
    ):
        train(request_for(towers="global", maps="fused", damage_share=0.0))


@pytest.mark.parametrize(
    ("knob", "value"), [("token_cells", 0), ("token_heads", 0), ("smooth_cells", 2), ("loudest_st", 10**6), ("backbone", "vgg")]
)
def test_a_record_that_describes_no_detector_is_refused_by_the_run_s_name(request_for, tmp_path, knob, value):
    run = tmp_path / "run"
    train(request_for())
    record = json.loads((run / RECORD_NAME).read_bytes())
    record["config"]["knobs"][knob] = value
    (run / RECORD_NAME).write_text(json.dumps(record))
    with pytest.raises(RunError, match=rf"run: the run is damaged or does not fit its own record: .*{knob}"):
        load_run(run)
