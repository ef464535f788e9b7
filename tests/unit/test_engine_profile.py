"""Every engine tells what its layers cost, by its own counters, without the engine that judges being touched."""

import json
import tempfile
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.engine import LayerTime, open_engine
from edge.engine import onnxruntime as ort
from edge.engine.onnxruntime import read_profile
from edge.engine.profile import profile_lines, profile_report
from edge.errors import EngineError
from tests.support.bundles import SIZE
from tests.support.conv_models import pdn_model, saturating_model
from tests.unit.test_engines import as_bytes, bundle_of, int8_bundle, noise

RUNS = 6


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="module")
def bundles(home):
    """Four convolutions in float, and one in INT8 that both engines fuse; nearly all of their work is convolutions."""
    return {
        "floats": bundle_of(home, "floats", model=pdn_model()),
        "ints": int8_bundle(home, "ints", saturating_model(63), size=48),
    }


@pytest.fixture(params=["openvino", "onnxruntime"])
def backend(request):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed (pip install {request.param})")
    return request.param


def test_layers_add_up_to_no_more_than_the_time_they_were_run_in(bundles, backend):
    with open_engine(bundles["floats"], backend, 1) as engine:
        begin = time.perf_counter()
        layers = engine.profile(noise(1), RUNS)
        wall_ms = (time.perf_counter() - begin) * 1e3
    total = sum(layer.mean_ms for layer in layers)
    assert len(layers) >= 6
    assert all(layer.name and layer.mean_ms >= 0 for layer in layers)
    assert 0 < total * RUNS < wall_ms


def test_more_runs_do_not_make_layers_longer(bundles, backend):
    with open_engine(bundles["floats"], backend, 1) as engine:
        few, many = (sum(layer.mean_ms for layer in engine.profile(noise(1), runs)) for runs in (2, 40))
    assert many < 5 * few  # a sum instead of a mean would be 20 times as much


def test_a_profile_leaves_the_engine_that_judges_alone(bundles, backend):
    frames = [noise(1, 48), noise(2, 48)]
    with open_engine(bundles["ints"], backend, 1) as engine:
        wanted = [as_bytes(engine.infer(frame)) for frame in frames]
        engine.profile(frames[0], 2)
        assert [as_bytes(engine.infer(frame)) for frame in frames] == wanted


def test_kernels_are_told_apart(bundles, backend):
    slowest = {}
    for kind, bundle in bundles.items():
        with open_engine(bundle, backend, 1) as engine:
            layers = [layer for _ in range(5) for layer in engine.profile(noise(1, engine.size), RUNS)]
        # The best of five: one interruption makes the smallest layer the slowest.
        best: dict[str, LayerTime] = {}
        for layer in sorted(layers, key=lambda layer: layer.mean_ms):
            best.setdefault(layer.name, layer)
        slowest[kind] = max(best.values(), key=lambda layer: layer.mean_ms).precision
    assert slowest == {"floats": "float", "ints": "int8"}


def test_what_cannot_be_profiled_is_refused(bundles, backend):
    engine = open_engine(bundles["floats"], backend, 1)
    with engine:
        for runs in (0, -1):
            with pytest.raises(EngineError, match=f"at least 1 run to profile, got {runs}"):
                engine.profile(noise(1), runs)
        with pytest.raises(EngineError, match="expected a frame of"):
            engine.profile(np.zeros((SIZE, SIZE, 4), np.uint8), 1)
    with pytest.raises(EngineError, match="closed"):
        engine.profile(noise(1), 1)


def test_what_the_library_throws_while_profiling_is_our_error(bundles, backend, monkeypatch):
    def explode(_runs):
        raise RuntimeError("no counters here\nand a long story")

    with open_engine(bundles["floats"], backend, 1) as engine:
        monkeypatch.setattr(engine, "_profile", explode)
        with pytest.raises(EngineError, match=r"profiling failed \(RuntimeError: no counters here\)"):
            engine.profile(noise(1), 1)
        engine.infer(noise(1))


