"""LGFDR: pretrained pyramid, towers, gates, noise, switches; training to the same bits after a stop; graph equal to network."""

import dataclasses
import math

import msgspec
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from export.passes import passes_of
from export.run_graph import as_row, build_engine
from tests.support.detectors import pictures
from tests.support.lgfdr import SIZE, random_lgfdr, small_knobs
from training import loop
from training.balance import Branch, balanced
from training.datasets import open_dataset
from training.errors import BackboneError, RecipeError, RunError
from training.feature_noise import feature_noise
from training.knobs import with_changes
from training.lgfdr import pyramid as pyramids
from training.lgfdr.detector import LgfdrDetector, fold_rim
from training.lgfdr.fit import fit_lgfdr
from training.lgfdr.gates import EcaGate, SeGate, SelectiveHead, SimamGate, make_gate
from training.lgfdr.knobs import GATES, LgfdrKnobs, check_knobs
from training.lgfdr.losses import rebuild_loss
from training.lgfdr.pyramid import PLANS, Pyramid, load_pyramid, plan_of, reading_matrix
from training.lgfdr.trainer import LgfdrTrainer, assemble_detector
from training.loop import TrainRequest, train
from training.progress import Progress
from training.recipe import make_config
from training.run import load_run
from training.teacher.backbones import load_backbone
from training.teacher.textures import generate_texture

CPU = torch.device("cpu")
CHANNELS, GRID = 160, 32
SWITCHES = [
    {}, {"maps": "fused"}, {"gate": "mean"}, {"gate": "se"}, {"gate": "eca"}, {"gate": "simam"},
    {"maps": "towers", "smooth_cells": 1},
    {"towers": "local"}, {"towers": "global"}, {"towers": "global", "maps": "fused"}, {"token_blind": -1},
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_pyramid_is_the_packages_network():
    ours, digest = load_pyramid("efficientnet-lite2", SIZE)
    theirs = load_backbone("efficientnet-lite2", CPU)
    x = torch.randn(1, 3, 2 * SIZE, 2 * SIZE, generator=torch.Generator().manual_seed(0))
    # The middle level is another place of the same network (block 6 before and after its last convolution).
    for mine, other in list(zip(ours.levels(x), theirs(x), strict=True))[::2]:
        assert mine.shape == other.shape
        assert (mine - other).abs().max() < 1e-4 * other.abs().max()
    assert len(digest) == 64
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_a_level_lies_where_its_plan_says():
    """Only pixels of the window around a cell's middle move the cell: half the field to either side."""
    pyramid, _ = load_pyramid("efficientnet-lite2", SIZE)
    plan = PLANS["efficientnet-lite2"]
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
    first, *rest = PLANS["efficientnet-lite2"].layers
    other = plan_of([dataclasses.replace(first, pads=(1, 1)), *rest])
    monkeypatch.setitem(pyramids.PLANS, "efficientnet-lite2", other)
    with pytest.raises(BackboneError, match=r"_conv_stem.*expected .* padding \(1, 1\), got .*\(0, 1\)"):
        load_pyramid("efficientnet-lite2", SIZE)
    with pytest.raises(BackboneError, match="knows no backbone"):
        Pyramid("resnet", SIZE)


def test_reading_a_ramp_gives_the_cells_middles():
    for stride, offset, side in ((2.0, 1.75, 64), (4.0, 1.75, 32), (8.0, 1.75, 16)):
        matrix = reading_matrix(GRID, side, stride, offset)
        assert torch.allclose(matrix.sum(1), torch.ones(GRID))
        ramp = offset + stride * torch.arange(side)
        inside = slice(1, GRID - 2)
        wanted = 0.5 + 4 * torch.arange(GRID, dtype=torch.float32)
        assert torch.allclose((matrix @ ramp)[inside], wanted[inside], atol=1e-3 if stride > 2 else 0.3)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_gives_the_contracts_shapes(switches):
    detector = random_lgfdr(**switches)
    frame = torch.from_numpy(pictures(1, SIZE))
    scores, map_st, map_ae = detector(frame)
    assert scores.shape == (4,)
    assert map_st.shape == map_ae.shape == (24, 24)
    assert torch.isfinite(scores).all()
    assert scores[1] == map_st.max()
    assert scores[2] == map_ae.max()
    assert (map_st == 0).all() == (not detector.knobs.has_structural)
    assert (map_ae == 0).all() == (switches.get("towers") == "local")


def test_the_fused_map_is_not_the_local_towers():
    frame = torch.from_numpy(pictures(1, SIZE))
    fused, towers = random_lgfdr(maps="fused")(frame), random_lgfdr(maps="towers")(frame)
    assert not torch.allclose(fused[1], towers[1])
    assert torch.equal(fused[2], towers[2])


def test_the_rim_takes_what_lies_beyond_it():
    grid = torch.zeros(1, GRID, GRID)
    grid[0, 1, 20], grid[0, 31, 31], grid[0, 4, 5] = 3.0, 5.0, 2.0
    folded = fold_rim(grid)
    assert folded.shape == (1, 24, 24)
    assert folded[0, 0, 16] == 3
    assert folded[0, 23, 23] == 5
    assert folded[0, 0, 1] == 2
    assert folded.sum() == 10


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_gradients_reach_every_trained_number_and_nothing_else(switches):
    detector = assemble_detector(small_knobs(**switches), SIZE, 0, pictures(2, SIZE), CPU)
    features = torch.randn(2, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0))
    rebuild_loss(features, detector.rebuild(features), 1.0).total.backward()
    silent = [name for name, p in detector.rebuilding_parts().named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    assert all(p.grad is None for p in detector.pyramid.parameters())


def test_global_tower_sees_the_whole_picture_and_local_tower_does_not():
    detector = random_lgfdr()
    features = torch.randn(1, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0))
    other = features.clone()
    other[..., :4, :4] += 3.0
    far = (..., slice(16, None), slice(16, None))
    before, after = detector.rebuild(features), detector.rebuild(other)
    assert torch.equal(before["local"][far], after["local"][far])
    assert not torch.allclose(before["global"][far], after["global"][far], atol=1e-5)


