"""LGFDR's graphs: float equal to the network in every switch, INT8 near it."""

import collections

import numpy as np
import onnx
import pytest
import torch

from export.lgfdr.graph import LgfdrWriter
from export.lgfdr.passes import MOST_FACTOR, LgfdrQuantizer, even_factors
from export.passes import passes_of
from export.quantize.ranges import Activation, watch_points
from export.quantize.scheme import Form
from export.run_graph import as_row, build_engine
from tests.support.detectors import pictures
from tests.support.lgfdr import SIZE, SWITCHES, off_its_defaults, random_lgfdr, small_knobs
from tests.support.resnets import KINDS, save_resnet
from training.lgfdr.pretrained import backbone_in, load_pyramid
from training.lgfdr.trainer import assemble_detector

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("switches", "size"), [*((one, SIZE) for one in SWITCHES), ({"token_cells": 6}, 192)], ids=str)
def test_the_float_graph_gives_the_detectors_numbers(switches, size):
    detector = random_lgfdr(size=size, **switches)
    model = passes_of(detector).float_graph()
    onnx.checker.check_model(model, full_check=True)
    frame = pictures(1, size, seed=3)
    scores, map_st, map_ae = detector(torch.from_numpy(frame))
    for backend in ("openvino", "onnxruntime"):
        with build_engine(model, size, "fp32", backend, threads=1) as engine:
            found = engine.infer(frame[0])
        assert as_row(found) == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-4)
        assert np.allclose(found.map_st, map_st, rtol=1e-4, atol=1e-4)
        assert np.allclose(found.map_ae, map_ae, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]], ids=["basic", "grouped"])
def test_the_graph_of_a_resnets_pyramid(kind, tmp_path):
    """Maximum, shortcuts and grouped convolutions are written, too; all but the latter and the first may be quantized."""
    save_resnet(tmp_path / "w.pth", **kind)
    knobs = small_knobs(backbone=backbone_in(tmp_path / "w.pth"), weighed_error="root")
    pyramid, _ = load_pyramid(knobs.backbone, SIZE, tmp_path / "w.pth")
    frames = pictures(5, SIZE)
    detector = off_its_defaults(assemble_detector(knobs, pyramid, 0, frames[:4], torch.device("cpu")))
    scores, map_st, map_ae = detector(torch.from_numpy(frames[4:]))
    passes = passes_of(detector)
    for backend in ("openvino", "onnxruntime"):
        with build_engine(passes.float_graph(), SIZE, "fp32", backend, threads=1) as engine:
            found = engine.infer(frames[4])
        assert as_row(found) == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-4)
        assert np.allclose(found.map_st, map_st, rtol=1e-4, atol=1e-4)
        assert np.allclose(found.map_ae, map_ae, rtol=1e-4, atol=1e-4)
    quantizer = passes.quantizer(frames[:4], 63)
    assert isinstance(quantizer, LgfdrQuantizer)
    plain = {f"pyramid.{i}" for i, layer in enumerate(pyramid.plan.layers) if layer.groups == 1 and i > 0}
    assert plain == {name for name in quantizer.readers if name.startswith("pyramid.")}
    last = len(pyramid.plan.layers) - 1  # a third stage sees a picture of 256 px as 16 x 16 cells
    sides = {name: (macs / detector_conv(detector, name).weight.numel()) ** 0.5 for name, macs in quantizer.macs.items()
             if name in plain}  # fmt: skip
    assert sides[f"pyramid.{last}"] == pytest.approx(16)
    assert {round(side) for side in sides.values()} <= {64, 32, 16}
    with build_engine(quantizer.graph(), SIZE, "int8", "onnxruntime", threads=1) as engine:
        found = engine.infer(frames[4])
    assert np.corrcoef(found.map_st.ravel(), map_st.ravel())[0, 1] > 0.99
    assert np.corrcoef(found.map_ae.ravel(), map_ae.ravel())[0, 1] > 0.99


def detector_conv(detector, name):
    """The convolution of a pyramid that the graph calls `name`."""
    return detector.pyramid.convs[int(name.removeprefix("pyramid."))]


