"""`onbelt limit`: from good parts to a signed limit that judge, check and daemon take; no promise the parts do not carry."""

import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibration.compare import two_sample_p
from edge.bundle.reader import open_bundle
from edge.cli import main
from edge.journal.store import Entry, Journal
from edge.limits.file import read_limit, write_limit
from edge.wire import verdict as wire
from tests.support.bundles import bad_frame, expected_scores, good_frame, make_key, make_tiny_bundle
from tests.support.journals import BOOT, payload
from tests.support.limits import form_for

PARTS = 60  # a guarantee of 5 % at 90 % takes 45


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    make_tiny_bundle(folder)
    (folder / "good").mkdir()
    for i in range(PARTS):
        Image.fromarray(good_frame(seed=i)).save(folder / "good" / f"{i:03}.png")
    return folder


def limit(shop, *words: str, as_json: bool = True) -> int:
    common = ["--trust", str(shop / "trusted"), "--engine", "onnxruntime", "--threads", "1"]
    return main(["limit", str(shop / "tiny.onbelt"), *words, *common, *(["--json"] if as_json else [])])


def fit(shop, out, *words: str, sources: tuple[str, ...] = ("good",)) -> int:
    places = [str(shop / source) for source in sources]
    signed = ["--key", str(shop / "signing.key"), "--approved-by", "A. Miller", "--out", str(out)]
    return limit(shop, *(["--good", *places] if places else []), *signed, "--confidence", "0.9", *words)


def report(capsys) -> dict[str, Any]:
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_from_pictures_to_a_limit_that_judges(shop, tmp_path, capsys):
    out = tmp_path / "tiny.limit"
    assert fit(shop, out) == 0
    found = report(capsys)
    raws = sorted(expected_scores(good_frame(seed=i))[0] for i in range(PARTS))
    assert found["kind"] == "guarantee"
    assert (found["n"], found["needed"], found["repeated"]) == (PARTS, 45, 0)
    assert found["limit"] == pytest.approx(raws[found["rank"] - 1], abs=1e-5)
    assert "guarantee: at most 5.00% of good parts" in found["promise"]
    # The same file judges, checks and says what it promises.
    Image.fromarray(bad_frame(value=120)).save(tmp_path / "faint.png")  # 0.4: below the bundle's limit, above the new one
    for words, verdict in (((), "pass"), (("--limit", str(out)), "reject")):
        judge = ["judge", str(shop / "tiny.onbelt"), str(tmp_path / "faint.png"), "--trust", str(shop / "trusted"), "--json"]
        assert main([*judge, *words]) == 0
        assert report(capsys)["verdict"] == verdict
    check = ["check", str(shop / "tiny.onbelt"), "--limit", str(out), "--trust", str(shop / "trusted"), "--no-budget", "--json"]
    assert main(check) == 0
    assert report(capsys)["limit"]["raw"] == found["limit"]
    assert limit(shop, "--limit", str(out)) == 0
    assert report(capsys)["version"] == 1


def test_too_few_parts_give_an_estimate_with_its_interval(shop, tmp_path, capsys):
    assert fit(shop, tmp_path / "few.limit", "--false-reject", "0.005") == 0
    found = report(capsys)
    assert found["kind"] == "estimate"
    assert found["needed"] == 460
    assert found["interval"][0] <= found["interval"][1]
    _, trust, _ = make_tiny_bundle(shop)
    form = read_limit(tmp_path / "few.limit", trust).form
    assert (form.limit.confidence, form.rank) == (0.0, 0)
    words = ["--false-reject", "0.005", "--good", str(shop / "good"), "--key", str(shop / "signing.key"), "--approved-by", "A"]
    assert limit(shop, *words, "--out", str(tmp_path / "few.limit"), as_json=False) == 0
    text = capsys.readouterr().out
    assert "estimate, no guarantee" in text
    assert "a guarantee takes 598 good parts" in text


