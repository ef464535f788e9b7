"""Limits for a cause or a place: they only reject more, they say where, and the promise of all together holds."""

import json

import msgspec
import numpy as np
import pytest
from PIL import Image

from calibration.limit import parts_needed
from calibration.rules import parse_rule, shares
from edge.bundle.manifest import Limit, Rule, wrong_rule
from edge.bundle.reader import open_bundle
from edge.cli import main
from edge.engine.base import Scores
from edge.errors import ConfigError
from edge.judge import Judge
from edge.limits.apply import with_limit
from edge.limits.file import read_limit
from edge.limits.rules import RuleCells
from edge.wire.verdict import references
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle


def scores(st=0.0, ae=0.0, at=(3, 4), raw=None):
    """An 8x8 map with one cell set in each branch."""
    map_st, map_ae = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    map_st[at], map_ae[at] = st, ae
    return Scores(max(st, ae) if raw is None else raw, st, ae, 0.0, map_st, map_ae)


@pytest.fixture
def bundle(tmp_path):
    path, trust, _ = make_tiny_bundle(tmp_path)
    return open_bundle(path, trust)


def judge_with(bundle, *rules):
    limit = msgspec.structs.replace(bundle.manifest.limit, rules=list(rules))
    return Judge(msgspec.structs.replace(bundle.manifest, limit=limit))


def test_a_rule_rejects_what_the_fused_score_lets_pass_and_says_its_cause_and_place(bundle):
    """The tiny bundle's limits are all 1.0; the map is 8 cells of 16 (4 px of 64)."""
    rule = Rule("label", "ae", 0.5, 0.001, [0.2, 0.2, 0.4, 0.3])
    judge = judge_with(bundle, rule)
    inside, outside = judge.judge(scores(ae=0.6)), judge.judge(scores(ae=0.6, at=(7, 7)))
    assert (outside.verdict, outside.cal) == ("pass", pytest.approx(0.6))
    assert (inside.verdict, inside.cause, inside.cal) == ("reject", "logical", pytest.approx(1.2))
    (region,) = inside.regions
    assert region.branch == "ae"
    assert region.peak == pytest.approx(1.2)
    assert 0.2 < region.x + region.w / 2 < 0.6
    assert judge.judge(scores(ae=0.5)).verdict == "pass", "at the limit a part passes"
    assert judge.judge(scores(st=0.9)).verdict == "pass", "of another branch it sees nothing"
    # p is about the fused score: the rule does not change it.
    assert inside.p == outside.p == judge_with(bundle).judge(scores(ae=0.6)).p


@pytest.mark.parametrize("seed", range(5))
def test_rules_only_ever_reject_more(bundle, seed):
    rng = np.random.default_rng(seed)
    plain, ruled = judge_with(bundle), judge_with(bundle, Rule("st", "st", 0.8, 0.001), Rule("g", "global", 0.4, 0.001))
    for _ in range(200):
        one = scores(*rng.uniform(0, 1.3, 2), at=tuple(rng.integers(0, 8, 2)))
        before, after = plain.judge(one), ruled.judge(one)
        assert not (before.verdict == "reject" and after.verdict == "pass")
        assert after.cal >= before.cal
        assert (after.verdict == "pass") == (after.cal <= 1.0)


def test_cells_of_a_box_are_those_it_touches_and_the_rim_reaches_to_the_edge():
    whole = RuleCells.of(Rule("a", "st", 1.0, 0.1), 24)
    assert (whole.rows, whole.columns) == (slice(0, 24), slice(0, 24))
    # 24 cells of 32 (4 px of 128 px); cell i spans (i + 3.625) / 32 to (i + 4.625) / 32.
    corner = RuleCells.of(Rule("a", "st", 1.0, 0.1, [0.0, 0.0, 0.05, 0.05]), 24)
    assert (corner.rows, corner.columns) == (slice(0, 1), slice(0, 1))
    box = RuleCells.of(Rule("a", "st", 1.0, 0.1, [8 / 32, 12 / 32, 2 / 32, 1 / 32]), 24)
    assert (box.columns, box.rows) == (slice(4, 7), slice(8, 10))
    assert RuleCells.of(Rule("a", "st", 1.0, 0.1, [0.9, 0.9, 0.1, 0.1]), 24).rows == slice(23, 24)