def test_global_tower_is_blind_to_what_it_rebuilds():
    for blind, seen in ((1, False), (0, False), (-1, True)):
        detector = random_lgfdr(token_blind=blind)
        features = torch.randn(1, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0))
        other = features.clone()
        own = (..., slice(9, 11), slice(13, 15))  # inside token (2, 3), away from its edge, over which the last 3 x 3 looks
        other[..., 8:12, 12:16] += 3.0
        before, after = (detector.rebuild(one)["global"] for one in (features, other))
        assert torch.allclose(before[own], after[own], atol=1e-5) != seen
        assert not torch.allclose(before[..., 24:, 24:], after[..., 24:, 24:], atol=1e-5)


def test_gates_follow_their_formulas():
    generator = torch.Generator().manual_seed(0)
    local, whole = torch.randn(2, 2, 16, 6, 6, generator=generator)
    both = local + whole
    head = SelectiveHead(16)
    torch.nn.init.normal_(head.branches.weight, generator=generator)
    w_l, w_g = head.weights(local, whole)
    assert torch.allclose(w_l + w_g, torch.ones_like(w_l))
    assert w_l.std() > 0.05
    assert torch.allclose(head(local, whole), w_l[..., None, None] * local + w_g[..., None, None] * whole)
    for gate in (SeGate(16), EcaGate(16)):
        ratio = gate(local, whole) / both
        assert torch.allclose(ratio, ratio[..., :1, :1].expand_as(ratio), atol=1e-4)
        assert (ratio[..., 0, 0] > 0).all()
        assert (ratio[..., 0, 0] < 1).all()
    energy = (both - both.mean((2, 3), keepdim=True)).square() / (4 * (both.var((2, 3), keepdim=True) + 1e-4))
    assert torch.allclose(SimamGate()(local, whole), torch.sigmoid(energy) * both, atol=1e-6)
    assert make_gate("mean", 16) is None


def test_noise_follows_the_length_of_a_cells_vector():
    features = torch.ones(1, CHANNELS, GRID, GRID)
    features[..., 16:, :] = 3.0
    noise = feature_noise(features, 20.0, torch.Generator().manual_seed(0))
    # |f| = sqrt(160) and thrice that
    assert noise[..., :16, :].std() == pytest.approx(20 / math.sqrt(160), rel=0.01)
    assert noise[..., 16:, :].std() == pytest.approx(60 / math.sqrt(160), rel=0.01)
    assert torch.equal(noise, feature_noise(features, 20.0, torch.Generator().manual_seed(0)))


