"""The networks: the paper's sizes and costs, padding, and the fused detector's contract."""

import numpy as np
import pytest
import torch
from torch import nn

from training.networks.autoencoder import Autoencoder, decoder_sides
from training.networks.detector import Detector, Fusion, HeadInput, fuse
from training.networks.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize_frames
from training.networks.pdn import BORDER_CELLS, Pdn, PdnSize, grid_side
from training.recipe import FAST_STUDENT_WIDTH


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def multiply_accumulates(network, size):
    """Counts a network's convolutions on the meta device: shapes without arithmetic."""
    total = 0

    def count(module, _, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    network = network.to("meta")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.empty(1, 3, size, size, device="meta"))
    return total


@pytest.mark.parametrize(
    ("size", "teacher", "student", "whole"),
    [(PdnSize.SMALL, 2_694_144, 4_267_392, 8_057_856), (PdnSize.MEDIUM, 8_026_624, 11_615_488, 20_738_432)],
)
def test_parameters_are_the_papers(size, teacher, student, whole):
    detector = Detector(size, 256)
    assert parameters(detector.teacher) == teacher
    assert parameters(detector.student) == student
    assert parameters(detector.autoencoder) == 1_096_320
    assert parameters(detector) == whole


@pytest.mark.parametrize(("size", "gmac"), [(PdnSize.SMALL, 37.947), (PdnSize.MEDIUM, 117.705)])
def test_cost_at_256_px_is_the_papers(size, gmac):
    parts = (Pdn(size, 384), Pdn(size, 768), Autoencoder(256))
    assert sum(multiply_accumulates(part, 256) for part in parts) / 1e9 == pytest.approx(gmac, abs=5e-4)


def test_cost_at_128_px_is_that_of_the_shipped_models():
    student = Pdn(PdnSize.SMALL, 768, width=FAST_STUDENT_WIDTH)
    parts = (Pdn(PdnSize.SMALL, 384), student, Autoencoder(128))
    assert sum(multiply_accumulates(part, 128) for part in parts) / 1e9 == pytest.approx(5.321, abs=5e-4)
    assert parameters(Detector(PdnSize.SMALL, 256, student_width=FAST_STUDENT_WIDTH)) == 5_646_016


@pytest.mark.parametrize("size", list(PdnSize))
def test_a_narrow_student_has_a_part_of_the_hidden_channels_and_all_of_the_output(size):
    narrow, full = Pdn(size, 768, width=0.5), Pdn(size, 768)
    hidden = [module.out_channels for module in narrow.modules() if isinstance(module, nn.Conv2d)]
    wanted = [module.out_channels for module in full.modules() if isinstance(module, nn.Conv2d)]
    assert [channels if channels == 768 else 2 * channels for channels in hidden] == wanted
    assert narrow(torch.zeros(1, 3, 64, 64)).shape == full(torch.zeros(1, 3, 64, 64)).shape


@pytest.mark.parametrize("width", [0.0, 0.3, 1.125, -0.5, float("nan")])
def test_a_width_that_no_layer_can_have_is_refused(width):
    with pytest.raises(ValueError, match=r"expected a width above 0 and up to 1, a multiple of 0\.125"):
        Pdn(PdnSize.SMALL, width=width)


@pytest.mark.parametrize("size", list(PdnSize))
def test_padding_moves_the_grid_by_four_cells_and_changes_nothing_else(size):
    torch.manual_seed(0)
    plain, padded = Pdn(size, 8), Pdn(size, 8, padding=True)
    padded.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        small, large = plain(x), padded(x)
    assert small.shape[-1] == grid_side(128) == 24
    assert large.shape[-1] == grid_side(128, padding=True) == 32
    inner = large[..., BORDER_CELLS:-BORDER_CELLS, BORDER_CELLS:-BORDER_CELLS]
    torch.testing.assert_close(inner, small, rtol=1e-4, atol=1e-5)


def test_a_cell_sees_33_px_and_no_more():
    network = Pdn(PdnSize.SMALL, 4)
    x = torch.randn(1, 3, 128, 128, requires_grad=True)
    network(x)[0, :, 10, 7].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    columns = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (40, 72)
    assert (columns.min().item(), columns.max().item()) == (28, 60)


def test_autoencoder_at_256_px_has_the_papers_sizes():
    assert decoder_sides(256) == (3, 8, 15, 32, 63, 127)
    assert Autoencoder(256).encoder[-1].kernel_size == (8, 8)