def test_the_file_a_profile_goes_through_is_gone_afterwards(bundles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_engine(bundles["floats"], "onnxruntime", 1) as engine:
        engine.profile(noise(1), 1)
        monkeypatch.setattr(ort, "MAX_PROFILE_BYTES", 100)
        with pytest.raises(EngineError, match=r"at most 100 bytes, got .*fewer runs"):
            engine.profile(noise(1), 1)
    assert list(tmp_path.iterdir()) == []


def event(name: str, us: Any = 1000, kind: str = "float", **more: Any) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": {"input_type_shape": [{kind: [1, 3]}]}, **more}


def as_file(*events: Any) -> bytes:
    return json.dumps(events).encode()


def test_a_written_profile_is_averaged_without_its_warm_up():
    session = {"cat": "Session", "name": "model_run", "dur": 10**9, "args": {}}
    fence = {"cat": "Node", "name": "conv_fence_before", "dur": 10**9, "args": {"op_name": "Conv"}}
    runs = [[session, fence, event("conv", us, "uint8"), event("cast", us // 10)] for us in (90_000, 1000, 3000)]
    found = read_profile(as_file(*(one for run in runs for one in run)), 1, 2)
    assert found == (LayerTime("conv", 2.0, "int8"), LayerTime("cast", 0.2, "float"))


def test_layers_of_one_name_count_together():
    runs = [event("", us) for us in (7000, 7000, 1000, 2000, 3000, 4000)]
    assert read_profile(as_file(*runs), 1, 2) == (LayerTime("", 5.0, "float"),)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", "got something else"),
        (b'[{"cat": "Node", ', "got something else"),
        (b"\xff\xfe", "got something else"),
        (b"[" * 100_000, "got something else"),
        (b'{"cat": "Node"}', r"something else \(Expected `array`"),
        (as_file(event("conv", -5)), r">= 0 - at `\$\[0\]\.dur`"),
        (as_file(event("conv", 1.5)), "Expected `int`"),
        (as_file(event("conv", "9")), "Expected `int`"),
        (as_file(event("conv", 10**15)), "got something else"),
        (as_file(event("conv", args=[])), "Expected `object`"),
        (as_file(event("x" * 2000)), "length <= 1000"),
        (as_file(), "it has none"),
        (as_file({"cat": "Session", "name": "conv_kernel_time", "dur": 1}), "it has none"),
        (as_file(event("conv"), event("conv")), "'conv' in every one of 3 runs, the profile has it 2 times"),
        (as_file(*[event("conv")] * 4), "'conv' in every one of 3 runs, the profile has it 4 times"),
        (as_file(*[event("conv")] * 3, event("forged")), "'forged' in every one of 3 runs"),
    ],
)
def test_what_is_no_profile_is_refused(written, message):
    with pytest.raises(EngineError, match=message):
        read_profile(written, 1, 2)


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_reading_a_profile_ends_in_a_profile_or_in_our_error(written):
    try:
        layers = read_profile(written, 1, 2)
    except EngineError:
        return
    assert layers
    assert all(layer.name and layer.mean_ms >= 0 for layer in layers)


def test_openvinos_means_over_all_runs_become_means_without_the_warm_up():
    openvino = pytest.importorskip("openvino", reason="openvino is not installed (pip install openvino)")
    from edge.engine.openvino import mean_times

    status = openvino.ProfilingInfo.Status

    def info(name: str, us: int, kind: str = "jit_avx2_f32", how: Any = status.EXECUTED) -> SimpleNamespace:
        return SimpleNamespace(node_name=name, real_time=timedelta(microseconds=us), exec_type=kind, status=how)

    # Two runs of 9 ms, then three of 4 ms: a mean of 6 over all five.
    before = [info("conv", 9000), info("input", 0, how=status.NOT_RUN), info("tiny", 1), info("late", 0)]
    after = [info("conv", 6000, "jit_avx2_I8"), info("input", 0, how=status.NOT_RUN), info("tiny", 0), info("late", 60)]
    found = mean_times(before, after, 2, 3)
    assert [(layer.name, layer.precision) for layer in found] == [("conv", "int8"), ("late", "float")]
    assert [layer.mean_ms for layer in found] == pytest.approx([4.0, 0.1])


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [
        ("jit_avx2_I8", "int8"), ("brgconv_avx512_vnni_u8", "int8"), ("gemm_acl_i8", "int8"), ("brgconv_avx2_f32", "float"),
        ("ref_f32", "float"), ("brgemm_avx512_core_amx_bf16", "float"), ("undef", ""), ("unknown_I32", ""), ("", ""),
    ],
)  # fmt: skip
def test_openvinos_kernel_names(kernel, precision):
    pytest.importorskip("openvino", reason="openvino is not installed (pip install openvino)")
    from edge.engine.openvino import precision_of

    assert precision_of(kernel) == precision


LAYERS = (LayerTime("first", 1.0, "int8"), LayerTime("second", 6.0, "float"), LayerTime("third\x1b[2J", 3.0))


def test_a_report_has_every_layer_with_its_share():
    assert profile_report(LAYERS) == [
        {"name": "first", "mean_ms": 1.0, "precision": "int8", "share": 0.1},
        {"name": "second", "mean_ms": 6.0, "precision": "float", "share": 0.6},
        {"name": "third\x1b[2J", "mean_ms": 3.0, "precision": "", "share": 0.3},
    ]
    assert profile_report([LayerTime("idle", 0.0)])[0]["share"] == 0.0
    assert profile_report([]) == []


def test_the_slowest_come_first_the_rest_in_one_line_and_names_without_escapes():
    lines = profile_lines(LAYERS, 2)
    assert [line.split() for line in lines] == [
        ["6.0000", "ms", "60.0%", "float", "second"],
        ["3.0000", "ms", "30.0%", "-", "third?[2J"],
        ["1.0000", "ms", "10.0%", "1", "layers", "more"],
    ]
    assert len(profile_lines(LAYERS, 3)) == 3
    assert profile_lines([], 3) == []
    assert len(profile_lines([LayerTime("x" * 500, 1.0)], 1)[0]) < 150
