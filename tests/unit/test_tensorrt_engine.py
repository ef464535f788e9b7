"""The engine contract over TensorRT, and what only it has: probing, cache, graphs, threads. On a fake module of each version.

The fake has exactly the names recorded from the real modules of 10.3, 10.16, 11.4 and TensorRT-RTX 1.7, so a name that exists
in one version only fails here. What no fake can show (speed, which kernels are taken) needs a GPU: test_tensorrt_gpu.py.
"""

import threading

import numpy as np
import onnx
import pytest

from edge.engine import open_engine, registry
from edge.engine.onnx_file import check_contract
from edge.engine.tensorrt import opening, settings, vendor
from edge.engine.tensorrt.cache import EngineCache
from edge.engine.tensorrt.opening import open_tensorrt
from edge.engine.tensorrt.settings import Settings
from edge.errors import EngineError
from tests.support.bundles import SIZE, good_frame, tiny_model
from tests.support.conv_models import pdn_model
from tests.support.fake_gpu import DESKTOP, ORIN, FakeGpu
from tests.support.fake_tensorrt import VERSIONS, make_tensorrt
from tests.unit.test_engines import (  # noqa: F401  the contract suite, over the fixture `backend` below
    as_bytes,
    bundle_of,
    floats,
    home,
    int8_bundle,
    ints,
    noise,
    test_a_closed_engine_says_so,
    test_a_model_that_breaks_the_contract_is_refused_with_the_bundles_path,
    test_a_model_the_library_cannot_build_is_an_engine_error,
    test_an_engine_may_be_made_and_used_in_any_one_thread,
    test_frames_need_not_be_contiguous_nor_writable,
    test_frames_of_another_shape_or_type_are_refused,
    test_maps_are_the_callers_own,
    test_one_cell_that_is_not_finite_is_an_error,
    test_scores_are_what_the_graph_says,
    test_scores_that_are_not_finite_are_an_error_and_the_next_frame_is_fine,
    test_seven_bit_weights_are_exact_on_every_cpu,
    test_the_same_frame_gives_the_same_bits,
    test_what_the_library_throws_is_our_error,
    tiny,
)


class Box:
    """A machine with a fake GPU and a fake tensorrt."""

    def __init__(self, folder, version="10.3.0", gpu=ORIN):
        self.gpu = FakeGpu(gpu)
        self.trt = make_tensorrt(version, self.gpu)
        self.settings = Settings(cache=str(folder / "engines"))
        self.model = tiny_model().SerializeToString()

    def open(self, model=None, *, precision="fp32", size=SIZE, **variant):
        model = model or self.model
        chosen = variant.pop("settings", self.settings)
        graph = check_contract(model, size, precision)
        parts = {"load": lambda: self.trt, "cuda": self.gpu.cuda, "driver": self.gpu.driver, **variant}
        return open_tensorrt(model, graph, chosen, **parts)


@pytest.fixture(params=("10.3.0", "11.4.0"))
def backend(request, monkeypatch, tmp_path):
    box = Box(tmp_path, request.param)
    monkeypatch.setattr(opening, "load_tensorrt", lambda: box.trt)
    monkeypatch.setattr(opening, "open_cuda", box.gpu.cuda)
    monkeypatch.setattr(opening, "Driver", box.gpu.driver)
    monkeypatch.setattr(settings, "MACHINE_FOLDERS", ())
    monkeypatch.setattr(settings, "SETTINGS", tmp_path / "tensorrt.toml")
    yield "tensorrt"
    assert box.gpu.opened == 0, "the context was not let go"
    assert not box.gpu.memory, "memory was not freed"


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


def test_the_engine_says_what_it_is(ints, backend):  # noqa: F811
    with open_engine(ints, backend) as engine:
        assert engine.size == SIZE
        assert engine.name.startswith("tensorrt 1")
        assert engine.name.endswith(" int8 Orin")


def test_the_gpu_is_asked_before_tensorrt_is_touched(box):
    box.open().engine.close()
    calls = box.gpu.calls
    assert calls.index("ask for the GPU") < calls.index("build") < calls.index("make runtime")


def test_without_a_gpu_tensorrt_is_never_imported(box):
    def no_gpu():
        raise EngineError("expected an NVIDIA driver")

    with pytest.raises(EngineError, match="NVIDIA driver"):
        box.open(driver=no_gpu, load=lambda: pytest.fail("tensorrt was imported"), cuda=lambda _: pytest.fail("CUDA was opened"))


