"""The fused graph gives the detector's numbers, and Q/DQ stands where INT8 kernels need it."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from calibration.damage import damaged_frames
from edge.engine.onnx_file import check_contract
from export.certificate import auroc, certify
from export.fuse.network import fuse
from export.graph.detector import AE_DIFFERENCE, ST_DIFFERENCE, write_graph
from export.passes import Passes, Quantizer, passes_of
from export.quantize.scheme import Form
from export.run_graph import build_engine, score_all
from tests.support.detectors import random_detector
from training.networks.detector import Detector, HeadInput
from training.networks.pdn import PdnSize

SIZE = 128
DIRECTIONS = 40


def frames(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def measured() -> tuple[Detector, Passes, Quantizer]:
    """A detector, and what writes its graphs."""
    detector = random_detector(directions=DIRECTIONS)
    passes = passes_of(detector)
    good = frames(2)
    return detector, passes, passes.quantizer(np.concatenate([good, damaged_frames(good, 2, 0)]), 63)


@pytest.fixture(scope="module")
def quantized(measured) -> tuple[Detector, onnx.ModelProto, onnx.ModelProto]:
    """A detector, its float graph and its INT8 graph."""
    detector, passes, quantizer = measured
    return detector, passes.float_graph(), quantizer.graph()


@pytest.mark.parametrize(
    ("pdn", "head", "width"),
    [
        (PdnSize.SMALL, HeadInput.TEACHER, 1.0),
        (PdnSize.SMALL, HeadInput.STUDENT, 0.5),
        (PdnSize.MEDIUM, HeadInput.TEACHER, 1.0),
        (PdnSize.MEDIUM, HeadInput.STUDENT, 0.25),
    ],
)
def test_the_float_graph_gives_the_detectors_numbers(pdn, head, width):
    detector = random_detector(pdn, head=head, directions=DIRECTIONS, student_width=width)
    model = write_graph(fuse(detector))
    onnx.checker.check_model(model, full_check=True)
    frame = frames(1)
    with torch.no_grad():
        expected = [value.numpy() for value in detector(torch.from_numpy(frame))]
    got = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"frame": frame})
    for mine, theirs in zip(got, expected, strict=True):
        assert np.abs(mine - theirs).max() <= 2e-5 * np.abs(theirs).max()


def test_the_graphs_keep_the_contract_of_the_box(quantized):
    _, plain, int8 = quantized
    assert check_contract(plain.SerializeToString(), SIZE, "fp32").cells == 24
    graph = check_contract(int8.SerializeToString(), SIZE, "int8")
    assert graph.opset == 20
    assert int8.ir_version == 10
    assert 32 < graph.weight_peak <= 63


def test_both_inputs_of_every_large_convolution_are_quantized_and_symmetric(quantized):
    _, _, int8 = quantized
    made_by = {output: node for node in int8.graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    large = [n for n in int8.graph.node if n.op_type == "Conv" and n.name.split(".")[0] in {"teacher", "student", "st", "ae"}]
    assert len(large) == 8
    for node in large:
        source, weight = (made_by[name] for name in node.input[:2])
        sources = [made_by[name] for name in source.input] if source.op_type == "Concat" else [source]
        assert {one.op_type for one in [*sources, weight]} == {"DequantizeLinear"}, node.name
        assert values[node.input[2]].dtype == np.float32
    for node in int8.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            zero = values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()


def test_nothing_is_quantized_behind_the_last_convolutions(quantized):
    _, _, int8 = quantized
    last = [node for node in int8.graph.node if node.op_type == "Conv" and "difference" in node.name]
    assert len(last) == 2
    for conv in last:
        assert {node.op_type for node in int8.graph.node if conv.output[0] in node.input} == {"Mul"}


def test_int8_scores_stay_near_float_and_both_engines_agree(quantized):
    detector, _, int8 = quantized
    some = frames(3)
    with torch.no_grad():
        expected = np.stack([detector(torch.from_numpy(frame[None]))[0].numpy() for frame in some])
    rows = {}
    for backend in ("openvino", "onnxruntime"):
        with build_engine(int8, SIZE, "int8", backend, 1) as engine:
            rows[backend] = score_all(engine, some, "scoring")
    np.testing.assert_allclose(rows["onnxruntime"][:, 1:3], expected[:, 1:3], rtol=0.08, atol=0.02)
    np.testing.assert_allclose(rows["openvino"], rows["onnxruntime"], rtol=0.03, atol=0.01)


def test_forms_stand_where_they_are_asked_for_and_bring_scores_nearer_to_float(measured, quantized):
    detector, _, quantizer = measured
    assert set(quantizer.macs) == {*(f"{t}.{i}" for t in ("teacher", "student") for i in range(3)), ST_DIFFERENCE, AE_DIFFERENCE}
    forms = {ST_DIFFERENCE: Form.TWOFOLD, AE_DIFFERENCE: Form.TWOFOLD, "student.2": Form.FLOAT, "teacher.1": Form.FLOAT}
    mixed = quantizer.graph(forms)
    onnx.checker.check_model(mixed, full_check=True)
    check_contract(mixed.SerializeToString(), SIZE, "int8")
    made_by = {output: node for node in mixed.graph.node for output in node.output}
    convs = [node for node in mixed.graph.node if node.op_type == "Conv"]
    integer = {one.name.removesuffix(".linear") for one in convs if made_by[one.input[1]].op_type == "DequantizeLinear"}
    twofold = {f"{name}.{part}" for name in (ST_DIFFERENCE, AE_DIFFERENCE) for part in ("coarse", "fine")}
    assert integer == {"teacher.0", "teacher.2", "student.0", "student.1", *twofold}
    # What only a float convolution reads is not quantized; what an integer one reads besides is.
    names = {node.name for node in mixed.graph.node}
    assert not {"teacher.0.relu.q", "teacher.0.out.q", "student.1.out.q"} & names
    assert {"input.q", "teacher.hidden.q", "student.hidden.q", "ae.hidden.q"} <= names
    some = frames(2)
    with torch.no_grad():
        expected = [[one.numpy() for one in detector(torch.from_numpy(frame[None]))[1:]] for frame in some]
    apart = []  # of the maps: a largest value alone is luck
    for model in (quantized[2], mixed):
        with build_engine(model, SIZE, "int8", "openvino", 1) as engine:
            found = [engine.infer(frame) for frame in some]
        apart.append(np.mean([np.abs([one.map_st - st, one.map_ae - ae]) for one, (st, ae) in zip(found, expected, strict=True)]))
    assert apart[1] < apart[0]


def test_auroc_counts_ties_as_half():
    assert auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 0.875


def test_a_certificate_counts_flips_at_each_graphs_own_limit_and_says_why_it_refuses():
    good, bad = np.linspace(0, 0.9, 100), np.linspace(1.1, 2, 100)
    same = certify((good, bad), (2 * good, 2 * bad), (1.0, 2.0), (good, good), "fp32")
    assert (same.flips, same.deviation_max, same.auroc) == (0, 0.0, 1.0)
    assert not same.equal
    assert "1,497" in same.why_not[0]
    shifted = certify((good, bad), (good, bad - 0.5), (1.0, 1.0), (good, good), "fp32")
    assert shifted.flips > 40
    assert len(shifted.why_not) == 2
    many = np.tile(good, 20)
    assert certify((many, bad), (many, bad), (1.0, 1.0), (good, good), "fp32").equal
