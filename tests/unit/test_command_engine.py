"""`onbelt engine` builds, proves, times and explains; on fakes here, on a GPU in test_tensorrt_gpu.py."""

import argparse
import json

import pytest

from edge.commands import engine as command
from edge.engine.tensorrt import opening
from edge.errors import BundleError, ConfigError, EngineError
from tests.support import qdq_models
from tests.support.bundles import make_tiny_bundle
from tests.support.fake_gpu import FakeGpu
from tests.support.fake_tensorrt import make_tensorrt
from tests.unit.test_engines import int8_bundle


@pytest.fixture
def shop(tmp_path, monkeypatch):
    gpu = FakeGpu()
    trt = make_tensorrt("10.3.0", gpu)
    monkeypatch.setattr(opening, "load_tensorrt", lambda: trt)
    monkeypatch.setattr(opening, "open_cuda", gpu.cuda)
    monkeypatch.setattr(opening, "Driver", gpu.driver)
    (tmp_path / "tensorrt.toml").write_text(f'cache = "{tmp_path / "engines"}"\n')
    make_tiny_bundle(tmp_path)
    return tmp_path


def call(shop, *, name="tiny", as_json=True, **options):
    values = {"rebuild": False, "only_look": False, "frames": 5, "profile": None, "pause": None, **options}
    settings = shop / "tensorrt.toml"
    return command.run(
        argparse.Namespace(bundle=shop / f"{name}.onbelt", trust=[shop / "trusted"], settings=settings, json=as_json, **values)
    )


def report(capsys):
    return json.loads(capsys.readouterr().out)


def test_it_builds_proves_and_times(shop, capsys):
    assert call(shop, profile=3, pause=1) == 0
    found = report(capsys)
    assert found["engine"] == "tensorrt 10.3.0 fp32 Orin"
    assert found["golden"] == {"ok": True, "frames": 3, "largest_difference": pytest.approx(0, abs=1e-5), "agreement": 1e-3}
    assert found["built_s"] >= 0
    assert found["cuda_graph"] is True
    assert found["gpu_ms"] == 0.5
    assert found["infer_ms"]["n"] == 5
    assert found["after_pause_ms"] > 0
    assert found["layers"][0] == {"name": "teacher.0 + Relu", "mean_ms": 0.25, "precision": "", "share": pytest.approx(1 / 3)}
    assert len(list((shop / "engines").glob("*.engine"))) == 1
    assert call(shop) == 0
    assert report(capsys)["built_s"] == 0.0


def test_the_text_says_what_matters(shop, capsys):
    assert call(shop, as_json=False, profile=2) == 0
    text = capsys.readouterr().out
    for part in (
        "tensorrt 10.3.0 fp32 Orin, SM 8.7, 8 multi",
        "golden   ok, 3 frames",
        "one CUDA graph",
        "0.5000 ms  66.7%  -      teacher.1",
    ):
        assert part in text


def test_golden_frames_that_do_not_hold_end_with_3(shop, capsys):
    make_tiny_bundle(shop, name="wrong", golden_error=0.5)
    assert call(shop, name="wrong") == 3
    assert report(capsys)["golden"]["ok"] is False


def test_looking_needs_neither_gpu_nor_tensorrt(shop, capsys, monkeypatch):
    def absent(*_):
        raise EngineError("not here")

    monkeypatch.setattr(opening, "Driver", absent)
    monkeypatch.setattr(opening, "load_tensorrt", absent)
    int8_bundle(shop, "padded", qdq_models.behind_pad())
    assert call(shop, name="padded", only_look=True, as_json=False) == 0
    text = capsys.readouterr().out
    assert "3 convolutions in INT8, 1 in float" in text
    assert "t13 stays in float: its input comes from Pad 'pad'" in text
    with pytest.raises(EngineError, match="not here"):
        call(shop)


def test_a_model_not_for_tensorrt_ends_before_the_gpu_is_asked(shop):
    int8_bundle(shop, "odd", qdq_models.asymmetric())
    with pytest.raises(EngineError, match="found zero point 3"):
        call(shop, name="odd")


def test_a_model_that_breaks_the_contract_is_the_bundles_fault(shop):
    int8_bundle(shop, "small", qdq_models.half_precision(), size=96)
    with pytest.raises(BundleError, match=r"small\.onbelt: model\.onnx: expected inputs frame"):
        call(shop, name="small")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workspace_mib = 1\n", r"workspace_mib"),
        ("colour = 1\n", "unknown field `colour`"),
        ('memory = "fast"\n', "memory"),
        ("= 1\n", "Invalid statement|docs/jetson"),
        ("#" * 20000, "at most 16384 bytes"),
    ],
)
def test_settings_that_are_wrong_are_refused(shop, text, message):
    (shop / "tensorrt.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        call(shop)
