"""A run from pictures to a detector: reproducible, resumable, honest about what did not work, and the pieces it is made of."""

import dataclasses
import itertools
import json

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.covariance import LedoitWolf

from edge.errors import DataError
from training import loop
from training.baselines import RandomPdn
from training.calibrate import fit_bases, fit_detector
from training.datasets import open_dataset
from training.errors import RecipeError, RunError, TeacherFileError
from training.features import FeatureStore, jitter, teacher_statistics, to_input, version_of
from training.global_head import fit_pooled, ledoit_wolf, trimmed_center_scale
from training.loop import TrainRequest, train
from training.losses import DfscKnobs
from training.networks.autoencoder import Autoencoder
from training.networks.detector import Detector, mean_square
from training.networks.pdn import Pdn, PdnSize
from training.progress import Progress
from training.recipe import FAST_STUDENT_WIDTH, FastKnobs, PaperKnobs, RunConfig, height_at, make_config
from training.run import CHECKPOINT_NAME, RECORD_NAME, WEIGHTS_NAME, load_run
from training.teacher.store import TeacherInfo, save_teacher
from training.teacher.textures import generate_texture

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six pictures to train on, four held out: textures differ enough to scale by."""
    root = tmp_path_factory.mktemp("data") / "thing"
    rng = np.random.default_rng(5)
    for part, count in (("train", 6), ("validation", 4)):
        folder = root / part / "good"
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(generate_texture(rng, 128)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_teacher(path, Pdn(PdnSize.SMALL), TeacherInfo("pdn-s", "none", 0, "", 0, 0, 0, 128, 2, 1.0, 1.0, True))
    return path


def tiny(model="efficientad-s", seed=0, **changes):
    knobs = FastKnobs(steps=2, autoencoder_steps=3, autoencoder_batch=2, student_batch=1, penalty_every=2, versions=2)
    dfsc = DfscKnobs(start=0.0, ramp=0.0) if model.startswith("dfsc") else None
    return msgspec.structs.replace(RunConfig(model, 128, seed, knobs, dfsc), **changes)


@pytest.fixture
def request_for(data, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "GENERATED_PICTURES", 4)

    def make(config, name="run", **changes):
        made = TrainRequest(open_dataset(data), config, teacher, tmp_path / name, None, CPU, progress_every_s=0.0)
        return dataclasses.replace(made, **changes)

    return make


def weights(run):
    return run.detector.state_dict()


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("model", ["efficientad-s", "dfsc-efficientad-s"])
def test_a_run_is_whole_and_loads_as_it_was(request_for, model, tmp_path):
    made = train(request_for(tiny(model)))
    read = load_run(tmp_path / "run")
    assert read.record == made.record
    assert equal(weights(read), weights(made))
    assert read.config.model == model
    assert read.record.pictures == {"train": 6, "validation": 4}
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


@pytest.mark.parametrize("knobs", [None, PaperKnobs(steps=3)])
def test_one_seed_gives_one_set_of_weights(request_for, knobs):
    config = tiny() if knobs is None else tiny(knobs=knobs)
    first, second = (train(request_for(config, name)) for name in ("a", "b"))
    other = train(request_for(msgspec.structs.replace(config, seed=1), "c"))
    assert equal(weights(first), weights(second))
    assert not torch.equal(weights(first)["student.layers.0.weight"], weights(other)["student.layers.0.weight"])


@pytest.mark.parametrize(("recipe", "stop_after"), [("fast", 1), ("fast", 3), ("fast", 4), ("noisy", 1), ("paper", 3)])
def test_a_stopped_run_goes_on_to_the_same_bits(request_for, monkeypatch, stop_after, recipe):
    config = tiny("dfsc-efficientad-s")
    if recipe == "paper":
        config = msgspec.structs.replace(config, knobs=PaperKnobs(steps=5))
    if recipe == "noisy":
        config = msgspec.structs.replace(config, knobs=msgspec.structs.replace(config.knobs, autoencoder_noise=6.0))
    whole = train(request_for(config, "whole"))
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
    assert equal(weights(whole), weights(resumed))


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


def test_dfsc_without_weight_trains_to_the_bits_of_efficientad(request_for):
    plain = train(request_for(tiny(), "plain"))
    off = DfscKnobs(weight=0.0, start=0.0)
    constrained = train(request_for(tiny("dfsc-efficientad-s", dfsc=off), "off"))
    assert equal(weights(plain), weights(constrained))


def test_a_hinge_that_never_acts_is_told_loudly(request_for, caplog):
    silent = DfscKnobs(margin=1e-9, margin_of_tau=False, start=0.0, ramp=0.0)
    made = train(request_for(tiny("dfsc-efficientad-s", dfsc=silent)))
    assert any("never acted" in warning for warning in made.record.warnings)
    assert "never acted" in caplog.text
    acting = train(request_for(tiny("dfsc-efficientad-s"), "acting"))
    assert not any("never acted" in warning for warning in acting.record.warnings)
    assert acting.record.figures["hinge_active_most"] > 0


def test_an_autoencoder_that_has_not_learnt_counts_less(request_for):
    made = train(request_for(tiny()))
    assert made.record.figures["ae_weight"] < 1
    assert made.detector.fusion[5].item() == pytest.approx(made.record.figures["ae_weight"])
    assert made.detector.fusion[6].item() == 0.0  # the global head is told, not counted, unless asked for
    assert any("auto-encoder" in warning for warning in made.record.warnings)


def test_a_finished_run_is_not_overwritten(request_for):
    train(request_for(tiny()))
    with pytest.raises(RunError, match="finished run"):
        train(request_for(tiny()))


def test_teacher_of_another_size_is_refused(request_for):
    with pytest.raises(TeacherFileError, match=r"pdn-m teacher.*pdn-s"):
        train(request_for(tiny("efficientad-m")))


def test_too_few_pictures_are_refused(request_for):
    request = request_for(tiny())
    none_held = dataclasses.replace(request.dataset, validation=[])
    with pytest.raises(DataError, match="6 and 0"):
        train(dataclasses.replace(request, dataset=none_held))


@pytest.mark.parametrize("damage", ["weights", "record", "schema", "no weights", "no run"])
def test_damaged_runs_are_refused(request_for, damage):
    out = train(request_for(tiny())).path
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


def test_untrained_networks_that_give_one_value_are_refused(teacher):
    from training.loop import make_detector

    frames = np.zeros((3, 128, 128, 3), np.uint8)
    frames[1:] += np.uint8(1)
    detector = make_detector(tiny(), teacher, np.random.default_rng(0).integers(0, 256, frames.shape, np.uint8), CPU)
    with pytest.raises(RecipeError, match="at least 2 held-out"):
        fit_detector(detector, frames, frames[:1], CPU)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"size": 130}, "multiple of 32"), ({"steps": 0}, "at least 1 step"), ({"recipe": "slow"}, "fast or paper")],
)
def test_impossible_recipes_are_refused(changes, said):
    with pytest.raises(RecipeError, match=said):
        make_config("efficientad-s", **changes)


def test_unknown_model_names_the_known_ones():
    with pytest.raises(RecipeError, match=r"dfsc-efficientad-m"):
        make_config("lgfdrr")


def test_steps_scale_both_phases():
    knobs = make_config("efficientad-s", steps=7).knobs
    whole = FastKnobs()
    assert isinstance(knobs, FastKnobs)
    assert knobs.steps == 7
    assert knobs.autoencoder_steps == pytest.approx(7 * whole.autoencoder_steps / whole.steps, abs=1)
    assert make_config("efficientad-m", recipe="paper").knobs == PaperKnobs()


def test_new_runs_have_a_narrow_student_and_runs_that_name_no_width_the_papers():
    assert make_config("dfsc-efficientad-s").student_width == FAST_STUDENT_WIDTH < 1
    assert make_config("efficientad-m", steps=7).student_width == FAST_STUDENT_WIDTH
    assert make_config("efficientad-s", changes=["student_width=1"]).student_width == 1
    assert make_config("efficientad-s", recipe="paper").student_width == 1
    older = msgspec.json.decode(b'{"recipe": "fast", "steps": 1600}', type=FastKnobs)
    assert RunConfig("efficientad-s", 128, 0, older, None).student_width == 1


def test_knobs_of_the_recipe_come_from_the_command_line():
    made = make_config("efficientad-s", steps=7, changes=["autoencoder_noise=6", "student_batch=1", "steps=9"]).knobs
    assert isinstance(made, FastKnobs)
    assert (made.steps, made.student_batch, made.autoencoder_noise) == (9, 1, 6.0)
    for wrong, message in (
        ("autoencoder_noise=-1", "autoencoder_noise: expected from 0 to 1000, got -1.0"),
        ("autoencoder_batch=1", "at least 2"),
        ("student_width=0.3", "student_width: expected above 0 and up to 1, a multiple of 0.125, got 0.3"),
        ("warmup=2", "warmup and final_rate: expected each from 0 to 1, got 2.0, 0.01"),
        ("student_adam_rate=0", "student_adam_rate: expected each above 0"),
        ("gate=se", "--knob gate=se: expected NAME=VALUE with a name of steps, "),
    ):
        with pytest.raises(RecipeError, match=message):
            make_config("efficientad-s", changes=[wrong])
    with pytest.raises(RecipeError, match="to the letter"):
        make_config("efficientad-s", recipe="paper", changes=["steps=3"])


def test_noise_on_the_code_reaches_the_autoencoder_only_while_it_learns(request_for):
    noisy = msgspec.structs.replace(tiny().knobs, autoencoder_noise=6.0)
    plain, other = train(request_for(tiny(), "plain")), train(request_for(tiny(knobs=noisy), "noisy"))
    key = "autoencoder.output.weight"
    assert not torch.equal(weights(plain)[key], weights(other)[key])
    network = Autoencoder(128).eval()
    x = torch.zeros(1, 3, 128, 128)
    assert torch.equal(network(x), network(x))
    assert not torch.equal(network(x), network(x, noise=torch.ones_like))


def test_rates_warm_up_and_fall():
    knobs = FastKnobs(warmup=0.1, final_rate=0.1)
    rates = [height_at(step, 100, knobs) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_versions_change_light_and_nothing_else():
    rng = np.random.default_rng(1)
    frame = generate_texture(rng, 64)
    kinds = [jitter(frame, np.random.default_rng(i)) for i in range(24)]
    assert len({k.tobytes() for k in kinds}) > 20
    for changed in kinds:
        assert np.corrcoef(changed.mean(2).ravel(), frame.mean(2).ravel())[0, 1] > 0.97  # nothing moved
    frames = frame[None]
    assert np.array_equal(version_of(frames, 0, 0, 9), frame)
    assert np.array_equal(version_of(frames, 0, 1, 9), version_of(frames, 0, 1, 9))
    assert not np.array_equal(version_of(frames, 0, 1, 9), version_of(frames, 0, 2, 9))


def test_store_gives_back_what_was_put_within_half_precision():
    store = FeatureStore(2, 2, 128)
    vectors = torch.randn(384, 24, 24)
    store.put(1, 0, vectors)
    torch.testing.assert_close(store.get([(1, 0)], CPU)[0], vectors, rtol=2**-10, atol=1e-4)
    assert FeatureStore.versions_within(100, 4, 128, store_mib=10_000) == 4
    assert FeatureStore.versions_within(100, 4, 256, store_mib=1000) == 2
    assert FeatureStore.versions_within(5000, 4, 256, store_mib=10) == 1


def test_teacher_statistics_are_those_of_all_vectors(teacher):
    torch.manual_seed(0)
    network = Pdn(PdnSize.SMALL).eval()
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    mean, std = teacher_statistics(network, frames, CPU)
    with torch.no_grad():
        vectors = network(to_input(frames, CPU)).double()
    torch.testing.assert_close(mean.double(), vectors.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std.double(), vectors.std((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("count", "channels"), [(30, 12), (8, 40)])
def test_shrinkage_is_scikit_learns(count, channels):
    vectors = np.random.default_rng(0).normal(size=(count, channels)) @ np.random.default_rng(1).normal(size=(channels, channels))
    reference = LedoitWolf().fit(vectors)
    covariance, shrinkage = ledoit_wolf(vectors)
    assert shrinkage == pytest.approx(reference.shrinkage_, rel=1e-6)
    np.testing.assert_allclose(covariance, reference.covariance_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit_pooled(vectors).distance(vectors) ** 2, reference.mahalanobis(vectors), rtol=1e-6)


def test_head_needs_parts_that_differ():
    with pytest.raises(RecipeError, match="got 1"):
        fit_pooled(np.zeros((1, 4)))
    with pytest.raises(RecipeError, match="same vector"):
        fit_pooled(np.ones((5, 4)))


def test_trimmed_scale_is_a_normals_deviation_and_ignores_outliers():
    values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
    center, scale = trimmed_center_scale(values)
    assert (center, scale) == pytest.approx((3.0, 2.0), abs=0.1)
    spoilt = np.concatenate([values, np.full(100, 1e6)])
    assert trimmed_center_scale(spoilt) == pytest.approx((center, scale), rel=0.05)
    assert trimmed_center_scale(np.ones(5))[1] > 0


def test_random_baseline_is_reproducible_and_sees_colour():
    rng = np.random.default_rng(0)
    good = rng.integers(90, 110, (12, 64, 64, 3)).astype(np.uint8)
    odd = good[:2].copy()
    odd[..., 0] += 60
    baseline = RandomPdn(good, seed=4)
    assert np.array_equal(baseline.score(odd), RandomPdn(good, seed=4).score(odd))
    assert baseline.score(odd).min() > baseline.score(good).max()


def test_kept_directions_are_those_the_difference_lies_in():
    frames = np.stack([generate_texture(np.random.default_rng(seed), 128) for seed in range(3)])
    torch.manual_seed(0)
    detector = Detector(PdnSize.SMALL, 128, map_directions=6).eval()
    with torch.no_grad():  # a teacher and an auto-encoder of rank 5 against a student that says nothing
        for last in (detector.teacher.layers[-1], detector.autoencoder.output):
            assert isinstance(last, torch.nn.Conv2d)
            assert last.bias is not None
            wide = last.weight.flatten(1)
            left, values, right = torch.linalg.svd(wide, full_matrices=False)
            last.weight.copy_(((left[:, :5] * values[:5]) @ right[:5]).view_as(last.weight))
            last.bias.zero_()
        for silent in detector.student.layers[-1].parameters():
            silent.zero_()
    assert mean_square(torch.ones(1, 384, 1, 1), torch.eye(384)).item() == pytest.approx(1.0)
    shares = fit_bases(detector, frames, CPU)
    assert shares["st_kept"] == pytest.approx(1.0, abs=1e-5)
    assert shares["ae_kept"] == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(detector.basis_st @ detector.basis_st.T, torch.eye(6), atol=1e-5)
    apart_st, apart_ae, _ = detector.differences(to_input(frames, CPU))
    map_st, map_ae, _ = detector.maps(to_input(frames, CPU))
    assert torch.allclose(map_st, apart_st.square().mean(1), rtol=1e-3)
    assert torch.allclose(map_ae, apart_ae.square().mean(1), rtol=1e-3)
    assert fit_bases(Detector(PdnSize.SMALL, 128), frames, CPU) == {}
    with pytest.raises(ValueError, match="from 1 to 384"):
        Detector(PdnSize.SMALL, 128, map_directions=385)