def test_the_loss_counts_every_reconstruction():
    target = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    square = target.square().mean()
    assert rebuild_loss(target, {"local": target}, 1.0).total.item() == pytest.approx(0, abs=1e-6)
    one = rebuild_loss(target, {"local": -target}, 1.0)
    assert one.total.item() == pytest.approx(4 * square.item() + 2, rel=1e-5)
    two = rebuild_loss(target, {"local": -target, "fused": torch.zeros_like(target)}, 0.0)
    assert two.total.item() == pytest.approx(5 * square.item(), rel=1e-5)
    assert two.distances["d_fused"] == pytest.approx(square.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate": "sum"}, "gate: expected one of srh"), ({"towers": "none"}, "towers"), ({"token_cells": 5}, "divisor of 32"),
        ({"token_width": 30, "token_heads": 4}, "multiple of token_heads"), ({"smooth_cells": 2}, "odd"),
        ({"noise": -1.0}, "noise"), ({"discriminator_steps": 0}, "maps=fused"),
        ({"damage_versions": 0, "damage_pictures": 0}, "for the discriminator to learn from"),
        ({"damage_share": 2.0}, "damage_share"), ({"rate": 0.0}, "rate"), ({"steps": 0}, "steps"),
    ],
)  # fmt: skip
def test_knobs_out_of_range_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        check_knobs(LgfdrKnobs(**changes), SIZE)


def test_knobs_come_from_the_command_line():
    made = with_changes(LgfdrKnobs(), ["noise=0", "gate=se", "pooled_head=true", "steps=7"])
    assert (made.noise, made.gate, made.pooled_head, made.steps) == (0.0, "se", True, 7)
    for wrong in ("nose=1", "noise", "noise=much"):
        with pytest.raises(RecipeError, match="--knob"):
            with_changes(LgfdrKnobs(), [wrong])
    with pytest.raises(RecipeError, match="one recipe"):
        make_config("lgfdr", size=SIZE, recipe="paper")
    assert {*GATES} == {"srh", "mean", "se", "eca", "simam"}


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
    monkeypatch.setattr(loop, "GENERATED_PICTURES", 4)

    def make(name="run", seed=0, resume=False, **changes):
        config = msgspec.structs.replace(make_config("lgfdr", size=SIZE, seed=seed), knobs=small_knobs(**changes))
        none = tmp_path / "no-teacher"
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
    knobs = small_knobs(steps=60, batch=4, damage_share=0.25, mean_decay=0.9, noise=5.0)
    detector = assemble_detector(knobs, SIZE, 0, frames[:4], CPU)
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


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_the_float_graph_gives_the_detectors_numbers(switches):
    detector = random_lgfdr(**switches)
    model = passes_of(detector).float_graph()
    onnx.checker.check_model(model, full_check=True)
    frame = pictures(1, SIZE, seed=3)
    scores, map_st, map_ae = detector(torch.from_numpy(frame))
    for backend in ("openvino", "onnxruntime"):
        with build_engine(model, SIZE, "fp32", backend, threads=1) as engine:
            found = engine.infer(frame[0])
        assert as_row(found) == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-4)
        assert np.allclose(found.map_st, map_st, rtol=1e-4, atol=1e-4)
        assert np.allclose(found.map_ae, map_ae, rtol=1e-4, atol=1e-4)


def test_the_int8_graph_stays_near_the_float_one_and_leaves_attention_alone():
    detector = random_lgfdr()
    frames = pictures(6, SIZE)
    model = passes_of(detector).quantizer(frames[:4], 63).graph()
    onnx.checker.check_model(model, full_check=True)
    producers = {node.output[0]: node.op_type for node in model.graph.node}
    quantized = {
        node.name for node in model.graph.node if node.op_type == "Conv" and producers[node.input[0]] == "DequantizeLinear"
    }
    assert {"local.output", "global.embed", "global.unfold", "pyramid.2"} <= quantized
    assert not {"pyramid.0", "pyramid.1"} & quantized  # the first of three channels, and a depthwise one
    assert all(producers.get(node.input[1]) != "DequantizeLinear" for node in model.graph.node if node.op_type == "MatMul")
    scores, map_st, _ = detector(torch.from_numpy(frames[5:]))
    with build_engine(model, SIZE, "int8", "onnxruntime", threads=1) as engine:
        found = engine.infer(frames[5])
    assert as_row(found) == pytest.approx(scores.tolist(), rel=0.05, abs=0.05)
    assert np.corrcoef(found.map_st.ravel(), map_st.ravel())[0, 1] > 0.99
