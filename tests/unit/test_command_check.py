"""`onbelt check` proves a bundle on this machine or says what does not hold; `bench` and `keygen` beside it."""

import json
import stat
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.bundle.manifest import Golden, Limit
from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import key_id, load_public
from edge.cli import main
from edge.commands.check import _print_report
from edge.engine import LayerTime, Scores, open_engine
from edge.engine.proof import measure_inference, percentiles_of, replay_golden
from tests.support.bundles import good_frame, make_tiny_bundle


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    make_tiny_bundle(folder)
    return folder


def check(shop, name: str = "tiny", *options: str, as_json: bool = True) -> int:
    words = ["check", str(shop / f"{name}.onbelt"), "--trust", str(shop / "trusted"), "--frames", "5", *options]
    return main([*words, "--json"] if as_json else words)


def report(capsys) -> dict[str, Any]:
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_good_bundle_holds(shop, capsys, engine):
    assert check(shop, "tiny", "--engine", engine) == 0
    found = report(capsys)
    assert found["ok"] is True
    assert found["engine"].startswith(engine)
    assert found["golden"]["ok"] is True
    assert found["golden"]["frames"] == 3
    assert found["golden"]["largest_difference"] < 1e-5
    assert found["budget"]["ok"] is True
    assert found["budget"]["infer_ms"]["n"] == 5
    assert found["certificate"]["flips"] == 0
    (public,) = (shop / "trusted").iterdir()
    assert found["key"] == key_id(load_public(public))


def test_the_report_in_text_names_every_part(shop, capsys):
    assert check(shop, as_json=False) == 0
    text = capsys.readouterr().out
    for part in (
        "signature    ok",
        "hashes       ok",
        "golden       ok",
        "budget       ok",
        "certificate  as signed",
        "flips: 0",
        "at most 5 %",
    ):
        assert part in text
    assert text.rstrip().endswith("everything holds")


def test_a_certificate_that_is_not_equal_to_float_is_said_loudly(shop, capsys):
    path, trust, _ = make_tiny_bundle(shop, name="weaker")
    bundle = open_bundle(path, trust)
    weaker = replace(bundle, certificate={"equal": False, "why_not": ["AUROC fell"]})
    _print_report(weaker, "engine", replay_golden(bundle, _Stored(bundle)), None, holds=True)
    text = capsys.readouterr().out
    assert "certificate  NOT equal to float" in text
    assert "AUROC fell" in text
    assert "budget       not timed" in text


