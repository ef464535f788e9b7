"""NVIDIA's own parser and builder, from the one package of theirs that works without a GPU: TensorRT-RTX.

It builds for desktop cards and not for a Jetson, but it is the same parser and the same interface: what it refuses or warns of
would be refused there. Its plans tell which convolutions are INT8, and `check_quantization` must say the same beforehand.
"""

import pytest

from edge.bundle.reader import open_bundle
from edge.bundle.signing import default_trust
from edge.engine.onnx_file import check_contract
from edge.engine.tensorrt.builder import build_plan
from edge.engine.tensorrt.quantization import check_quantization
from edge.engine.tensorrt.settings import Settings
from edge.errors import EngineError
from tests.support import qdq_models
from tests.support.conv_models import pdn_model
from tests.support.fake_tensorrt import recorded
from tests.support.rtx_plan import convolutions
from tests.unit.test_tensorrt_cuda import ROOT

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install '.[gpu-test]', x86-64 Linux)")
# It is told so at each call; on a Jetson there is one that works.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
QUICK = Settings(optimization_level=1, timing_iterations=1)


def build(model: bytes, size: int = 64, **variant):
    return build_plan(trt, model, check_contract(model, size, "int8"), QUICK, **variant)


def agrees(model: bytes, plan: bytes) -> None:
    said, found = check_quantization(model), convolutions(plan)
    assert set(said.integer) == {name for name, types in found.items() if types == ("int8", "int8")}
    assert set(said.floating) == {name for name, types in found.items() if "int8" not in types}


def test_the_shipped_model_is_parsed_and_built_without_a_warning():
    bundle = open_bundle(ROOT / "edge" / "data" / "demo.onbelt", default_trust())
    steps = []

    def report(*step):
        steps.append(step)
        return True

    built = build(bundle.model, bundle.manifest.size, report=report)
    assert built.warnings == ()
    assert steps
    agrees(bundle.model, built.plan)
    print(f"{len(built.plan)} bytes in {built.build_s:.1f} s, {len(check_quantization(bundle.model).integer)} INT8 convolutions")


@pytest.mark.parametrize(
    "model",
    [qdq_models.behind_pad(), qdq_models.stacked((0.06, 0.06)), qdq_models.stacked((0.06, 0.03))],
    ids=["pad", "one scale", "two scales"],
)
def test_which_convolutions_are_int8_is_what_we_said(model):
    built = build(model)
    agrees(model, built.plan)
    assert built.warnings == ()


@pytest.mark.parametrize("kind", ["unsigned_by_default", "scaled_per_channel"])
def test_what_nvidias_parser_takes_without_a_word_is_refused_by_us(kind):
    model = getattr(qdq_models, kind)()
    built = build(model)
    assert built.warnings == ()
    with pytest.raises(EngineError, match="tensorrt: cannot build"):
        check_quantization(model)


def test_unsigned_integers_get_no_more_than_a_warning_from_nvidia():
    warnings = build(qdq_models.unsigned()).warnings
    assert any("Defaulting to INT8" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("kind", "node"),
    [("integer_bias", "DequantizeLinear 'bias_dq'"), ("mixed_types", "Add 'odd_add'"), ("asymmetric", "QuantizeLinear ")],
)
def test_the_parsers_own_errors_name_the_node(kind, node):
    with pytest.raises(EngineError, match=rf"tensorrt 1\.\S+: cannot build the model, its parser refuses it: {node}"):
        build(getattr(qdq_models, kind)())


def test_a_timing_cache_that_is_none_does_not_keep_from_building():
    assert build(pdn_model(int8=True), timing_cache=b"nonsense").plan


def test_a_build_can_be_given_up():
    with pytest.raises(EngineError, match=r"cannot build the model \(.*[Cc]ancel"):
        build(pdn_model(int8=True), report=lambda *step: False)


def test_the_recorded_names_are_still_there():
    """The fakes are made from these lists: where the installed version lacks a name, they promise too much."""
    _, names, classes = recorded("rtx-1.7.1")
    used = {"Builder", "IBuilderConfig", "OnnxParser", "INetworkDefinition", "IExecutionContext", "ICudaEngine", "Runtime"}
    assert used <= names
    for name in used:
        assert sorted(classes[name] - set(dir(getattr(trt, name)))) == []