def test_the_promise_is_divided_and_takes_more_parts():
    assert shares(0.005, 0.95, 0) == pytest.approx((0.005, 0.95))
    assert parts_needed(*shares(0.005, 0.95, 1)) == 1474
    rng = np.random.default_rng(0)
    kept, n = 0, parts_needed(*shares(0.05, 0.9, 1))
    from calibration.limit import fit_limit
    from calibration.rules import fit_rules

    for _ in range(400):
        first = rng.normal(size=n)
        second = 0.5 * first + rng.normal(size=n)
        each = shares(0.05, 0.9, 1)
        limit = fit_limit(first + 10, *each).value - 10
        (rule,) = fit_rules((parse_rule("ae=ae"),), second[:, None] + 10, *each)
        future = rng.normal(size=20_000)
        above = (future > limit) | (0.5 * future + rng.normal(size=20_000) > rule.limit - 10)
        kept += above.mean() <= 0.05
    assert kept >= 0.9 * 400


@pytest.mark.parametrize(
    "text", ["", "a", "a=xx", "a=st@1,2", "A=st", "a=global@0,0,1,1", "a=st@0,0,0,1", "a=st@0.5,0,0.6,1", "a=st@.,0,1,1"]
)
def test_rules_that_cannot_be_meant_are_refused(text):
    with pytest.raises(ConfigError, match="--also"):
        parse_rule(text)


@pytest.mark.parametrize(
    "rule",
    [
        Rule("a", "xx", 1.0, 0.001),
        Rule("a", "st", 0.0, 0.001),
        Rule("a", "st", float("nan"), 0.001),
        Rule("a", "st", 1.0, 0.9),
        Rule("a", "st", 1.0, 0.001, [0.0, 0.0, 2.0, 1.0]),
        Rule("a", "st", 1.0, 0.001, [0.0, 0.0, 1.0]),
        Rule("a b", "st", 1.0, 0.001),
    ],
)
def test_a_limit_with_a_broken_rule_is_never_read(rule):
    limit = Limit(1.0, 0.005, 0.95, "guarantee", 600, {}, [rule])
    assert wrong_rule(limit)
    good = Rule("a", "st", 1.0, 0.001)
    assert not wrong_rule(Limit(1.0, 0.005, 0.95, "guarantee", 600, {}, [good]))
    assert wrong_rule(Limit(1.0, 0.005, 0.95, "guarantee", 600, {}, [good, good]))


def test_from_pictures_to_a_limit_with_a_place_that_judges(tmp_path, capsys):
    path, trust, _ = make_tiny_bundle(tmp_path)
    (tmp_path / "good").mkdir()
    for i in range(60):
        Image.fromarray(good_frame(seed=i)).save(tmp_path / "good" / f"{i:03}.png")
    out = tmp_path / "a.limit"
    words = ["limit", str(path), "--good", str(tmp_path / "good"), "--out", str(out), "--approved-by", "A", "--json"]
    words += ["--key", str(tmp_path / "signing.key"), "--trust", str(tmp_path / "trusted"), "--engine", "onnxruntime"]
    words += ["--false-reject", "0.2", "--confidence", "0.8", "--also", "middle=ae@0.3,0.3,0.4,0.4"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["false_reject"], found["confidence"]) == ("guarantee", 0.2, 0.8)
    bundle = open_bundle(path, trust)
    ruled = with_limit(bundle, read_limit(out, trust))
    (rule,) = ruled.manifest.limit.rules
    assert (rule.name, rule.limit, rule.false_reject) == ("middle", found["rules"]["middle"], 0.1)
    without = msgspec.structs.replace(ruled.manifest.limit, rules=[])
    assert references(ruled.manifest, ruled.sha256) != references(
        msgspec.structs.replace(ruled.manifest, limit=without), ruled.sha256
    ), "a gate must see that it is another limit"
    assert b"rules" not in msgspec.json.encode(bundle.manifest.limit), "bundles made before rules keep their bytes"
    Image.fromarray(bad_frame("logical", value=112)).save(tmp_path / "faint.png")
    judge = ["judge", str(path), str(tmp_path / "faint.png"), "--limit", str(out), "--trust", str(tmp_path / "trusted"), "--json"]
    assert main(judge) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["verdict"], verdict["cause"]) == ("reject", "logical")
