"""The paper's recipe against Algorithm 1 of EfficientAD: its numbers, its natural pictures, and one step written out plainly."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from training.natural_pictures import natural_source
from training.networks.detector import Detector
from training.networks.pdn import PdnSize
from training.recipe import FastKnobs, PaperKnobs, RunConfig, make_config
from training.teacher.pictures import PicturePool, read_photograph
from training.teacher.textures import generate_texture
from training.trainers import PaperTrainer, paper

CPU = torch.device("cpu")
SIZE = 128


def pictures(count, seed=0, shape=(SIZE, SIZE)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape, 3), np.uint8)


def make_trainer(knobs):
    """A trainer at its first step: one picture to train on, one natural picture, a teacher whose statistics are not 0 and 1."""
    torch.manual_seed(4)
    detector = Detector(PdnSize.SMALL, SIZE)
    detector.teacher.requires_grad_(requires_grad=False)
    detector.teacher_mean.copy_(torch.linspace(-0.2, 0.3, 384))
    detector.teacher_std.copy_(torch.linspace(0.05, 0.4, 384))
    frames, natural = pictures(1), pictures(1, seed=1)[0]
    config = RunConfig("efficientad-s", SIZE, 0, knobs, None)
    return PaperTrainer(config, detector, frames, lambda _rng: natural, CPU), detector, frames[0], natural


def test_the_numbers_are_those_of_algorithm_1():
    knobs = PaperKnobs(
        steps=70_000, rate=1e-4, weight_decay=1e-5, drop_at=0.95, drop_to=0.1, hard_quantile=0.999
    )  # spelled out: a default that is changed changes what "the paper's recipe" means
    assert PaperKnobs() == knobs
    for model in ("efficientad-s", "efficientad-m"):
        config = make_config(model, recipe="paper")
        assert (config.knobs, config.size, config.student_width, config.map_directions) == (knobs, 256, 1.0, 384)


def test_the_rate_falls_after_step_66500():
    trainer, *_ = make_trainer(PaperKnobs())
    groups = []
    noted = register_optimizer_step_post_hook(
        lambda optimizer, *_: groups.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
    )
    for step in (66_499, 66_500):
        trainer.step_number = step
        trainer.step()
    noted.remove()
    assert groups == [[(1e-4, 1e-5)], [(pytest.approx(1e-5, rel=1e-12), 1e-5)]]


def normalized(picture):
    """uint8 (S, S, 3) -> (1, 3, S, S): ImageNet's mean and deviation."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return torch.tensor(((picture / 255 - mean) / std).transpose(2, 0, 1)[None], dtype=torch.float32)