def test_a_gpu_without_int8_is_refused_before_tensorrt_is_imported(tmp_path):
    old = Box(tmp_path, gpu=type(ORIN)("Nano", (5, 3), 1, 2**32, integrated=True, maps_host=True, driver=10020))
    with pytest.raises(EngineError, match=r"expected a GPU of SM 7\.2 or later .*found Nano, SM 5\.3"):
        old.open(load=lambda: pytest.fail("tensorrt was imported"))


def test_a_second_start_takes_the_kept_engine(box):
    with box.open().engine as engine:
        first = as_bytes(engine.infer(good_frame()))
    again = box.open()
    with again.engine as engine:
        assert as_bytes(engine.infer(good_frame())) == first
    assert again.built_s == 0.0
    assert box.gpu.calls.count("build") == 1
    box.open(rebuild=True).engine.close()
    assert box.gpu.calls.count("build") == 2


@pytest.mark.parametrize("change", ["model", "version", "gpu", "driver", "settings", "power"])
def test_whatever_matters_to_an_engine_makes_another_one(box, tmp_path, monkeypatch, change):
    box.open().engine.close()
    other = Box(tmp_path, "10.16.1" if change == "version" else "10.3.0")
    if change == "model":
        other.model = tiny_model(work=1).SerializeToString()
    elif change == "gpu":
        other.gpu.gpu = DESKTOP
    elif change == "driver":
        other.gpu.gpu = type(ORIN)("Orin", (8, 7), 8, 8 * 2**30, integrated=True, maps_host=True, driver=12080)
    elif change == "power":
        monkeypatch.setattr(opening, "power_mode", lambda: "pmode:0002")
    chosen = Settings(cache=box.settings.cache, optimization_level=5) if change == "settings" else box.settings
    other.open(settings=chosen).engine.close()
    assert other.gpu.calls.count("build") == 1


def test_where_an_engine_is_kept_and_how_cuda_is_called_do_not_matter(box):
    box.open().engine.close()
    box.open(settings=Settings(cache=box.settings.cache, library="cuda-python", memory="copied")).engine.close()
    assert box.gpu.calls.count("build") == 1


def test_a_kept_engine_that_does_not_load_is_built_again(box, monkeypatch, caplog):
    box.open().engine.close()
    monkeypatch.setattr(EngineCache, "load_engine", lambda self, key: b"plan of 9.9\0" + box.model)
    opened = box.open()
    assert opened.built_s > 0
    assert "built again" in caplog.text
    opened.engine.close()
    assert box.gpu.opened == 0


def test_a_jetson_maps_memory_and_a_card_copies_it(box, tmp_path):
    with box.open().engine as engine:
        engine.infer(good_frame())
    assert "host mapped" in box.gpu.calls
    assert not [call for call in box.gpu.calls if call.startswith("device")]
    card = Box(tmp_path / "card", gpu=DESKTOP)
    with card.open().engine as engine:
        engine.infer(good_frame())
    assert "host mapped" not in card.gpu.calls
    assert len([call for call in card.gpu.calls if call.startswith("device")]) == 4


def test_a_frame_is_one_launch(box):
    with box.open().engine as engine:
        assert engine.is_graph
        before = len(box.gpu.calls)
        for _ in range(3):
            engine.infer(good_frame())
        assert box.gpu.calls[before:] == ["cuGraphLaunch"] * 3
        assert engine.gpu_ms() == 0.5
    assert not box.gpu.graphs


def test_without_a_graph_frames_run_kernel_by_kernel(box, caplog):
    with box.open().engine as engine:
        wanted = as_bytes(engine.infer(good_frame()))
    box.gpu.refuse_capture = True
    with box.open().engine as engine:
        assert not engine.is_graph
        assert as_bytes(engine.infer(good_frame())) == wanted
    assert "no CUDA graph" in caplog.text


def test_a_graph_that_leaves_something_out_is_found_at_the_start(tmp_path):
    card = Box(tmp_path, gpu=DESKTOP)
    card.gpu.forget_in_graph = True
    with pytest.raises(EngineError, match="CUDA graph computes another map_ae"):
        card.open()
    assert card.gpu.opened == 0


def test_another_thread_is_refused(box):
    caught = []

    def work(engine):
        try:
            engine.infer(good_frame())
        except EngineError as exc:
            caught.append(str(exc))

    with box.open().engine as engine:
        thread = threading.Thread(target=work, args=(engine,))
        thread.start()
        thread.join(30)
        engine.infer(good_frame())
    assert "another thread" in caught[0]


def test_the_profile_has_every_layer_and_leaves_the_engine_alone(box):
    with box.open().engine as engine:
        wanted = as_bytes(engine.infer(good_frame()))
        layers = engine.profile(good_frame(), 4)
        assert [(layer.name, layer.mean_ms) for layer in layers] == [("teacher.0 + Relu", 0.25), ("teacher.1", 0.5)]
        assert as_bytes(engine.infer(good_frame())) == wanted
        assert box.gpu.calls[-1] == "cuGraphLaunch"
        with pytest.raises(EngineError, match="at least 1 run to profile, got 0"):
            engine.profile(good_frame(), 0)