def test_the_int8_graph_stays_near_the_float_one_and_leaves_attention_alone():
    detector = random_lgfdr()
    frames = pictures(6, SIZE)
    model = passes_of(detector).quantizer(frames[:4], 63).graph()
    onnx.checker.check_model(model, full_check=True)
    producers = {node.output[0]: node.op_type for node in model.graph.node}
    quantized = {
        node.name for node in model.graph.node if node.op_type == "Conv" and producers[node.input[0]] == "DequantizeLinear"
    }
    assert {"local.output", "global.embed", "global.unfold", "pyramid.2", "discriminator.squeeze.linear"} <= quantized
    assert not {"pyramid.0", "pyramid.1"} & quantized  # the first of three channels, and a depthwise one
    assert all(producers.get(node.input[1]) != "DequantizeLinear" for node in model.graph.node if node.op_type == "MatMul")
    scores, map_st, _ = detector(torch.from_numpy(frames[5:]))
    with build_engine(model, SIZE, "int8", "onnxruntime", threads=1) as engine:
        found = engine.infer(frames[5])
    assert as_row(found) == pytest.approx(scores.tolist(), rel=0.05, abs=0.05)
    assert np.corrcoef(found.map_st.ravel(), map_st.ravel())[0, 1] > 0.99


def test_evened_channels_change_no_float_score_and_all_use_all_integers():
    detector, frames = random_lgfdr(), pictures(4, SIZE)
    plain = LgfdrWriter(detector)
    seen = watch_points(plain.write(taps=True), plain.g.points, frames)
    factors = even_factors(seen)
    writer = LgfdrWriter(detector, factors=factors)
    evened = writer.write(taps=True)
    for point, activation in watch_points(evened, writer.g.points, frames).items():
        spoke = seen[point].peaks * MOST_FACTOR > seen[point].amax
        assert spoke.mean() > 0.5
        assert np.allclose(activation.peaks[spoke], seen[point].amax, rtol=1e-3)
        assert (activation.peaks <= seen[point].amax * 1.001).all()
    rows = []
    for model in (LgfdrWriter(detector).write(), LgfdrWriter(detector, factors=factors).write()):
        with build_engine(model, SIZE, "fp32", "onnxruntime", threads=1) as engine:
            rows.append(as_row(engine.infer(frames[0])))
    assert rows[1] == pytest.approx(rows[0], rel=1e-4, abs=1e-4)


def test_a_point_that_never_spoke_is_left_as_it_is():
    silent = Activation(np.zeros(3), np.zeros(3), np.zeros(3))
    assert even_factors({"x": silent})["x"].tolist() == [MOST_FACTOR] * 3


def quantized_in(model):
    """Names of the convolutions with integer weights, coarse and fine ones of a twofold convolution apart."""
    return {node.name.removesuffix(".weight_dq") for node in model.graph.node if node.name.endswith("weight_dq")}


def test_a_mix_gives_each_convolution_its_form():
    detector = random_lgfdr()
    frames = pictures(6, SIZE)
    quantizer = passes_of(detector).quantizer(frames[:4], 63)
    plain = quantized_in(quantizer.graph())
    assert collections.Counter(name.partition(".")[0] for name in plain) == {
        "pyramid": 17, "local": 3, "global": 4, "discriminator": 2,
    }  # fmt: skip
    assert quantizer.macs.keys() == plain
    # By hand: one 3 x 3 of 24 channels on 32 x 32 cells; [F, F - R] -> 16.
    assert quantizer.macs["local.0"] == 9 * 24 * 24 * 32**2
    assert quantizer.macs["discriminator.squeeze"] == 320 * 16 * 32**2
    mixed = quantizer.graph({"local.0": Form.FLOAT, "discriminator.hidden": Form.TWOFOLD})
    assert quantized_in(mixed) == plain - {"local.0", "discriminator.hidden"} | {
        "discriminator.hidden.coarse", "discriminator.hidden.fine",
    }  # fmt: skip


def test_what_stays_in_float_keeps_32_bits():
    detector = random_lgfdr()
    frames = pictures(6, SIZE)
    quantizer = passes_of(detector).quantizer(frames[:4], 63)
    scores, *_ = detector(torch.from_numpy(frames[5:]))
    apart = []
    for precision, forms in (("int8", None), ("fp32", dict.fromkeys(quantizer.macs, Form.FLOAT))):
        model = quantizer.graph(forms)
        assert not any(node.op_type == "Cast" and node.input[0].endswith("_fp16") for node in model.graph.node)
        with build_engine(model, SIZE, precision, "openvino", threads=1) as engine:
            apart.append(np.abs(np.subtract(as_row(engine.infer(frames[5])), scores.numpy())).max())
    assert apart[1] < 1e-4 < apart[0]