def test_one_step_is_algorithm_1(monkeypatch):
    trainer, detector, image, natural = make_trainer(PaperKnobs())
    student, autoencoder = copy.deepcopy(detector.student), copy.deepcopy(detector.autoencoder)
    drawn = {}

    def jitter(frame, rng):
        drawn["light"] = (frame.astype(int) * 9 // 10).astype(np.uint8)
        return drawn["light"]

    def draw_dropout(count, generator):
        drawn["dropout"] = type(autoencoder).draw_dropout(autoencoder, count, generator)
        return drawn["dropout"]

    shapes = []
    monkeypatch.setattr(paper, "jitter", jitter)
    monkeypatch.setattr(detector.autoencoder, "draw_dropout", draw_dropout)
    for network in (detector.teacher, detector.student, detector.autoencoder):
        network.register_forward_pre_hook(lambda _network, inputs: shapes.append(tuple(inputs[0].shape)))
    trainer.step()
    assert shapes == [(1, 3, SIZE, SIZE)] * 6  # batch 1: teacher twice, student three times, auto-encoder once

    # Algorithm 1, one step, with the draws above
    I_, I_aug, P = normalized(image), normalized(drawn["light"]), normalized(natural)

    def T(x):
        return (detector.teacher(x) - detector.teacher_mean.view(1, 384, 1, 1)) / detector.teacher_std.view(1, 384, 1, 1)

    D = (T(I_) - student(I_)[:, :384]) ** 2
    L_hard = D[torch.quantile(D, 0.999) <= D].mean()
    L_ST = L_hard + (student(P)[:, :384] ** 2).mean()
    A = autoencoder(I_aug, drawn["dropout"])
    L_AE = ((T(I_aug) - A) ** 2).mean()
    L_STAE = ((A - student(I_aug)[:, 384:]) ** 2).mean()
    parameters = [*student.parameters(), *autoencoder.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    adam = torch.optim.Adam(parameters, lr=1e-4, weight_decay=1e-5)
    (L_ST + L_AE + L_STAE).backward()
    adam.step()

    ours = [*detector.student.parameters(), *detector.autoencoder.parameters()]
    furthest = max((a - b).abs().max().item() for a, b in zip(ours, parameters, strict=True))
    moved = min((a - b).abs().max().item() for a, b in zip(before, parameters, strict=True))
    assert furthest < 1e-6
    assert moved > 5e-5


def config_of(knobs):
    return RunConfig("efficientad-s", SIZE, 3, knobs, None)


@pytest.fixture
def photographs(tmp_path):
    """Two photographs of unlike proportions, one larger than the fast recipe keeps them."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, shape in enumerate([(100, 180), (1000, 800)]):
        whole = np.array(Image.fromarray(pictures(1, i, (12, 9))[0]).resize(shape[::-1], Image.Resampling.BICUBIC))
        Image.fromarray(whole).save(folder / f"{i}.png")
    return folder


def test_natural_pictures_are_the_middles_of_photographs_three_in_ten_of_them_grey(tmp_path, photographs, monkeypatch):
    monkeypatch.setattr("training.natural_pictures.GENERATED_PICTURES", 2)
    natural = natural_source(config_of(PaperKnobs()), photographs)
    expected, grey = [], []
    for path in sorted(photographs.iterdir()):
        with Image.open(path) as picture:
            middle = picture.resize((256, 256), Image.Resampling.BILINEAR).crop((64, 64, 192, 192))
        expected.append(np.asarray(middle).tobytes())
        grey.append(np.asarray(middle.convert("L").convert("RGB")).tobytes())
    drawn = [natural.draw(np.random.default_rng(i)).tobytes() for i in range(600)]
    assert set(drawn) == {*expected, *grey}  # no other place or scale, nothing mirrored, nothing generated
    assert sum(one in grey for one in drawn) / 600 == pytest.approx(0.3, abs=0.06)
    assert sum(one in (expected[0], grey[0]) for one in drawn) / 600 == pytest.approx(0.5, abs=0.07)
    assert natural.said == "2 photographs, the middle of each (Algorithm 1)"


def test_without_photographs_generated_ones_stand_in_and_the_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("training.natural_pictures.GENERATED_PICTURES", 2)
    natural = natural_source(config_of(PaperKnobs()), None)
    rng = np.random.default_rng([3, 0x55])
    generated = [Image.fromarray(generate_texture(rng, 384)).resize((256, 256), Image.Resampling.BILINEAR) for _ in range(2)]
    middles = [picture.crop((64, 64, 192, 192)) for picture in generated]
    either = {np.asarray(form).tobytes() for one in middles for form in (one, one.convert("L").convert("RGB"))}
    assert {natural.draw(np.random.default_rng(i)).tobytes() for i in range(60)} == either
    assert natural.said == "2 generated pictures in place of photographs, the middle of each (Algorithm 1)"
    assert natural.identity == "no photographs"


@pytest.mark.parametrize("given", [False, True])
def test_the_short_recipe_draws_as_it_always_did(tmp_path, photographs, monkeypatch, given):
    monkeypatch.setattr("training.natural_pictures.GENERATED_PICTURES", 2)
    natural = natural_source(config_of(FastKnobs()), photographs if given else None)
    read = [read_photograph(path) for path in sorted(photographs.iterdir())] if given else []
    pool = PicturePool(read, generated=2, generated_share=0.4, rng=np.random.default_rng([3, 0x55]))
    for i in range(20):
        expected = pool.draw(np.random.default_rng(i), SIZE, grey_chance=0.3)
        assert np.array_equal(natural.draw(np.random.default_rng(i)), expected)
    assert natural.said == ("2 photographs and 2 generated pictures" if given else "2 generated pictures, no photographs")
