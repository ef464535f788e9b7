"""What TensorRT must not be given is refused by node before any of its code runs; what will be INT8 is told in advance."""

import pytest

from edge.bundle.reader import open_bundle
from edge.bundle.signing import default_trust
from edge.engine.tensorrt.onnx_graph import FLOAT, FLOAT16, INT8, read_graph
from edge.engine.tensorrt.quantization import check_quantization
from edge.errors import BundleError, EngineError
from tests.support import qdq_models
from tests.support.bundles import tiny_model
from tests.support.conv_models import pdn_model
from tests.unit.test_tensorrt_cuda import ROOT

REFUSED = {
    "asymmetric": r"QuantizeLinear 't4': expected symmetric INT8 \(zero point 0\), found zero point 3",
    "asymmetric_weight": r"DequantizeLinear 't12': expected symmetric INT8 \(zero point 0\), found zero point -1",
    "unsigned": "QuantizeLinear 't4': expected signed int8, found uint8",
    "unsigned_by_default": "QuantizeLinear 't4': expected signed int8, found uint8",
    "integer_bias": "DequantizeLinear 'bias_dq': expected a float bias, found an int32 one",
    "mixed_types": "Add 'odd_add': expected one float type, found plain fp32, half fp16; put a Cast between them",
    "scaled_per_channel": "QuantizeLinear 't10': expected one scale for an activation, found 32",
    "weight_along_inputs": r"DequantizeLinear 't12': expected one scale per output channel \(axis 0\).* found 32, axis 1",
    "computed_scale": "QuantizeLinear 't4': expected a constant scale, found one that is computed",
    "scale_of_zero": "QuantizeLinear 't4': expected finite scales above 0",
    "operator_form": "DynamicQuantizeLinear 'dynamic': expected QuantizeLinear and DequantizeLinear around float operators",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_tensorrt_would_read_otherwise_is_refused_by_node(kind):
    with pytest.raises(
        EngineError, match=rf"^tensorrt: cannot build model\.onnx: {REFUSED[kind]}.*export the bundle with onbelt export"
    ):
        check_quantization(getattr(qdq_models, kind)())


@pytest.mark.parametrize(
    ("model", "integer", "floating"),
    [
        (pdn_model(int8=True), 4, {}),
        (pdn_model(), 0, dict.fromkeys(("t4", "t7", "t10", "t12"), "its input comes from")),
        (tiny_model().SerializeToString(), 0, {}),
        (qdq_models.half_precision(), 4, {}),
        (qdq_models.behind_pad(), 3, {"t13": "its input comes from Pad 'pad', not from a DequantizeLinear"}),
        (qdq_models.stacked((0.06, 0.06)), 4, {}),
        (qdq_models.stacked((0.06, 0.03)), 3, {"t13": "its input is stacked of parts with different scales"}),
    ],
    ids=["int8", "float", "tiny", "half", "pad", "one scale", "two scales"],
)
def test_which_convolutions_are_int8_is_told_and_why_others_are_not(model, integer, floating):
    found = check_quantization(model)
    assert len(found.integer) == integer
    assert set(found.floating) == set(floating)
    for name, why in floating.items():
        assert found.floating[name].startswith(why)


def test_the_shipped_model_is_one_for_tensorrt():
    """Every convolution is read as the form its certificate names."""
    bundle = open_bundle(ROOT / "edge" / "data" / "demo.onbelt", default_trust())
    found, forms = check_quantization(bundle.model), bundle.certificate["forms"]
    integer, floating = ({name.removesuffix(".linear") for name in names} for names in (found.integer, found.floating))
    for name in bundle.certificate["blame"]:
        form = forms.get(name, "int8")
        expected = {"int8": {name}, "twofold": {f"{name}.coarse", f"{name}.fine"}, "float": set()}[form]
        assert expected <= integer
        assert (name in floating) == (form == "float")
    assert integer


def test_element_types_follow_the_graph():
    graph = read_graph(qdq_models.half_precision())
    assert {graph.types[node.outputs[0]] for node in graph.nodes if node.operator == "QuantizeLinear"} == {INT8}
    assert {graph.types[node.outputs[0]] for node in graph.nodes if node.operator == "Conv"} == {FLOAT16}
    assert graph.types["scores"] == FLOAT


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_damaged_file_is_a_bundle_error(cut):
    with pytest.raises(BundleError, match="cut short"):
        check_quantization(pdn_model(int8=True)[:-cut])
