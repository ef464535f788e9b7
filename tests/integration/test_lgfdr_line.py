"""LGFDR goes the whole way by the commands a user types: pictures, training, signed INT8 bundle, check, verdicts, evaluation."""

import json

import pytest

from edge.bundle.reader import open_bundle
from edge.bundle.signing import default_trust
from edge.cli import main
from export import pipeline
from tests.support.rig import Ear, Process, until

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("one_thread")]


def spoken(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def ear(mosquitto):
    heard = Ear(mosquitto.port)
    yield heard
    heard.close()


def test_from_pictures_to_verdicts(tmp_path, capsys, monkeypatch, mosquitto, ear):
    # The certificate's picture counts are made small: what they prove is tested elsewhere, that they are made is tested here.
    for name, count in {"RANGE_PICTURES": 3, "CERTIFICATE_DAMAGED": 6, "AGREEMENT_PICTURES": 4}.items():
        monkeypatch.setattr(pipeline, name, count)
    scenes, out, bundle = tmp_path / "scenes", tmp_path / "run", tmp_path / "tray-lgfdr.onbelt"
    assert (
        main(["scenes", str(scenes), "--size", "128", "--product", "tray", "--train", "8", "--validation", "16", "--test", "2"])
        == 0
    )
    capsys.readouterr()
    tray = scenes / "tray"
    knobs = ["local_width=16", "local_depth=1", "token_width=32", "token_layers=1", "batch=4", "damage_pictures=30"]
    words = ["train", str(tray), "--model", "lgfdr", "--size", "128", "--steps", "30", "--threads", "1", "--out", str(out)]
    assert main([*words, *(word for knob in knobs for word in ("--knob", knob)), "--json"]) == 0
    record = spoken(capsys)[-1]
    assert record["config"]["model"] == "lgfdr"
    assert record["config"]["knobs"]["local_width"] == 16

    assert (
        main(["export", str(out), str(tray), "--out", str(bundle), "--product", "tray", "--false-reject", "0.2", "--json"]) == 0
    )
    exported = spoken(capsys)[-1]
    assert exported["bytes"] == bundle.stat().st_size < 4_000_000
    opened = open_bundle(bundle, default_trust())
    assert (opened.manifest.model, opened.manifest.precision) == ("lgfdr", "int8")
    assert opened.manifest.provenance.recipe == "lgfdr"
    assert opened.manifest.provenance.teacher == record["teacher_sha256"]
    assert len(opened.manifest.calibration) == 8

    assert main(["check", str(bundle), "--engine", "openvino", "--threads", "1", "--no-budget", "--json"]) == 0
    checked = spoken(capsys)[-1]
    assert checked["golden"]["ok"], checked

    pictures = sorted((tray / "test" / "good").glob("*.png"))[:1] + sorted((tray / "test").rglob("*.png"))[-1:]
    assert main(["judge", str(bundle), *map(str, pictures), "--engine", "onnxruntime", "--threads", "1", "--json"]) == 0
    verdicts = spoken(capsys)
    assert len(verdicts) == 2
    for verdict in verdicts:
        assert (verdict["verdict"] == "reject") == (verdict["score"] > 1)
        assert 0 < verdict["p"] <= 1
        loud = {"structural": verdict["st"], "logical": verdict["ae"]}
        assert verdict["cause"] == (max(loud, key=loud.__getitem__) if verdict["verdict"] == "reject" else None)

    areas = []
    for model in (bundle, out):
        assert main(["evaluate", str(model), str(tray), "--json"]) == 0
        areas.append(spoken(capsys)[-1]["image_auroc"])
    assert areas[0] == pytest.approx(areas[1], abs=0.05), "the bundle tells what the float networks tell"

    assert main(["bench", str(bundle), "--engine", "openvino", "--threads", "1", "--frames", "12", "--json"]) == 0
    measured = spoken(capsys)[-1]
    assert (measured["model"], measured["n"]) == ("lgfdr", 12)
    assert 0 < measured["frame_to_verdict_ms"]["p50"] < 1000

    station = Process(
        tmp_path,
        mosquitto.port,
        model={"bundle": str(bundle), "threads": 1},
        camera={"kind": "folder", "folder": {"path": str(pictures[0].parent)}},
    ).start()
    line = station.line()
    try:
        assert until(lambda: ear.last("beat").get("armed") is True, 60), station.log.read_text()
        line.parts(4, 5)
        assert until(lambda: len(ear.verdicts()) == 4, 30), station.log.read_text()
        shown = sorted((tray / "test" / "good").glob("*.png"))
        assert main(["judge", str(bundle), *map(str, shown), "--engine", "openvino", "--threads", "1", "--json"]) == 0
        expected = {round(one["score"], 3) for one in spoken(capsys)}
        assert {round(one.score.cal, 3) for one in ear.verdicts()} == expected
        assert {one.verdict for one in ear.verdicts()} <= {"pass", "reject"}
    finally:
        line.close()
        code, _ = station.terminate()
    assert code == 0, station.log.read_text()
