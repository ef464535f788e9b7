"""The guard before the engines: whatever an ONNX file could make an engine do besides arithmetic is refused unseen by it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.reader import open_bundle
from edge.engine import open_engine, registry
from edge.engine.onnx_file import Graph, check_contract
from edge.errors import BundleError
from tests.support.bundles import SIZE, make_tiny_bundle, tiny_model
from tests.support.conv_models import pdn_model

TINY = tiny_model().SerializeToString()


def edited(change: Callable[[Any], object]) -> bytes:
    model = tiny_model()
    change(model)
    return bytes(model.SerializeToString())


def assert_refused(model: bytes, message: str, size: int = SIZE, precision: str = "fp32") -> None:
    with pytest.raises(BundleError, match=message) as caught:
        check_contract(model, size, precision)
    assert caught.value.member == "model.onnx"
    assert str(caught.value).startswith("model.onnx: ")


def test_the_contract_is_read_from_the_file():
    assert check_contract(TINY, SIZE, "fp32") == Graph(SIZE, 8, "fp32", 20, 0)
    assert check_contract(pdn_model(), SIZE, "fp16").precision == "fp16"
    for peak in (63, 127):
        assert check_contract(pdn_model(int8=True, weight_peak=peak), SIZE, "int8").weight_peak == peak


def external(model: onnx.ModelProto, index: int = 0) -> None:
    tensor = model.graph.initializer[index]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret.bin"


def external_without_location(model: Any) -> None:
    external(model)
    model.graph.initializer[0].ClearField("external_data")


def external_in_attribute(model: Any) -> None:
    tensor = TensorProto(name="inside", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def external_in_attribute_list(model: Any) -> None:
    node = model.graph.node.add(op_type="Constant", output=["unused"])
    attribute = node.attribute.add(name="x", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(TensorProto(data_location=TensorProto.EXTERNAL))


def branch(model: Any) -> None:
    inner = helper.make_graph([], "then", [], [])
    model.graph.node.append(helper.make_node("If", ["raw"], ["unused"], then_branch=inner, else_branch=inner))


def graphs_attribute(model: Any) -> None:
    node = model.graph.node.add(op_type="Odd", output=["unused"])
    node.attribute.add(name="x", type=onnx.AttributeProto.GRAPHS).graphs.append(helper.make_graph([], "g", [], []))


def sparse(model: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [4]))


def sparse_attribute(model: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    inner = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [4])
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], sparse_value=inner))


def function(model: Any) -> None:
    model.functions.append(helper.make_function("", "F", ["x"], ["y"], [], [helper.make_opsetid("", 20)]))


def training(model: Any) -> None:
    model.training_info.add()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "external data in tensor 'axes'|external data in tensor"), (external_without_location, "external data"),
        (external_in_attribute, "external data in tensor 'inside'"), (external_in_attribute_list, "external data"),
        (branch, "no control flow .* inside If"), (graphs_attribute, "no control flow"), (sparse, "sparse initializer"),
        (sparse_attribute, "sparse attribute"), (function, "found functions"), (training, "training information"),
        (lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)), "'com.microsoft' in the operator sets"),
        (lambda m: setattr(m.graph.node[0], "domain", "my.plugin"), r"'my\.plugin' in a node \(Cast\)"),
        (lambda m: m.ClearField("opset_import"), "no graph or no operator set"),
        (lambda m: m.ClearField("graph"), "no graph or no operator set"),
        (lambda m: setattr(m.graph.input[0], "name", "image"), "expected inputs frame uint8 .* got image uint8"),
        (lambda m: setattr(m.graph.output[1], "name", "map"), "expected outputs .* got .*map float32"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 1), r"got frame float32 \(1, 64, 64, 3\)"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "batch"), r"got frame uint8 \(batch, 64"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_value"), r"\(\?, 64, 64, 3\)"),
        (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), r"got frame uint8 \(\)"),
        (lambda m: m.graph.input.append(helper.make_tensor_value_info("more", 1, [1])), "more float32"),
        (lambda m: m.graph.input.append(m.graph.input[0]), "two inputs or outputs are called 'frame'"),
        (lambda m: m.graph.ClearField("output"), "got none"),
        (lambda m: m.graph.output[0].type.sequence_type.elem_type.tensor_type.SetInParent(), "type 0"),
        (lambda m: m.graph.output.append(helper.make_tensor_value_info("more", 16, [1])), r"more bfloat16 \(1\)"),
    ],
)  # fmt: skip
def test_what_no_model_of_ours_holds_is_refused(change, message):
    assert_refused(edited(change), message)


def test_a_deep_name_does_not_flood_the_message():
    def long_names(model: Any) -> None:
        model.graph.input[0].name = "x" * 10_000
        model.graph.input.extend(helper.make_tensor_value_info(f"{i}", 1, [1]) for i in range(1000))

    with pytest.raises(BundleError) as caught:
        check_contract(edited(long_names), SIZE, "fp32")
    assert len(str(caught.value)) < 600


def test_two_graphs_are_refused():
    assert_refused(TINY + TINY, "found two")


def test_precision_must_be_what_the_graph_is():
    assert_refused(TINY, "says int8, but the graph has 0 DequantizeLinear", precision="int8")
    assert_refused(pdn_model(int8=True), "says fp32, but the graph has 8 DequantizeLinear", precision="fp32")


def test_another_size_than_the_manifests_is_refused():
    assert_refused(TINY, r"expected inputs frame uint8 \(1, 72, 72, 3\), got frame uint8 \(1, 64, 64, 3\)", size=72)


def test_too_many_nodes_are_refused():
    def many(model: Any) -> None:
        model.graph.node.extend(helper.make_node("Identity", ["raw"], [f"n{i}"]) for i in range(20_001))

    assert_refused(edited(many), "at most 20000 nodes")


@pytest.mark.parametrize("form", ["raw", "packed", "attribute"])
def test_int8_weights_are_found_however_they_are_stored(form):
    values = [-100, 5, 99]

    def add(model: Any) -> None:
        if form == "raw":
            model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int8), "w8"))
            return
        tensor = helper.make_tensor("w8", TensorProto.INT8, [3], values)
        assert list(tensor.int32_data) == values
        if form == "packed":
            model.graph.initializer.append(tensor)
        else:
            model.graph.node.append(helper.make_node("Constant", [], ["w8"], value=tensor))

    assert check_contract(edited(add), SIZE, "fp32").weight_peak == 100


def test_the_most_negative_weight_counts_as_128():
    def add(model: Any) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array([-128], np.int8), "w8"))

    assert check_contract(edited(add), SIZE, "fp32").weight_peak == 128


def test_every_truncation_is_refused():
    for length in range(len(TINY)):
        with pytest.raises(BundleError):
            check_contract(TINY[:length], SIZE, "fp32")


def test_every_flipped_byte_is_read_or_refused_and_nothing_else():
    for at in range(len(TINY)):
        altered = bytearray(TINY)
        altered[at] ^= 0xFF
        try:
            assert check_contract(bytes(altered), SIZE, "fp32").size == SIZE
        except BundleError:
            continue


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_bundle_error(data):
    for candidate in (data, b"\x3a" + data, TINY[:50] + data):
        with pytest.raises(BundleError):
            check_contract(candidate, SIZE, "fp32")


def test_no_engine_sees_a_model_with_external_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    big = next(i for i, tensor in enumerate(model.graph.initializer) if tensor.name == "centre")
    # The file an engine would read lies where it would look.
    (tmp_path / "secret.bin").write_bytes(np.float32(7).tobytes())
    external(model, big)
    path, trust, _ = make_tiny_bundle(tmp_path, model=model.SerializeToString())
    bundle = open_bundle(path, trust)
    monkeypatch.setattr(registry, "_adapter", lambda name: pytest.fail(f"{name} was asked"))
    with pytest.raises(BundleError, match=f"{path.name}: model.onnx: .*external data in tensor 'centre'"):
        open_engine(bundle)


def test_broken_protobuf_is_named():
    assert_refused(b"", "no graph")
    assert_refused(b"\x0b", "wire type 3")
    assert_refused(b"\xff" * 20, "broken number")
    assert_refused(b"\x3a\x7f\x00", "cut short: 127 bytes announced, 1 left")
    assert_refused(b"\x38\x01", "expected graph to be a message")
    assert_refused(b"\x39" + bytes(8) + b"\x42\x02\x0a\x00", "no graph|message|bytes")
    assert_refused(b"\x42\x03\x12\x01\x00", "expected opset version to be a number")
