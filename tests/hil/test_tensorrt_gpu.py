"""The whole of TensorRT on a real GPU: `pytest -m gpu tests/hil`, and `-m jetson` for what only a Jetson has to keep.

These have not run on a Jetson yet (see docs/jetson.md): nobody should read a skip here as a pass.
"""

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.reader import open_bundle
from edge.bundle.signing import default_trust
from edge.engine import open_engine
from edge.engine.onnx_file import check_contract
from edge.engine.proof import WARM_UP_FRAMES, percentiles_of, replay_golden
from edge.engine.tensorrt.cuda import open_cuda
from edge.engine.tensorrt.driver import Driver
from edge.engine.tensorrt.opening import open_tensorrt
from edge.engine.tensorrt.settings import Settings
from edge.engine.tensorrt.vendor import load_tensorrt
from edge.errors import EngineError
from tests.support.conv_models import pdn_model
from tests.unit.test_engines import (  # noqa: F401  the contract suite, over the fixture `backend` below
    floats,
    home,
    int8_bundle,
    ints,
    noise,
    test_a_closed_engine_says_so,
    test_an_engine_may_be_made_and_used_in_any_one_thread,
    test_frames_need_not_be_contiguous_nor_writable,
    test_frames_of_another_shape_or_type_are_refused,
    test_maps_are_the_callers_own,
    test_scores_are_what_the_graph_says,
    test_scores_that_are_not_finite_are_an_error_and_the_next_frame_is_fine,
    test_the_same_frame_gives_the_same_bits,
    tiny,
)

pytestmark = pytest.mark.gpu
BUNDLE = Path(__file__).resolve().parents[2] / "edge" / "data" / "demo.onbelt"


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        found = Driver().gpu()
        load_tensorrt()
        open_cuda().close()
    except EngineError as exc:
        pytest.skip(f"needs an NVIDIA GPU, TensorRT, and pycuda or cuda-python: {exc}")
    return found


@pytest.fixture
def backend():
    return "tensorrt"


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(BUNDLE, default_trust())


@pytest.fixture
def opened(bundle, tmp_path, gpu):
    graph = check_contract(bundle.model, bundle.manifest.size, bundle.manifest.precision)
    found = open_tensorrt(bundle.model, graph, Settings(cache=str(tmp_path / "engines")))
    with found.engine:
        yield found


def test_golden_frames_hold(bundle, opened):
    results = replay_golden(bundle, opened.engine)
    print(f"{opened.engine.name}: largest difference {max(one.difference for one in results):.2g} of the limit")
    assert all(one.holds for one in results)


def test_a_frame_is_one_cuda_graph(opened):
    assert opened.engine.is_graph
    assert opened.engine.gpu_ms() > 0


def test_the_engine_is_kept_and_found(bundle, opened, tmp_path):
    graph = check_contract(bundle.model, bundle.manifest.size, bundle.manifest.precision)
    again = open_tensorrt(bundle.model, graph, Settings(cache=str(tmp_path / "engines")))
    again.engine.close()
    assert again.built_s == 0.0


@pytest.mark.parametrize("memory", ["mapped", "copied"])
def test_both_kinds_of_memory_give_the_same_scores(bundle, tmp_path, memory, gpu):
    if memory == "mapped" and not gpu.maps_host:
        pytest.skip("this GPU cannot read the CPU's memory")
    graph = check_contract(bundle.model, bundle.manifest.size, bundle.manifest.precision)
    with open_tensorrt(bundle.model, graph, Settings(cache=str(tmp_path), memory=memory)).engine as engine:
        assert all(one.holds for one in replay_golden(bundle, engine))


def test_int8_agrees_with_the_reference(ints):  # noqa: F811
    with open_engine(ints, "tensorrt") as engine, open_engine(ints, "onnxruntime", 1) as reference:
        for seed in range(8):
            ours, wanted = engine.infer(noise(seed)), reference.infer(noise(seed))
            assert np.abs(ours.map_st - wanted.map_st).max() <= 2e-2 * wanted.map_st.max()


def test_int8_is_faster_than_float(tmp_path):
    """At full width: where the INT8 engine is not faster, its convolutions were not taken as INT8."""
    times = {}
    for precision in ("int8", "fp32"):
        model = pdn_model(256, int8=precision == "int8", channels=(128, 256, 256, 384))
        graph = check_contract(model, 256, precision)
        with open_tensorrt(model, graph, Settings(cache=str(tmp_path / precision))).engine as engine:
            engine.infer(noise(0, 256))
            times[precision] = float(np.median([engine.gpu_ms() for _ in range(101)]))
    print(times)
    assert times["int8"] < 0.5 * times["fp32"]


def test_ten_thousand_frames_are_steady_and_leak_nothing(bundle, opened):
    frames = [bundle.picture(one.picture) for one in bundle.golden]
    stamps = np.empty(10_000, np.int64)
    for turn in range(-WARM_UP_FRAMES, len(stamps)):
        begin = time.perf_counter_ns()
        opened.engine.infer(frames[turn % len(frames)])
        if turn >= 0:
            stamps[turn] = time.perf_counter_ns() - begin
        if turn == 1000:
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = percentiles_of(stamps)
    print(f"{opened.engine.name}: p50 {times.p50:.3f} ms, p99 {times.p99:.3f}, p99.9 {times.p999:.3f}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 4096
    assert times.p99 <= 1.3 * times.p50


@pytest.mark.jetson
def test_a_jetson_is_seen_as_one(gpu):
    if not gpu.integrated:
        pytest.skip(f"needs a Jetson, this is {gpu}")
    assert gpu.compute >= (8, 7)
    assert gpu.maps_host


@pytest.mark.jetson
def test_the_first_frame_after_a_pause_is_not_late(bundle, opened, gpu):
    if not gpu.integrated:
        pytest.skip(f"needs a Jetson, this is {gpu}")
    frame = bundle.picture(bundle.golden[0].picture)
    times = []
    for _ in range(200):
        begin = time.perf_counter_ns()
        opened.engine.infer(frame)
        times.append(time.perf_counter_ns() - begin)
    end = time.monotonic() + 60
    while time.monotonic() < end:  # as the daemon does in a pause
        time.sleep(1)
        opened.engine.infer(frame)
    begin = time.perf_counter_ns()
    opened.engine.infer(frame)
    assert time.perf_counter_ns() - begin <= 1.5 * float(np.median(times))
