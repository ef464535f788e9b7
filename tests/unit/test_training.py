"""A run from pictures to a detector: whole, reproducible, honest about what did not work; damaged ones are refused."""

import dataclasses
import json
import shutil

import msgspec
import numpy as np
import pytest
import torch

from edge.errors import DataError
from tests.support.trainings import equal, tiny, watch_parts, weights
from training.balance import Branch, balanced
from training.errors import RecipeError, RunError, TeacherFileError
from training.families import Sources
from training.loop import train
from training.losses import DfscKnobs
from training.networks.autoencoder import Autoencoder
from training.networks.pdn import Pdn, PdnSize
from training.recipe import PaperKnobs, make_config
from training.run import CHECKPOINT_NAME, RECORD_NAME, WEIGHTS_NAME, load_run
from training.teacher.store import TeacherInfo, load_teacher, save_teacher

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(ground, tmp_path_factory):
    """A finished run of EfficientAD-S, to be looked at and copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.natural_pictures.GENERATED_PICTURES", 4)
        return train(ground.request(tiny(), tmp_path_factory.mktemp("trained") / "run"))


@pytest.mark.parametrize("model", ["efficientad-s", "dfsc-efficientad-s"])
def test_a_run_is_whole_and_loads_as_it_was(request_for, model, tmp_path):
    made = train(request_for(tiny(model)))
    read = load_run(tmp_path / "run")
    assert read.record == made.record
    assert equal(weights(read), weights(made))
    assert read.config.model == model
    assert read.record.pictures == {"train": 6, "validation": 4}
    assert read.record.held_out == [f"validation/good/{i}.png" for i in range(4)]
    assert read.record.teacher.backbone == "none"
    assert len(read.record.data_sha256) == len(read.record.teacher_sha256) == 64
    frame = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    scores, map_st, map_ae = read.detector(torch.from_numpy(frame))
    assert torch.isfinite(scores).all()
    assert map_st.shape == map_ae.shape == (24, 24)
    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert {line["phase"] for line in lines} == {"autoencoder", "student"}
    assert ("hinge_active" in lines[0]) == model.startswith("dfsc")


def test_a_medium_model_is_trained_and_loads_as_it_was(request_for, tmp_path):
    torch.manual_seed(2)
    teacher = tmp_path / "medium.safetensors"
    info = TeacherInfo("pdn-m", "none", 0, "", 0, 0, 0, 128, 2, 1.0, 1.0, complete=True)
    save_teacher(teacher, Pdn(PdnSize.MEDIUM), info)
    made = train(request_for(tiny("dfsc-efficientad-m"), sources=Sources(teacher)))
    read = load_run(tmp_path / "run")
    assert equal(weights(read), weights(made))
    assert read.record.teacher.model == read.config.pdn.value == "pdn-m"
    frame = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    assert torch.isfinite(read.detector(torch.from_numpy(frame))[0]).all()


def test_a_teacher_whose_distillation_was_stopped_is_warned_of(request_for, tmp_path, trained):
    torch.manual_seed(2)
    info = TeacherInfo("pdn-s", "none", 0, "", 0, 40, 8, 128, 2, 1.0, 1.0, complete=False)
    save_teacher(tmp_path / "half.safetensors", Pdn(PdnSize.SMALL), info)
    made = train(request_for(tiny(), sources=Sources(tmp_path / "half.safetensors")))
    assert any("distillation was stopped at step 40" in warning for warning in made.record.warnings)
    assert not any("distillation" in warning for warning in trained.record.warnings)


@pytest.mark.parametrize("knobs", [None, PaperKnobs(steps=3)])
def test_training_that_diverges_is_ended_with_a_remedy(request_for, knobs):
    torch.manual_seed(2)
    teacher = Pdn(PdnSize.SMALL)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.zero_()  # vectors that never vary: nothing to normalize by
    request = request_for(tiny() if knobs is None else tiny(knobs=knobs))
    save_teacher(request.out.parent / "silent.safetensors", teacher, load_teacher(request.sources.teacher)[1])
    silent = dataclasses.replace(request, sources=Sources(request.out.parent / "silent.safetensors"))
    with pytest.raises(RecipeError, match="diverged at step 0: the loss is nan; .*" + ("rate" if knobs is None else "--teacher")):
        train(silent)


@pytest.mark.parametrize("knobs", [None, PaperKnobs(steps=3)])
def test_one_seed_gives_one_set_of_weights(request_for, trained, knobs):
    config = tiny() if knobs is None else tiny(knobs=knobs)
    first = trained if knobs is None else train(request_for(config, "a"))
    second = train(request_for(config, "b"))
    other = train(request_for(msgspec.structs.replace(config, seed=1), "c"))
    assert equal(weights(first), weights(second))
    assert not torch.equal(weights(first)["student.layers.0.weight"], weights(other)["student.layers.0.weight"])


def test_dfsc_without_weight_trains_to_the_bits_of_efficientad(request_for, trained):
    off = DfscKnobs(weight=0.0, start=0.0)
    constrained = train(request_for(tiny("dfsc-efficientad-s", dfsc=off), "off"))
    assert equal(weights(trained), weights(constrained))


def test_a_hinge_that_never_acts_is_told_loudly(request_for, caplog):
    silent = DfscKnobs(margin=1e-9, margin_of_tau=False, start=0.0, ramp=0.0)
    made = train(request_for(tiny("dfsc-efficientad-s", dfsc=silent)))
    assert any("never acted" in warning for warning in made.record.warnings)
    assert "never acted" in caplog.text
    acting = train(request_for(tiny("dfsc-efficientad-s"), "acting"))
    assert not any("never acted" in warning for warning in acting.record.warnings)
    assert acting.record.figures["hinge_active_most"] > 0


def test_an_autoencoder_that_has_not_learnt_counts_less(trained):
    figures = trained.record.figures
    assert figures["ae_weight"] < 1
    st_loud, ae_loud = balanced([Branch(0.0, 1.0, figures[f"{name}_loudness"], parts=4) for name in ("st", "ae")])
    assert trained.detector.fusion[[2, 5]].tolist() == pytest.approx([st_loud, figures["ae_weight"] * ae_loud], rel=1e-4)
    assert trained.detector.fusion[6].item() == 0.0  # the global head is told, not counted, unless asked for
    assert any("auto-encoder" in warning for warning in trained.record.warnings)


def test_a_finished_run_is_not_overwritten(ground, trained):
    before = (trained.path / WEIGHTS_NAME).read_bytes()
    with pytest.raises(RunError, match="finished run"):
        train(ground.request(tiny(), trained.path))
    assert (trained.path / WEIGHTS_NAME).read_bytes() == before


def test_teacher_of_another_size_is_refused(request_for):
    with pytest.raises(TeacherFileError, match=r"pdn-m teacher.*pdn-s"):
        train(request_for(tiny("efficientad-m")))


def test_too_few_pictures_are_refused(request_for):
    request = request_for(tiny())
    none_held = dataclasses.replace(request.dataset, validation=[])
    with pytest.raises(DataError, match="6 and 0"):
        train(dataclasses.replace(request, dataset=none_held))


@pytest.mark.parametrize("damage", ["weights", "record", "schema", "no weights", "no run"])
def test_damaged_runs_are_refused(trained, tmp_path, damage):
    out = shutil.copytree(trained.path, tmp_path / "run")
    assert load_run(out).record == trained.record
    if damage == "weights":
        (out / WEIGHTS_NAME).write_bytes((out / WEIGHTS_NAME).read_bytes()[:-7])
    elif damage == "record":
        (out / RECORD_NAME).write_bytes((out / RECORD_NAME).read_bytes()[:50])
    elif damage == "schema":
        record = json.loads((out / RECORD_NAME).read_bytes()) | {"schema": 99}
        (out / RECORD_NAME).write_text(json.dumps(record))
    elif damage == "no weights":
        (out / WEIGHTS_NAME).unlink()
    else:
        (out / RECORD_NAME).unlink()
    with pytest.raises(RunError, match=str(out)):
        load_run(out)


def test_noise_on_the_code_reaches_the_autoencoder_only_while_it_learns(request_for, trained):
    noisy = msgspec.structs.replace(tiny().knobs, autoencoder_noise=6.0)
    other = train(request_for(tiny(knobs=noisy)))
    key = "autoencoder.output.weight"
    assert not torch.equal(weights(trained)[key], weights(other)[key])
    network = Autoencoder(128).eval()
    x = torch.zeros(1, 3, 128, 128)
    assert torch.equal(network(x), network(x))
    assert not torch.equal(network(x), network(x, noise=torch.ones_like))


def test_few_parts_are_shown_as_many_and_recorded_as_few(request_for, trained, monkeypatch):
    learnt_from = watch_parts(monkeypatch)
    other = train(request_for(tiny(knobs=msgspec.structs.replace(tiny().knobs, least_parts=9))))
    assert learnt_from[0].shape == (9, 128, 128, 3)
    assert other.record.pictures == trained.record.pictures == {"train": 6, "validation": 4}
    assert not equal(weights(other), weights(trained))
    assert any("6 parts to learn from are few" in warning for warning in other.record.warnings)
    assert not any("few" in warning for warning in trained.record.warnings)


@pytest.mark.parametrize("model", ["efficientad-s", "lgfdr"])
def test_too_few_parts_held_out_are_said_before_the_training(request_for, model):
    request = request_for(make_config(model, size=128))
    few = dataclasses.replace(request.dataset, validation=request.dataset.validation[:3])
    with pytest.raises(DataError, match=r"expected at least 4 good parts held out.*got 3; add good pictures"):
        train(dataclasses.replace(request, dataset=few))
    assert not request.out.exists()
