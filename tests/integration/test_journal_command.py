"""onbelt journal on what a real daemon has written: the chain, the export that proves itself, the frame judged again."""

import csv
import json
import sqlite3
import urllib.request
from datetime import datetime, timezone

import pytest
from PIL import Image

from edge.bundle.signing import generate_key
from edge.cli import main
from edge.journal.evidence import frame_path, map_path
from edge.journal.reader import Reader
from edge.wire.verdict import decode_verdict
from tests.support.bundles import make_tiny_bundle
from tests.support.rig import Ear, Rig, is_bad, until

pytestmark = pytest.mark.broker
PARTS = 30


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, request):
    """A station after 30 parts, every third of them bad, all frames kept."""
    from tests.conftest import start_mosquitto, stop_process

    folder = tmp_path_factory.mktemp("station")
    broker = start_mosquitto(folder)
    generate_key(folder / "anchor.key")
    journal = {"path": str(folder / "journal.db"), "anchors": True, "anchor_s": 1.0, "anchor_key": str(folder / "anchor.key")}
    rig = Rig(folder, broker.port, evidence={"pass_every": 1}, page={"enabled": True, "port": 0}, journal=journal).start()
    ear = Ear(broker.port)
    try:
        rig.parts(PARTS, rate_hz=20)
        recorder = rig.daemon.recorder
        assert recorder is not None
        assert until(lambda: recorder.kept + recorder.lost == len(verdicts(folder)), 10)
        rig.page_answers = fetch(rig, next(one for one in verdicts(folder) if one.ev is not None).ev.url)  # type: ignore[attr-defined]
    finally:
        assert rig.stop() < 2.0
        assert until(lambda: len(ear.payloads("audit")) >= 2, 5)
        ear.close()
        stop_process(broker.process)
    (folder / "audit.log").write_bytes(b"\n".join(ear.payloads("audit")))
    rig.folder = folder  # type: ignore[attr-defined]
    return rig


@pytest.mark.parametrize("kept", ["journal.anchors", "audit.log"])
def test_the_heads_a_daemon_signed_prove_the_end(recorded, capsys, kept):
    """Beside the journal, and as somebody heard them on topic audit."""
    folder = recorded.folder
    words = ["journal", "verify", str(folder / "journal.db"), "--anchors", str(folder / kept)]
    assert main([*words, "--anchor-key", str(folder / "anchor.key.pub"), "--json"]) == 0
    anchors = json.loads(capsys.readouterr().out)["anchors"]
    assert anchors["held"] >= 2
    assert anchors["newest_n"] + anchors["after"] == PARTS


def fetch(rig, url):
    with urllib.request.urlopen(rig.daemon.facts.page_url.rstrip("/") + url, timeout=5) as answer:
        return answer.headers["Content-Type"], answer.read()


def verdicts(folder):
    with Reader(folder / "journal.db") as reader:
        return [decode_verdict(row.payload) for row in reader.rows(0, 1000)]


@pytest.fixture
def station(recorded, tmp_path):
    """A copy of its folder, to be spoilt."""
    for name in ("journal.db", "evidence", "bundle"):
        source = recorded.folder / name
        if source.is_dir():
            (tmp_path / name).mkdir()
            for file in source.rglob("*"):
                if file.is_file():
                    target = tmp_path / name / file.relative_to(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read_bytes())
        else:
            (tmp_path / name).write_bytes(source.read_bytes())
    return tmp_path


def replay(station, *arguments):
    bundle, trust = station / "bundle" / "tiny.onbelt", station / "bundle" / "trusted"
    return main(["journal", "replay", str(station / "journal.db"), str(bundle), "--trust", str(trust), *arguments])


def spoil(station, number, old, new):
    database = sqlite3.connect(station / "journal.db")
    (payload,) = database.execute("SELECT payload FROM verdict WHERE n = ?", (number,)).fetchone()
    assert old in payload
    database.execute("UPDATE verdict SET payload = ? WHERE n = ?", (payload.replace(old, new), number))
    database.commit()
    database.close()


def test_every_verdict_names_a_frame_that_is_there(recorded):
    found = verdicts(recorded.folder)
    named = [one for one in found if one.ev is not None]
    assert len(found) == PARTS
    assert len(named) > PARTS // 2, "a loaded machine may lose some, not most"
    for one in named:
        assert frame_path(recorded.folder / "evidence", one.ev.sha256).exists()
        assert map_path(recorded.folder / "evidence", one.ev.sha256).exists() == (one.score is not None)


def test_the_page_serves_the_frame_a_verdict_names(recorded):
    kind, body = recorded.page_answers
    assert kind == "image/png"
    assert body.startswith(b"\x89PNG")