def test_a_picture_given_twice_counts_once(shop, tmp_path, capsys):
    """Ten copies of a folder would else make a guarantee of nothing."""
    (tmp_path / "copies").mkdir()
    for i in range(50):
        Image.fromarray(good_frame(seed=i % 9)).save(tmp_path / "copies" / f"{i}.png")
    assert fit(shop, tmp_path / "copies.limit", sources=(str(tmp_path / "copies"),)) == 0
    found = report(capsys)
    assert (found["n"], found["repeated"], found["kind"]) == (9, 41, "estimate")


def test_a_limit_past_a_known_defect_must_be_accepted(shop, tmp_path, capsys):
    (tmp_path / "wild").mkdir()
    for i in range(PARTS):
        Image.fromarray(bad_frame(value=205, seed=i)).save(tmp_path / "wild" / f"{i}.png")
    wild = (str(tmp_path / "wild"),)
    assert fit(shop, tmp_path / "wild.limit", sources=wild) == 1
    assert "golden pictures pass that must be rejected: golden/logical.png, golden/structural.png" in capsys.readouterr().err
    assert not (tmp_path / "wild.limit").exists()
    assert fit(shop, tmp_path / "wild.limit", "--accept-missed", sources=wild) == 0
    assert report(capsys)["lets_pass"] == ["golden/logical.png", "golden/structural.png"]
    assert fit(shop, tmp_path / "wild.limit", "--pool", sources=wild) == 1
    assert "cannot be pooled" in capsys.readouterr().err


def test_pooling_adds_and_counts_versions(shop, tmp_path, capsys):
    first, second = tmp_path / "first.limit", tmp_path / "second.limit"
    assert fit(shop, first) == 0
    (tmp_path / "more").mkdir()
    for i in range(20):
        Image.fromarray(good_frame(seed=1000 + i)).save(tmp_path / "more" / f"{i}.png")
    assert fit(shop, second, "--pool", "--limit", str(first), sources=(str(tmp_path / "more"),)) == 0
    capsys.readouterr()
    _, trust, _ = make_tiny_bundle(shop)
    form = read_limit(second, trust).form
    assert (form.version, form.source.new, form.source.pooled, form.limit.n) == (2, 20, PARTS, PARTS + 20)
    assert {len(values) for values in form.branches.values()} == {PARTS + 20}


def test_a_refit_in_the_same_place_counts_on(shop, tmp_path, capsys):
    """A station's limit is refitted where it lies; two files of version 1 could not be told apart in its record."""
    out, other = tmp_path / "tiny.limit", tmp_path / "other.limit"
    versions = []
    for words in ((), (), ("--limit", str(out))):
        assert fit(shop, out, *words) == 0
        versions.append(report(capsys)["version"])
    assert fit(shop, other, "--limit", str(out)) == 0
    versions.append(report(capsys)["version"])
    assert fit(shop, out, "--limit", str(other)) == 0
    versions.append(report(capsys)["version"])
    assert fit(shop, other) == 0, "without --limit, and a version of its own there"
    versions.append(report(capsys)["version"])
    assert versions == [1, 2, 3, 4, 5, 5]


def test_who_signs_again_counts_on_though_this_machine_does_not_trust_the_key(shop, tmp_path, capsys):
    """Limits are made where the parts are, with a key that only the boxes may know."""
    make_key(tmp_path)
    for version in (1, 2):
        assert fit(shop, tmp_path / "tiny.limit", "--key", str(tmp_path / "signing.key")) == 0
        assert report(capsys)["version"] == version


def test_a_limit_of_another_model_does_not_count(shop, tmp_path, capsys):
    out = tmp_path / "station.limit"
    write_limit(out, form_for("ab" * 32, version=7), make_key(shop)[0])
    assert fit(shop, out) == 0
    assert report(capsys)["version"] == 1


