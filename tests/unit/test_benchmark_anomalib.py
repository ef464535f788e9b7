"""The page beside anomalib claims no percentile its frames do not carry, and compares networks that are the same."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge.errors import EngineError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MS = 1_000_000


@pytest.fixture
def script(monkeypatch):
    """Imported as a script imports its neighbours: by the folder they lie in."""
    pytest.importorskip("torch", reason="torch is not installed (pip install torch)")
    pytest.importorskip("openvino", reason="openvino is not installed (pip install openvino)")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("against_anomalib")


def page_of(script, frames: int) -> str:
    rows = {name: script.row_of([(i + 1) * MS for i in range(frames)]) for pair in script.AIMS for name in pair[1:3]}
    found = {"anomalib": "2.7.0", "scores_apart": 1e-7, "date_utc": "2026-11-22", "milliseconds": {"1": rows}}
    text: str = script.page(found, "python benchmarks/against_anomalib.py")
    return text


@pytest.mark.parametrize(
    ("frames", "header", "row"),
    [
        (24, "| engine | p50 ms | largest ms | fastest ms | n |", "| 12.0 | 24.0 | 1.0 | 24 |"),
        (99, "| engine | p50 ms | largest ms | fastest ms | n |", "| 50.0 | 99.0 | 1.0 | 99 |"),
        (100, "| engine | p50 ms | p99 ms | largest ms | fastest ms | n |", "| 50.0 | 99.0 | 100.0 | 1.0 | 100 |"),
        (999, "| engine | p50 ms | p99 ms | largest ms | fastest ms | n |", "| 500.0 | 990.0 | 999.0 | 1.0 | 999 |"),
        (1000, "| engine | p50 ms | p99 ms | p99.9 ms | fastest ms | n |", "| 500.0 | 990.0 | 999.0 | 1.0 | 1000 |"),
    ],
)
def test_a_percentile_is_told_of_as_many_frames_as_it_takes(script, frames, header, row):
    text = page_of(script, frames)
    assert header in text
    assert f"| anomalib fp32 {row}" in text
    rule = text.splitlines()[text.splitlines().index(header) + 1]
    assert rule.count("|") == header.count("|")


def test_what_is_stored_claims_no_more_than_the_page(script):
    assert set(script.row_of([MS] * 99)) == {"p50", "largest", "fastest", "n"}
    assert set(script.row_of([MS] * 100)) == {"p50", "p99", "largest", "fastest", "n"}
    assert set(script.row_of([MS] * 1000)) == {"p50", "p99", "p999", "largest", "fastest", "n"}


def scoring(name: str, factor: float) -> SimpleNamespace:
    return SimpleNamespace(name=name, infer=lambda frame: float(frame.mean()) * factor)


def test_runtimes_that_give_other_scores_are_not_compared(script):
    frames = np.full((2, 8, 8, 3), 100, np.uint8)
    assert script.same_scores(scoring("one", 1.0), scoring("other", 1.0005), frames) == pytest.approx(5e-4)
    for factor in (1.002, float("nan")):
        with pytest.raises(EngineError, match="expected one and other to give the same scores"):
            script.same_scores(scoring("one", 1.0), scoring("other", factor), frames)


def test_an_onnx_file_runs_under_both_runtimes_and_gives_the_same_score(script, tmp_path):
    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["input"], ["score"], keepdims=0), helper.make_node("Relu", ["input"], ["map"])],
        "mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, shape),
        ],
    )
    path = tmp_path / "mean.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8).SerializeToString())
    engines = [script.InOnnxRuntime(path, script.ORT, 1), script.Compiled(script.to_openvino(path, None), "anomalib fp32", 1)]
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    for engine in engines:
        assert [engine.infer(frame) for frame in frames] == pytest.approx([frame.mean() / 255 for frame in frames], rel=1e-5)
    assert script.same_scores(*engines, list(frames)) < 1e-5