def test_verify_holds_and_says_the_head(station, capsys):
    assert main(["journal", "verify", str(station / "journal.db"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["boots"], report["ok"]) == (PARTS, 1, True)
    assert main(["journal", "verify", str(station / "journal.db"), "--head", report["head"]]) == 0
    with sqlite3.connect(station / "journal.db") as database:
        database.execute("DELETE FROM verdict WHERE n = ?", (PARTS,))
    database.close()
    assert main(["journal", "verify", str(station / "journal.db")]) == 0, "an end cut off cannot be seen without the head"
    assert main(["journal", "verify", str(station / "journal.db"), "--head", report["head"]]) == 3
    assert "the end was cut off" in capsys.readouterr().err


def test_a_reject_turned_into_a_pass_is_found(station, capsys):
    number = next(n for n, one in enumerate(verdicts(station), 1) if one.verdict == "reject")
    spoil(station, number, b'"verdict":"reject"', b'"verdict":"invalid"')
    assert main(["journal", "verify", str(station / "journal.db")]) == 3
    assert f"row {number + 1}: expected prev" in capsys.readouterr().err or number == PARTS


def test_an_export_proves_itself_and_an_altered_one_does_not(station, capsys):
    out = station / "e.jsonl"
    assert main(["journal", "export", str(station / "journal.db"), "--out", str(out)]) == 0
    with Reader(station / "journal.db") as reader:
        assert out.read_bytes() == b"".join(row.payload + b"\n" for row in reader.rows(0, 1000))
    assert main(["journal", "verify", str(out)]) == 0
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:7] + lines[8:]))
    assert main(["journal", "verify", str(out)]) == 3
    out.write_bytes(b"x" * 5000)
    assert main(["journal", "verify", str(out)]) == 3
    assert "longer" in capsys.readouterr().err


def test_a_part_of_the_journal_as_a_table(station):
    found = verdicts(station)
    boundary = found[10].t.trig_us
    out = station / "t.csv"
    moment = datetime.fromtimestamp(boundary / 1_000_000, timezone.utc).isoformat()
    assert main(["journal", "export", str(station / "journal.db"), "--format", "csv", "--since", moment, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [one.id for one in found[10:]]
    assert {row["verdict"] for row in rows} == {one.verdict for one in found[10:]}


def test_replay_gives_the_same_scores(station, capsys):
    assert replay(station, "--exact", "--json") == 0
    *each, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    judged = [one for one in each if one["result"] == "same"]
    assert summary["judged"] == len(judged) > PARTS // 2
    assert {one["verdict"] for one in judged} >= {"pass", "reject"}
    assert all(one["raw"] == one["journal_raw"] for one in judged)
    assert replay(station, "--last", "3", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_replay_agrees_on_another_engine(station):
    assert replay(station, "--engine", "onnxruntime") == 0


def test_replay_finds_an_exchanged_frame(station, capsys):
    found = [one for one in verdicts(station) if one.ev is not None]
    good = next(one for one in found if one.verdict == "pass")
    bad = next(one for one in found if one.verdict == "reject")
    assert is_bad(bad.part.trig)
    folder = station / "evidence"
    frame_path(folder, bad.ev.sha256).write_bytes(frame_path(folder, good.ev.sha256).read_bytes())
    assert replay(station) == 3
    assert "altered or torn" in capsys.readouterr().out


def test_replay_finds_a_score_that_was_never_given(station, capsys):
    number, one = next((n, one) for n, one in enumerate(verdicts(station), 1) if one.ev is not None and one.score is not None)
    raw = json.dumps(one.score.raw).encode()
    spoil(station, number, b'"raw":' + raw, b'"raw":' + json.dumps(one.score.raw + 0.5).encode())
    assert replay(station) == 3
    assert "of the limit away" in capsys.readouterr().out


def test_replay_with_another_model_proves_nothing_and_says_so(station, capsys):
    path, _, trust = make_tiny_bundle(station / "other", limit=1.25)
    assert main(["journal", "replay", str(station / "journal.db"), str(path), "--trust", str(trust)]) == 1
    assert "nothing is proved" in capsys.readouterr().err


def test_frames_that_are_gone_are_counted_not_failed(station, capsys):
    kept = [one for one in verdicts(station) if one.ev is not None and one.score is not None]
    frame_path(station / "evidence", kept[0].ev.sha256).unlink()
    assert replay(station, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["gone"] == 1


def test_maps_are_pictures(station):
    one = next(one for one in verdicts(station) if one.ev is not None and one.verdict == "reject")
    with Image.open(map_path(station / "evidence", one.ev.sha256)) as gray:
        assert gray.mode == "L"
        assert gray.getextrema()[1] > 100, "above the limit"