def test_builder_settings_reach_tensorrt(box):
    chosen = Settings(cache=box.settings.cache, workspace_mib=300, optimization_level=4, timing_iterations=7)
    box.open(settings=chosen).engine.close()
    config = box.trt.last_config
    assert config._limits == {"WORKSPACE": 300 * 2**20}
    assert (config.builder_optimization_level, config.avg_timing_iterations) == (4, 7)
    assert config.profiling_verbosity.name == "DETAILED"
    assert config._flags == set()
    box.open(settings=Settings(cache=box.settings.cache, tf32=True)).engine.close()
    assert {flag.name for flag in box.trt.last_config._flags} == {"TF32"}


def test_progress_is_reported_and_can_stop_a_build(box):
    seen = []

    def report(*step):
        seen.append(step)
        return True

    box.open(report=report).engine.close()
    assert seen == [("Building", 1, 2), ("Building", 2, 2)]
    with pytest.raises(EngineError, match=r"cannot build the model \(Build canceled by user\)"):
        box.open(rebuild=True, report=lambda *step: False)
    assert box.gpu.opened == 0


def test_a_build_that_fails_says_why(box):
    with pytest.raises(
        EngineError, match=r"tensorrt 10\.3\.0: cannot build .*any implementation for node teacher\.1.*raise workspace_mib"
    ):
        box.open(settings=Settings(cache=box.settings.cache, workspace_mib=16))
    assert box.gpu.opened == 0


def test_the_parsers_errors_are_told_with_their_nodes(box):
    odd = onnx.load_from_string(box.model)
    next(node for node in odd.graph.node if node.op_type == "AveragePool").op_type = "Convolution"
    with pytest.raises(EngineError, match=r"its parser refuses it: Convolution 'odd': .*; and 2 more"):
        box.open(odd.SerializeToString())


def test_auto_takes_tensorrt_only_where_there_is_a_gpu(tiny, backend, monkeypatch):  # noqa: F811
    with open_engine(tiny, "auto", 1) as engine:
        assert engine.name.startswith("openvino")
    monkeypatch.setattr(registry, "gpu_node", lambda: "/dev/nvhost-gpu")
    monkeypatch.setattr("edge.engine.registry.importlib.util.find_spec", lambda name: object())
    with open_engine(tiny, "auto") as engine:
        assert engine.name.startswith("tensorrt")


def test_auto_goes_on_to_the_cpu_where_the_gpu_cannot_be_used(tiny, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr(registry, "gpu_node", lambda: "/dev/nvhost-gpu")
    monkeypatch.setattr("edge.engine.registry.importlib.util.find_spec", lambda name: object())

    def broken():
        raise EngineError("CUDA: cuInit failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)")

    monkeypatch.setattr(opening, "Driver", broken)
    with open_engine(tiny, "auto", 1) as engine:
        assert engine.name.startswith("openvino")
    assert "engine tensorrt cannot run this model" in caplog.text


def test_int8_models_reach_tensorrt_unchanged(box, ints):  # noqa: F811
    opened = box.open(ints.model, precision="int8")
    with opened.engine as engine, open_engine(ints, "onnxruntime", 1) as reference:
        assert len(opened.convolutions.integer) == 4
        assert engine.infer(noise(3)).raw == pytest.approx(reference.infer(noise(3)).raw, rel=1e-5)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, "python3-libnvinfer"),
        (type("Stub", (), {"__version__": "11.0", "__file__": "/stub.py"}), "package without Builder"),
        (type("Old", (), {"__version__": "8.6.1", "Builder": object}), r"10\.3 or later .*found 8\.6\.1"),
        (type("Odd", (), {"__version__": "?", "Builder": object}), "found ?"),
    ],
)
def test_what_is_no_usable_tensorrt_is_named(monkeypatch, module, message):
    def find(name):
        if module is None:
            raise ModuleNotFoundError("No module named 'tensorrt'")
        return module

    monkeypatch.setattr("edge.engine.tensorrt.vendor.importlib.import_module", find)
    with pytest.raises(EngineError, match=message):
        vendor.load_tensorrt()


def test_the_model_fits_every_recorded_version(tmp_path):
    frame = noise(5)
    results = set()
    for version in VERSIONS:
        with Box(tmp_path / version, version).open(pdn_model()).engine as engine:
            results.add(np.float32(engine.infer(frame).raw).tobytes())
            assert engine.profile(frame, 1)
    assert len(results) == 1
