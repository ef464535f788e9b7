"""One contract, two engines: what a caller may rely on holds for both, and they agree with each other and with numpy."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.reader import Bundle, open_bundle
from edge.engine import Scores, machine, open_engine, registry
from edge.engine.machine import Machine, available_cores, this_machine
from edge.errors import BundleError, EngineError
from tests.support.bundles import SIZE, bad_frame, expected_scores, good_frame, make_tiny_bundle
from tests.support.conv_models import pdn_model, saturating_model, saturating_value

ENGINES = ("openvino", "onnxruntime")
ROOT = Path(__file__).resolve().parents[2]
# The engines add in different orders. The sums of the graph below have up to 1024 terms of float32: 1e-5 relative is some
# eighty times the rounding step, and in INT8 a rounding tie that falls the other way moves a cell by a step of its scale.
FLOAT_BOUND, INT8_BOUND = 1e-5, 2e-2


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


def bundle_of(home: Path, name: str, **variant: Any) -> Bundle:
    path, trust, _ = make_tiny_bundle(home, name=name, **variant)
    return open_bundle(path, trust)


def int8_bundle(home: Path, name: str, model: bytes, size: int = SIZE) -> Bundle:
    return bundle_of(home, name, model=model, size=size, edit=lambda m: msgspec.structs.replace(m, precision="int8"))


@pytest.fixture(scope="module")
def tiny(home):
    return bundle_of(home, "tiny", nan_above=240.0)


@pytest.fixture(scope="module")
def floats(home):
    return bundle_of(home, "floats", model=pdn_model())


@pytest.fixture(scope="module")
def ints(home):
    return int8_bundle(home, "ints", pdn_model(int8=True))


@pytest.fixture(params=ENGINES)
def backend(request):
    return request.param


def noise(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def as_bytes(scores: Scores) -> bytes:
    numbers = np.array([scores.raw, scores.st, scores.ae, scores.global_])
    return numbers.tobytes() + scores.map_st.tobytes() + scores.map_ae.tobytes()


@pytest.mark.parametrize("frame", [good_frame(), *map(bad_frame, ("structural", "logical", "global"))])
def test_scores_are_what_the_graph_says(tiny, backend, frame):
    with open_engine(tiny, backend, 1) as engine:
        scores = engine.infer(frame)
    assert (scores.raw, scores.st, scores.ae, scores.global_) == pytest.approx(expected_scores(frame), abs=1e-5)
    assert scores.map_st.dtype == scores.map_ae.dtype == np.float32
    assert scores.map_st.shape == scores.map_ae.shape == (SIZE // 4 - 8,) * 2
    assert float(scores.map_st.max()) == scores.st
    assert float(scores.map_ae.max()) == scores.ae


def test_the_engine_says_what_it_is(ints, backend):
    with open_engine(ints, backend, 2) as engine:
        assert engine.size == SIZE
        assert engine.name.startswith(backend)
        assert engine.name.endswith("int8 2 threads")


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE, 4), np.uint8), np.zeros((SIZE - 1, SIZE, 3), np.uint8),
        np.zeros((1, SIZE, SIZE, 3), np.uint8), np.zeros((3, SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE, 3), np.int8),
        np.zeros((SIZE, SIZE, 3), np.float32), np.zeros((0, SIZE, 3), np.uint8), None, b"", [[[0, 0, 0]]],
    ],
)  # fmt: skip
def test_frames_of_another_shape_or_type_are_refused(tiny, backend, frame):
    with open_engine(tiny, backend, 1) as engine:
        with pytest.raises(EngineError, match=rf"expected a frame of \({SIZE}, {SIZE}, 3\) uint8, got"):
            engine.infer(frame)
        assert engine.infer(good_frame()).raw < 1.0


def test_frames_need_not_be_contiguous_nor_writable(tiny, backend):
    frame = noise(1)
    frame[:, :, 0] //= 2
    view = np.asfortranarray(frame)
    mirrored = frame[:, ::-1]
    frozen = frame.copy()
    frozen.flags.writeable = False
    with open_engine(tiny, backend, 1) as engine:
        wanted = as_bytes(engine.infer(frame))
        assert as_bytes(engine.infer(view)) == wanted
        assert as_bytes(engine.infer(frozen)) == wanted
        assert as_bytes(engine.infer(mirrored)) == as_bytes(engine.infer(mirrored.copy()))


def test_a_closed_engine_says_so(tiny, backend):
    engine = open_engine(tiny, backend, 1)
    engine.infer(good_frame())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(good_frame())


def test_maps_are_the_callers_own(tiny, backend):
    with open_engine(tiny, backend, 1) as engine:
        first = engine.infer(bad_frame())
        kept = as_bytes(first)
        second = engine.infer(good_frame())
        assert as_bytes(first) == kept
        assert not np.shares_memory(first.map_st, second.map_st)
        second.map_st[:] = 99.0
        second.map_ae[:] = 99.0
        assert as_bytes(engine.infer(bad_frame())) == kept
    assert as_bytes(first) == kept


def test_scores_that_are_not_finite_are_an_error_and_the_next_frame_is_fine(tiny, backend):
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    with open_engine(tiny, backend, 1) as engine:
        before = as_bytes(engine.infer(good_frame()))
        with pytest.raises(EngineError, match="finite scores, got raw nan"):
            engine.infer(white)
        assert as_bytes(engine.infer(good_frame())) == before


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("output", ["map_st", "map_ae"])
def test_one_cell_that_is_not_finite_is_an_error(home, backend, output, value):
    cells = SIZE // 4 - 8
    odd = np.zeros((cells, cells), np.float32)
    odd[3, 5] = float(value)
    maps = {"map_st": np.zeros_like(odd), "map_ae": np.zeros_like(odd), output: odd}
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "four"], ["scores"]),
        *(helper.make_node("Add", ["mean", f"{name}_c"], [name]) for name in maps),
    ]
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [4]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [cells, cells]) for name in maps),
        ],
        [
            numpy_helper.from_array(np.zeros(4, np.float32), "four"),
            *(numpy_helper.from_array(v, f"{k}_c") for k, v in maps.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    with open_engine(bundle_of(home, "odd", model=model), backend, 1) as engine, pytest.raises(EngineError, match="finite"):
        engine.infer(good_frame())


@pytest.mark.parametrize("kind", ["floats", "ints"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_frame_gives_the_same_bits(request, kind, backend, threads):
    bundle = request.getfixturevalue(kind)
    frames = [noise(seed) for seed in range(4)]
    with open_engine(bundle, backend, threads) as engine, open_engine(bundle, backend, threads) as other:
        wanted = [as_bytes(engine.infer(frame)) for frame in frames]
        assert len(set(wanted)) == len(frames)
        for order in ((3, 1, 0, 2), (2, 2, 0, 1), (0, 3, 3, 3)):
            for index in order:
                assert as_bytes(engine.infer(frames[index])) == wanted[index]
                assert as_bytes(other.infer(frames[index])) == wanted[index]


FRESH = """
import hashlib, json, sys
from pathlib import Path
from typing import Any
sys.path.insert(0, sys.argv[4])
import numpy as np
from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore
from edge.engine import open_engine
bundle = open_bundle(Path(sys.argv[1]), TrustStore.from_folders([Path(sys.argv[2])]))
with open_engine(bundle, sys.argv[3], 2) as engine:
    frame = np.random.default_rng(7).integers(0, 256, (engine.size, engine.size, 3), dtype=np.uint8)
    s = engine.infer(frame)
    data = np.array([s.raw, s.st, s.ae, s.global_]).tobytes() + s.map_st.tobytes() + s.map_ae.tobytes()
