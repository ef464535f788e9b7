"""LGFDR's frozen pyramid: the package's very network, folded, and its levels where the plan says."""

import dataclasses
import math

import pytest
import torch

from tests.support.lgfdr import SIZE
from tests.support.resnets import KINDS, save_resnet
from training.errors import BackboneError
from training.lgfdr import pyramid as pyramids
from training.lgfdr.plans import plan_named, plan_of
from training.lgfdr.pretrained import backbone_in, load_pyramid
from training.lgfdr.pyramid import Pyramid, reading_matrix
from training.teacher.backbones import load_backbone

CPU = torch.device("cpu")
GRID = 32

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_pyramid_is_the_packages_network():
    ours, digest = load_pyramid("efficientnet-lite2", SIZE)
    theirs = load_backbone("efficientnet-lite2", CPU)
    x = torch.randn(1, 3, 2 * SIZE, 2 * SIZE, generator=torch.Generator().manual_seed(0))
    assert ours.plan.channels == tuple(level.channels for level in theirs.levels)
    assert ours.plan.strides_px == tuple(level.stride_px for level in theirs.levels)
    assert ours.plan.offsets_px == tuple(level.offset_px for level in theirs.levels)
    for mine, other in zip(ours.levels(x), theirs(x), strict=True):
        assert mine.shape == other.shape
        assert (mine - other).abs().max() < 1e-4 * other.abs().max()
    assert len(digest) == 64
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_a_level_lies_where_its_plan_says():
    """Only pixels of the window around a cell's middle move the cell: half the field to either side."""
    pyramid, _ = load_pyramid("efficientnet-lite2", SIZE)
    plan = plan_named("efficientnet-lite2")
    field, stride, fields = 1, 1, []
    for layer in plan.layers:
        field += (layer.kernel - 1) * stride
        stride *= layer.stride
        if layer.level:
            fields.append(field)
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for level, (stride_px, offset, width) in enumerate(zip(plan.strides_px, plan.offsets_px, fields, strict=True)):
        cell = 128 // stride_px
        (gradient,) = torch.autograd.grad(pyramid.levels(x)[level][0, :, cell, cell].sum(), x)
        touched = gradient[0].abs().sum((0, 1)).nonzero()
        middle = cell * stride_px + offset
        assert touched.min() >= math.floor(middle - width / 2)
        assert touched.max() < math.ceil(middle + width / 2)
        assert touched.max() - touched.min() > width / 2


def test_a_changed_package_is_refused(monkeypatch):
    first, *rest = plan_named("efficientnet-lite2").layers
    other = plan_of([dataclasses.replace(first, pads=(1, 1)), *rest])
    monkeypatch.setattr(pyramids, "plan_named", lambda _: other)
    with pytest.raises(BackboneError, match=r"_conv_stem.*expected .* padding \(1, 1\), got .*\(0, 1\)"):
        load_pyramid("efficientnet-lite2", SIZE)


@pytest.mark.parametrize(
    "name",
    ["resnet", "resnet-basic-0-2-2-64-64x1", "resnet-basic-2-2-2-64-128x1", "resnet-bottleneck-3-4-23-64-128x3",
     "resnet-bottleneck-3-4-23-64-99999x1", "resnet-bottleneck-99-99-99-99-998x1", "../resnet-basic-2-2-2-64-64x1"],
)  # fmt: skip
def test_a_name_that_is_no_backbones_is_refused(name):
    with pytest.raises(BackboneError, match="knows no backbone"):
        Pyramid(name, SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resnets_pyramid_is_the_teachers_backbone(kind, tmp_path):
    save_resnet(tmp_path / "w.pth", **kind)
    name = backbone_in(tmp_path / "w.pth")
    ours, digest = load_pyramid(name, SIZE, tmp_path / "w.pth")
    theirs = load_backbone("resnet", CPU, tmp_path / "w.pth")
    assert ours.plan.channels == tuple(level.channels for level in theirs.levels)
    assert ours.plan.strides_px == tuple(level.stride_px for level in theirs.levels)
    assert ours.plan.offsets_px == tuple(level.offset_px for level in theirs.levels)
    x = torch.randn(1, 3, 2 * SIZE, 2 * SIZE, generator=torch.Generator().manual_seed(0))
    for mine, other in zip(ours.levels(x), theirs(x), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    again = Pyramid(name, SIZE)  # as a run is read, without the file
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again(x[..., :SIZE, :SIZE]), ours(x[..., :SIZE, :SIZE]))
    assert digest != load_pyramid("efficientnet-lite2", SIZE)[1]


def test_names_of_the_resnets_people_have():
    for name, channels in {
        "resnet-basic-2-2-2-64-64x1": (128, 256),  # ResNet-18
        "resnet-bottleneck-3-4-23-64-128x1": (512, 1024),  # WideResNet-101-2
        "resnet-bottleneck-3-4-6-64-128x32": (512, 1024),  # ResNeXt-50 32x4d
    }.items():
        plan = plan_named(name)
        assert plan.channels == channels
        assert plan.strides_px == (8, 16)
        assert plan.offsets_px == (0.5, 0.5)


def test_weights_that_do_not_fit_the_backbone_are_refused(tmp_path):
    save_resnet(tmp_path / "w.pth", **KINDS[0])
    save_resnet(tmp_path / "wide.pth", **KINDS[2])
    name = backbone_in(tmp_path / "w.pth")
    with pytest.raises(BackboneError, match="--weights"):
        load_pyramid(name, SIZE)
    with pytest.raises(BackboneError, match=r"expected \d+ convolutions, got \d+; give the file"):
        load_pyramid(name, SIZE, tmp_path / "wide.pth")
    with pytest.raises(BackboneError, match="brings its weights"):
        load_pyramid("efficientnet-lite2", SIZE, tmp_path / "w.pth")


def test_reading_a_ramp_gives_the_cells_middles():
    for stride, offset, side in ((2.0, 1.75, 64), (4.0, 1.75, 32), (8.0, 1.75, 16)):
        matrix = reading_matrix(GRID, side, stride, offset)
        assert torch.allclose(matrix.sum(1), torch.ones(GRID))
        ramp = offset + stride * torch.arange(side)
        inside = slice(1, GRID - 2)
        wanted = 0.5 + 4 * torch.arange(GRID, dtype=torch.float32)
        assert torch.allclose((matrix @ ramp)[inside], wanted[inside], atol=1e-3 if stride > 2 else 0.3)