def test_what_cannot_be_counted_on_is_not_replaced(shop, tmp_path, capsys):
    notes, strange = tmp_path / "notes.txt", tmp_path / "strange.limit"
    notes.write_text("do not lose this")
    (tmp_path / "stranger").mkdir()
    write_limit(strange, form_for("ab" * 32), make_key(tmp_path / "stranger")[0])
    for out in (notes, strange):
        before = out.read_bytes()
        assert fit(shop, out) == 2
        assert re.search(r"--out: .*name another file, or move it away", capsys.readouterr().err)
        assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--good", "good", "--out", "x.limit"], "--approved-by"),
        (["--good", "good", "--approved-by", "A"], "--out: expected the limit file to write, .*--report DIR"),
        (["--approved-by", "A", "--out", "x.limit"], "--out: expected --good or --journal beside it"),
        (["--bad", "good"], "--bad: expected --report beside it"),
        (["--good", "good", "--approved-by", "A", "--out", "x.limit", "--journal", "j.db"], "both"),
        (["--approved-by", "A", "--out", "x.limit", "--journal", "j.db"], "--journal and --parts"),
        (["--approved-by", "A", "--out", "x.limit", "--journal", "j.db", "--parts", "1-2"], "onbelt keygen|BOOT:FIRST-LAST"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_judged(shop, capsys, words, said, monkeypatch):
    monkeypatch.chdir(shop)
    assert limit(shop, *words) == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_report_names_the_parts_that_set_the_limit_shows_them_and_changes_nothing(shop, tmp_path, capsys):
    (tmp_path / "green").mkdir()
    for i in range(12):
        Image.fromarray(bad_frame("logical", value=100 + 3 * i, seed=90 + i)).save(tmp_path / "green" / f"{i}.png")
    words = ["--good", str(shop / "good"), "--bad", str(tmp_path / "green"), "--report", str(tmp_path / "report")]
    assert limit(shop, *words, "--confidence", "0.9", as_json=False) == 0
    text = capsys.readouterr().out
    raws = [expected_scores(good_frame(seed=i))[0] for i in range(PARTS)]
    highest = f"{int(np.argmax(raws)):03}.png"
    assert re.search(rf"1\. .*{highest}", text)
    found = json.loads((tmp_path / "report" / "whatif.json").read_text())
    fitted = found["limit"]["value"]
    bad = [expected_scores(bad_frame("logical", value=100 + 3 * i, seed=90 + i))[0] for i in range(12)]
    assert found["now"]["missed"]["green"]["count"] == sum(raw <= fitted for raw in bad) > 0
    assert found["names"]["1"].endswith(highest)
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("data:image/jpeg") == 2 * (len(found["setters"]) + found["now"]["missed"]["green"]["count"])
    assert "http" not in page.replace("http-equiv", ""), "the page loads nothing"
    assert not list(tmp_path.glob("*.limit"))
    # Without parts of one's own: those the limit in force was fitted on, with the picture the bundle keeps.
    assert limit(shop, "--report", str(tmp_path / "own")) == 0
    assert report(capsys)["report"].endswith("own")
    assert "calibration part" in (tmp_path / "own" / "index.html").read_text()


def test_bad_parts_never_shape_a_limit(shop, tmp_path, capsys):
    assert fit(shop, tmp_path / "x.limit", "--bad", str(shop / "good")) == 2
    assert "never fitted on bad parts" in capsys.readouterr().err
    assert limit(shop, "--report", str(tmp_path / "r"), "--out", str(tmp_path / "x.limit"), "--approved-by", "A") == 2
    assert "expected --good or --journal" in capsys.readouterr().err


def judged(bundle, seq: int, prev: str, raw: float) -> bytes:
    """A verdict of this bundle about a part with this score."""
    model, recipe, in_force = wire.references(bundle.manifest, bundle.sha256)
    plain = wire.decode_verdict(payload(seq, prev))
    name = "pass" if raw <= bundle.manifest.limit.raw else "reject"
    return wire.encode_verdict(
        wire.Verdict(
            **{
                **{field: getattr(plain, field) for field in plain.__struct_fields__},
                "verdict": name,
                "reason": [] if name == "pass" else ["structural"],
                "score": wire.Score(raw, round(raw, 4), 0.5, round(raw, 4), 0.25, 0.125),
                "ctx": wire.Context(recipe, model, in_force, "chk-20261122-060000"),
                "cam": wire.Cam(["c1"], ["c1"], 1.0),
            }
        )
    )


@pytest.fixture
def journal(shop, tmp_path):
    """80 judged parts of the shop's bundle, two of them rejected, and one that could not be judged."""
    path, trust, _ = make_tiny_bundle(shop)
    bundle = open_bundle(path, trust)
    scores = np.random.default_rng(3).uniform(0.1, 0.9, 80).round(5)
    scores[[10, 20]] = 1.1, 1.2
    with Journal(tmp_path / "j.db", "st2", 2**24) as store:
        for seq, raw in enumerate(scores, start=1):
            store.append([Entry(BOOT, seq, judged(bundle, seq, store.head, float(raw)))])
        store.append([Entry(BOOT, 81, payload(81, store.head))])
    return tmp_path / "j.db", scores


def test_from_the_journal_with_the_rejected_parts(shop, journal, tmp_path, capsys):
    path, scores = journal
    words = ["--journal", str(path), "--parts", f"{BOOT}:1-81"]
    assert fit(shop, tmp_path / "j.limit", *words, sources=()) == 0
    found = report(capsys)
    assert (found["new"], found["invalid"], found["kind"]) == (80, 1, "guarantee")
    # The rejected parts count: a limit on the others alone would only ever fall.
    assert found["limit"] >= np.sort(scores)[found["rank"] - 1]
    assert found["limit"] == pytest.approx(np.sort(scores)[found["rank"] - 1], rel=1e-5)
    _, trust, _ = make_tiny_bundle(shop)
    form = read_limit(tmp_path / "j.limit", trust).form
    assert form.branches["ae"] == [0.25] * 80


def test_master_parts_among_them_are_left_out(shop, journal, tmp_path, capsys):
    path, _ = journal
    words = ["--journal", str(path), "--parts", f"{BOOT}:1-81", "--masters", "21"]
    assert fit(shop, tmp_path / "j.limit", *words, sources=()) == 0
    found = report(capsys)
    assert (found["new"], found["invalid"]) == (79, 2)


def test_a_range_the_journal_does_not_hold_whole_is_refused(shop, journal, tmp_path, capsys):
    words = ["--journal", str(journal[0]), "--parts", f"{BOOT}:1-90"]
    assert fit(shop, tmp_path / "j.limit", *words, sources=()) == 1
    assert "expected 90 parts" in capsys.readouterr().err


def test_parts_judged_under_another_limit_are_refused(shop, journal, tmp_path, capsys):
    other = tmp_path / "other.limit"
    assert fit(shop, other) == 0
    capsys.readouterr()
    words = ["--journal", str(journal[0]), "--parts", f"{BOOT}:1-80", "--limit", str(other)]
    assert fit(shop, tmp_path / "j.limit", *words, sources=()) == 1
    assert "that were in force then" in capsys.readouterr().err


def test_the_comparison_agrees_with_scipy():
    from scipy import stats

    rng = np.random.default_rng(0)
    for n, m, shift in ((600, 400, 0.0), (80, 300, 0.3), (50, 50, 1.5)):
        a, b = rng.normal(size=n), rng.normal(shift, 1, m)
        assert two_sample_p(a, b) == pytest.approx(stats.ks_2samp(a, b, method="asymp").pvalue, rel=0.35, abs=0.02)
    assert two_sample_p(np.arange(5.0), np.arange(5.0)) == 1.0
    with pytest.raises(ValueError, match="two samples"):
        two_sample_p(np.empty(0), np.arange(3.0))