@pytest.mark.parametrize("size", [128, 160, 192, 224, 256, 320, 512])
def test_autoencoder_covers_its_input_and_meets_the_grid(size):
    network = Autoencoder(size).to("meta")
    x = torch.empty(1, 3, size, size, device="meta")
    assert network.encoder(x).shape == (1, 64, 1, 1)
    assert network(x).shape == (1, 384, grid_side(size), grid_side(size))


@pytest.mark.parametrize("size", [96, 130, 544])
def test_autoencoder_refuses_other_sides(size):
    with pytest.raises(ValueError, match=r"multiple of 32; got"):
        Autoencoder(size)


def test_dropout_is_drawn_by_the_caller():
    network = Autoencoder(128)
    x = torch.randn(2, 3, 128, 128)
    masks = network.draw_dropout(2, torch.Generator().manual_seed(3))
    again = network.draw_dropout(2, torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(masks, again, strict=True))
    kept = torch.cat([m.flatten() for m in masks])
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert (kept > 0).float().mean().item() == pytest.approx(0.8, abs=0.01)
    with torch.no_grad():
        assert not torch.equal(network(x, masks), network(x))
        assert torch.equal(network(x), network(x))


def test_normalization_is_imagenets():
    frame = np.zeros((1, 2, 2, 3), np.uint8)
    frame[..., 1] = 255
    out = normalize_frames(torch.from_numpy(frame))
    expected = [(v - m) / s for v, m, s in zip((0.0, 1.0, 0.0), IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    assert out[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def detector():
    torch.manual_seed(1)
    made = Detector(PdnSize.SMALL, 128, HeadInput.TEACHER).eval()
    made.teacher_mean.uniform_(-0.1, 0.1)
    made.teacher_std.uniform_(0.05, 0.2)
    made.q_st.copy_(torch.tensor([0.5, 1.5]))
    made.q_ae.copy_(torch.tensor([0.2, 0.9]))
    made.head_mean.uniform_(-0.1, 0.1)
    root = torch.randn(384, 384) / 20
    made.head_precision.copy_(root @ root.T)
    made.head_z.copy_(torch.tensor([3.0, 2.0]))
    made.fusion.copy_(torch.tensor([0.2, 0.1, 1.0, 0.3, 0.2, 0.5, 1.0]))
    return made


@torch.no_grad()
def test_detector_gives_what_its_docstring_says(detector):
    frame = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    scores, map_st, map_ae = detector(torch.from_numpy(frame))
    assert scores.shape == (4,)
    assert scores.dtype == torch.float32
    assert map_st.shape == map_ae.shape == (24, 24)
    x = normalize_frames(torch.from_numpy(frame))
    t = ((detector.teacher(x) - detector.teacher_mean[:, None, None]) / detector.teacher_std[:, None, None])[0].double().numpy()
    s, a = detector.student(x)[0].double().numpy(), detector.autoencoder(x)[0].double().numpy()
    st = 0.1 * (((t - s[:384]) ** 2).mean(0) - 0.5) / (1.5 - 0.5)
    ae = 0.1 * (((a - s[384:]) ** 2).mean(0) - 0.2) / (0.9 - 0.2)
    apart = t.mean((1, 2)) - detector.head_mean.double().numpy()
    z = (np.sqrt(apart @ detector.head_precision.double().numpy() @ apart) - 3.0) / 2.0
    np.testing.assert_allclose(map_st.numpy(), st, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(map_ae.numpy(), ae, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores[1:].numpy(), [st.max(), ae.max(), z], rtol=1e-3, atol=1e-4)
    assert scores[0].item() == pytest.approx(fuse(scores[1:2], scores[2:3], scores[3:4], detector.fusion).item(), rel=1e-5)


def test_fusion_rises_with_every_branch_that_has_weight():
    constants = torch.tensor([0.2, 0.1, 1.0, 0.3, 0.2, 0.0, 1.0])
    base = fuse(torch.tensor([0.2]), torch.tensor([0.3]), torch.tensor([0.0]), constants)
    assert fuse(torch.tensor([0.9]), torch.tensor([0.3]), torch.tensor([0.0]), constants) > base
    assert fuse(torch.tensor([0.2]), torch.tensor([0.3]), torch.tensor([5.0]), constants) > base
    assert fuse(torch.tensor([0.2]), torch.tensor([9.0]), torch.tensor([0.0]), constants) == base
    assert base > 0


def test_fusion_constants_lie_in_the_order_of_the_fields():
    assert list(Fusion.__dataclass_fields__) == [
        "st_center", "st_scale", "st_weight", "ae_center", "ae_scale", "ae_weight", "global_weight",
    ]  # fmt: skip
    defaults = [getattr(Fusion(), name) for name in Fusion.__dataclass_fields__]
    assert Detector(PdnSize.SMALL, 128).fusion.tolist() == defaults