class _Stored:
    """Gives the scores a bundle stores for its golden frames, in turn."""

    name, size = "stored", 64

    def __init__(self, bundle: Bundle) -> None:
        self._rows = iter([one.scores for one in bundle.golden])

    def infer(self, frame) -> Scores:
        raw, st, ae, global_ = next(self._rows)
        return Scores(raw, st, ae, global_, np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32))

    def profile(self, frame, runs) -> tuple[LayerTime, ...]:
        return ()

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Nothing to free."""


def test_wrong_golden_scores_fail(shop, capsys):
    make_tiny_bundle(shop, name="wrong", golden_error=0.01)
    assert check(shop, "wrong") == 3
    found = report(capsys)
    assert found["ok"] is False
    assert found["golden"]["ok"] is False
    assert found["golden"]["largest_difference"] == pytest.approx(0.01, rel=1e-3)
    assert [one["picture"] for one in found["golden"]["failed"]] == [
        "golden/good.png",
        "golden/structural.png",
        "golden/logical.png",
    ]
    assert check(shop, "wrong", as_json=False) == 3
    text = capsys.readouterr().out
    assert "golden       FAILED  0 of 3" in text
    assert "golden/good.png: expected raw" in text
    assert text.rstrip().endswith("NOT to be used on this machine")


def test_a_model_slower_than_its_budget_fails(shop, capsys):
    make_tiny_bundle(shop, name="slow", work=2, budget_ms=0.01)
    assert check(shop, "slow") == 3
    found = report(capsys)
    assert found["golden"]["ok"] is True
    assert found["budget"]["ok"] is False
    assert found["budget"]["infer_ms"]["p99"] > 0.01
    assert check(shop, "slow", "--no-budget") == 0
    assert report(capsys)["budget"] is None


def test_an_altered_bundle_fails_with_the_member(shop, capsys):
    data = bytearray((shop / "tiny.onbelt").read_bytes())
    at = data.index(b"golden/structural.png\x89PNG") + 60
    data[at] ^= 1
    (shop / "altered.onbelt").write_bytes(data)
    assert check(shop, "altered") == 3
    found = report(capsys)
    assert found["ok"] is False
    assert found["member"] == "golden/structural.png"
    assert "altered" in found["error"]
    assert check(shop, "altered", as_json=False) == 3
    assert "golden/structural.png" in capsys.readouterr().err


def test_a_model_that_breaks_the_graph_contract_fails(shop, capsys):
    make_tiny_bundle(shop, name="odd", model=b"\x08\x0a")
    assert check(shop, "odd") == 3
    assert report(capsys)["member"] == "model.onnx"
    assert check(shop, "odd", as_json=False) == 3
    assert "odd.onbelt: model.onnx: it has no graph" in capsys.readouterr().err


def test_a_model_whose_scores_are_not_finite_fails(shop, capsys):
    make_tiny_bundle(shop, name="nan", nan_above=1.0)
    assert check(shop, "nan") == 3
    found = report(capsys)
    assert (found["ok"], found["member"]) == (False, "golden/golden.json")
    assert "finite" in found["error"]


def test_the_stored_verdict_must_be_the_one_given(shop):
    """A golden frame whose scores are right but whose stored verdict is not: the bundle contradicts itself."""
    path, trust, _ = make_tiny_bundle(shop, name="contra")
    bundle = open_bundle(path, trust)
    with open_engine(bundle, "onnxruntime", 1) as engine:
        assert all(one.holds for one in replay_golden(bundle, engine))
        flipped = {"pass": "reject", "reject": "pass"}
        golden = tuple(msgspec.structs.replace(one, verdict=flipped[one.verdict]) for one in bundle.golden)
        contradicting = _with_golden(bundle, golden)
        assert not any(one.holds for one in replay_golden(contradicting, engine))
        # So close to the limit that the allowed difference spans it, either verdict may come out.
        raw = bundle.golden[0].scores[0]
        limit = msgspec.structs.replace(bundle.manifest.limit, raw=raw * (1 - 1e-4))
        near = _with_golden(bundle, (Golden("golden/good.png", "x", bundle.golden[0].scores, "pass"),), limit)
        assert replay_golden(near, engine)[0].holds


def _with_golden(bundle: Bundle, golden: tuple[Golden, ...], limit: Limit | None = None) -> Bundle:
    manifest = msgspec.structs.replace(bundle.manifest, limit=limit or bundle.manifest.limit)
    return replace(bundle, golden=golden, manifest=manifest)


def test_percentiles_are_times_that_were_measured():
    times = np.arange(1, 1001, dtype=np.int64) * 1_000_000
    found = percentiles_of(np.random.default_rng(0).permutation(times))
    assert (found.p50, found.p99, found.p999, found.n) == (500.0, 990.0, 999.0, 1000)
    few = percentiles_of(np.array([5, 1, 9], np.int64) * 1_000_000)
    assert (few.p50, few.p99, few.p999) == (5.0, 9.0, 9.0)


def test_a_slower_model_is_measured_as_slower(shop):
    quick, trust, _ = make_tiny_bundle(shop, name="quick")
    slow, _, _ = make_tiny_bundle(shop, name="slower", work=12)
    medians = []
    for path in (quick, slow):
        with open_engine(open_bundle(path, trust), "onnxruntime", 1) as engine:
            medians.append(measure_inference(engine, [good_frame()], 5).p50)
    assert medians[1] > 2 * medians[0]


def bench(shop, *options: str) -> int:
    return main(["bench", str(shop / "tiny.onbelt"), "--trust", str(shop / "trusted"), "--frames", "6", *options])


def test_bench_reports_every_stage(shop, capsys):
    assert bench(shop, "--json", "--engine", "onnxruntime", "--threads", "1") == 0
    found = report(capsys)
    assert found["engine"].startswith("onnxruntime")
    assert found["n"] == 6
    assert found["frame"] == [1920, 1200]
    for stage in ("fit", "infer", "judge", "frame_to_verdict"):
        times = found[f"{stage}_ms"]
        assert 0 < times["p50"] <= times["p99"] <= times["p999"]
    assert found["frame_to_verdict_ms"]["p50"] >= found["fit_ms"]["p50"]
    assert found["machine"]["cores"] >= 1


def test_bench_in_text(shop, capsys):
    assert bench(shop, "--width", "128", "--height", "96") == 0
    text = capsys.readouterr().out
    assert "6 frames of 128x96" in text
    stages = ["ms", "fit", "infer", "judge", "frame_to_verdict"]
    assert [line.split()[0] for line in text.splitlines()[1:]] == [*stages, "memory"]


def test_bench_times_the_first_frame_after_a_pause_and_what_memory_grows_by(shop, capsys):
    assert bench(shop, "--width", "128", "--height", "96", "--pause", "1", "--json") == 0
    found = report(capsys)
    assert found["pause_s"] == 1
    assert found["after_pause_ms"] > 0
    assert found["grown_kib"] < 1024
    assert bench(shop, "--width", "128", "--height", "96", "--pause", "1") == 0
    assert "first frame after 1 s: " in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_bench_profiles_layers(shop, capsys, engine):
    small = ("--width", "128", "--height", "96", "--engine", engine, "--threads", "1")
    assert bench(shop, *small, "--profile", "3", "--json") == 0
    layers = report(capsys)["layers"]
    assert sum(layer["share"] for layer in layers) == pytest.approx(1.0)
    assert {"int8", "float"} >= {layer["precision"] for layer in layers} - {""}
    assert max(layer["mean_ms"] for layer in layers) > 0
    assert bench(shop, *small, "--profile", "3") == 0
    text = capsys.readouterr().out
    head, *lines = text[text.index("layers, mean of 3 runs") :].splitlines()
    assert head.endswith(" ms in all:")
    shares = [float(line.split()[2].rstrip("%")) for line in lines]
    assert shares[: min(len(layers), 12)] == sorted(shares[: min(len(layers), 12)], reverse=True)
    assert sum(shares) == pytest.approx(100, abs=1)
    assert bench(shop, *small, "--json") == 0
    assert "layers" not in report(capsys)


def test_bench_refuses_a_frame_too_small_to_judge(shop, capsys):
    assert bench(shop, "--width", "8") == 1
    assert "at least 16 px" in capsys.readouterr().err


def test_keygen_writes_a_pair_that_signs_and_is_trusted(tmp_path, capsys):
    assert main(["keygen", str(tmp_path / "signing.key"), "--json"]) == 0
    found = report(capsys)
    assert stat.S_IMODE((tmp_path / "signing.key").stat().st_mode) == 0o600
    assert found["private"] == str(tmp_path / "signing.key")
    assert found["public"] == str(tmp_path / "signing.key.pub")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "signing.key.pub").rename(tmp_path / "trusted" / "signing.pub")
    path, trust, _ = make_tiny_bundle(tmp_path)
    assert open_bundle(path, trust).key_id == found["key"]


def test_keygen_never_overwrites(tmp_path, capsys):
    assert main(["keygen", str(tmp_path / "k")]) == 0
    before = (tmp_path / "k").read_bytes()
    assert "/etc/onbelt/trusted" in capsys.readouterr().out
    assert main(["keygen", str(tmp_path / "k")]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (tmp_path / "k").read_bytes() == before