print(json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "raw": s.raw}))
"""


@pytest.mark.parametrize("kind", ["floats", "ints"])
def test_a_fresh_process_gives_the_same_bits(request, home, kind, backend):
    bundle = request.getfixturevalue(kind)
    with open_engine(bundle, backend, 2) as engine:
        here = hashlib.sha256(as_bytes(engine.infer(noise(7)))).hexdigest()
    command = [sys.executable, "-c", FRESH, str(bundle.path), str(home / "trusted"), backend, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sha256"] == here


@pytest.mark.parametrize(("kind", "bound"), [("floats", FLOAT_BOUND), ("ints", INT8_BOUND)])
def test_the_engines_agree(request, kind, bound):
    pytest.importorskip("openvino", reason="openvino is not installed (pip install openvino)")
    bundle = request.getfixturevalue(kind)
    worst = 0.0
    with open_engine(bundle, "openvino", 2) as first, open_engine(bundle, "onnxruntime", 2) as second:
        for seed in range(8):
            a, b = first.infer(noise(seed)), second.infer(noise(seed))
            for name in ("raw", "st", "ae", "global_"):
                worst = max(worst, abs(getattr(a, name) - getattr(b, name)) / abs(getattr(b, name)))
            worst = max(worst, float(np.abs(a.map_st - b.map_st).max() / b.map_st.max()))
            worst = max(worst, float(np.abs(a.map_ae - b.map_ae).max() / b.map_ae.max()))
    print(f"{kind}: largest relative difference between the engines {worst:.2g}, allowed {bound:g}")
    assert 0 < worst <= bound


def test_seven_bit_weights_are_exact_on_every_cpu(home, backend):
    bundle = int8_bundle(home, "seven", saturating_model(63), size=48)
    with open_engine(bundle, backend, 1) as engine:
        scores = engine.infer(np.full((48, 48, 3), 255, np.uint8))
    assert scores.map_st == pytest.approx(saturating_value(63), rel=1e-6)


def test_the_reference_is_exact_with_eight_bit_weights_too(home):
    bundle = int8_bundle(home, "eight", saturating_model(127), size=48)
    with open_engine(bundle, "onnxruntime", 1) as engine:
        scores = engine.infer(np.full((48, 48, 3), 255, np.uint8))
    assert scores.map_st == pytest.approx(saturating_value(127), rel=1e-6)


def test_openvino_refuses_weights_that_saturate_and_auto_takes_the_reference(home, monkeypatch, caplog):
    old = Machine("Old CPU", 2, ("avx2",))
    monkeypatch.setattr("edge.engine.openvino.this_machine", lambda: old)
    bundle = int8_bundle(home, "eight", saturating_model(127), size=48)
    with pytest.raises(EngineError, match=r"within .*64 on a CPU without VNNI .*Old CPU.*got 127"):
        open_engine(bundle, "openvino", 1)
    with open_engine(bundle, "auto", 1) as engine:
        assert engine.name.startswith("onnxruntime")
    assert "saturate" in caplog.text
    with open_engine(int8_bundle(home, "seven", saturating_model(64), size=48), "auto", 1) as engine:
        assert engine.name.startswith("openvino")


@pytest.mark.parametrize(
    ("extensions", "saturates"),
    [
        (("avx2",), True),
        (("avx2", "avx512f"), True),
        (("avx2", "avx512f", "avx512_vnni"), False),
        (("avx2", "avx_vnni"), False),
        (("asimddp",), False),
    ],
)
def test_which_cpus_saturate(extensions, saturates):
    assert Machine("x", 1, extensions).saturates_int8 is saturates


def test_the_machine_is_read_from_cpuinfo(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nmodel name : Big CPU 9000\nflags : fpu avx2 avx512_vnni mmx\n")
    assert this_machine(info) == Machine("Big CPU 9000", available_cores(), ("avx2", "avx512_vnni"))
    info.write_text("processor : 0\nFeatures : fp asimd asimddp i8mm\nModel : Some Arm Board\n")
    assert this_machine(info).extensions == ("asimddp", "i8mm")
    assert this_machine(info).cpu == "Some Arm Board"
    assert this_machine(tmp_path / "none").cpu
    assert str(machine.this_machine())


def test_an_engine_may_be_made_and_used_in_any_one_thread(tiny, backend):
    results = []

    def work():
        with open_engine(tiny, backend, 1) as engine:
            results.append(as_bytes(engine.infer(good_frame())))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    assert results[0] == results[1]


def test_auto_is_openvino_where_it_works(tiny):
    with open_engine(tiny) as engine:
        assert engine.name.startswith("openvino")
        assert engine.name.endswith(f"{available_cores()} thread{'s'[: available_cores() > 1]}")


def test_unknown_engines_and_impossible_thread_counts_are_refused(tiny):
    with pytest.raises(EngineError, match="expected an engine of auto, openvino, onnxruntime, tensorrt, got 'tensorflow'"):
        open_engine(tiny, "tensorflow")
    for threads in (0, -1, 1000):
        with pytest.raises(EngineError, match=f"expected 1 to 256 threads, got {threads}"):
            open_engine(tiny, "auto", threads)


def test_a_missing_library_is_named_and_auto_takes_the_other(tiny, monkeypatch):
    monkeypatch.setitem(registry._MODULES, "openvino", "edge.engine.not_installed")
    with pytest.raises(EngineError, match="openvino is not installed here"):
        open_engine(tiny, "openvino")
    with open_engine(tiny, "auto", 1) as engine:
        assert engine.name.startswith("onnxruntime")
    monkeypatch.setitem(registry._MODULES, "onnxruntime", "edge.engine.not_installed")
    with pytest.raises(EngineError, match=r"none does: openvino: .*; onnxruntime: "):
        open_engine(tiny, "auto")


def test_what_the_library_throws_is_our_error(tiny, backend, monkeypatch):
    with open_engine(tiny, backend, 1) as engine:

        def explode():
            raise RuntimeError("device lost\nand a long story")

        monkeypatch.setattr(engine, "_run", explode)
        with pytest.raises(EngineError, match=r"inference failed \(RuntimeError: device lost\)"):
            engine.infer(good_frame())


def test_a_model_the_library_cannot_build_is_an_engine_error(home, backend):
    model = onnx.load_from_string(pdn_model())
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "Convolution"
    with pytest.raises(EngineError, match=f"{backend}.*cannot build"):
        open_engine(bundle_of(home, "odd", model=model.SerializeToString()), backend, 1)


def test_a_model_that_breaks_the_contract_is_refused_with_the_bundles_path(home, backend):
    bundle = bundle_of(home, "wrong", model=pdn_model(72))
    with pytest.raises(BundleError, match=r"wrong\.onbelt: model\.onnx: expected inputs frame uint8 \(1, 64, 64, 3\)") as caught:
        open_engine(bundle, backend)
    assert caught.value.member == "model.onnx"


def test_engines_are_imported_when_asked_for_and_not_before():
    code = "import sys, edge.engine, edge.judge; print([m for m in ('openvino', 'onnxruntime', 'torch') if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.stdout.strip() == "[]", done.stderr
