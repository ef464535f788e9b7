"""The demo's pure parts: faults on order, rate and deadline, figures, text."""

import json

import pytest

from edge.demo.faults import FREEZE_S, RESTART_S, Fault, parse_faults
from edge.demo.plan import Speed, choose
from edge.demo.summary import percentiles, render
from edge.demo.truth import Truth
from edge.errors import ConfigError


def test_faults_without_a_time_are_spread_over_the_run():
    assert parse_faults("kill-daemon,kill-gate,kill-broker", 40.0) == [
        Fault(10.0, "kill", "daemon"),
        Fault(20.0, "kill", "gate"),
        Fault(30.0, "kill", "broker"),
    ]


def test_faults_with_a_time_come_in_its_order():
    first, second = parse_faults("kill-broker@12, freeze-daemon@3.5", 20.0)
    assert (str(first), first.at_s, first.over_s) == ("freeze-daemon", 3.5, 3.5 + FREEZE_S)
    assert (str(second), second.over_s) == ("kill-broker", 12.0 + RESTART_S)
    assert parse_faults("", 20.0) == []


@pytest.mark.parametrize("text", ["kill-all", "kill-gate@x", "kill-gate@20", "kill-gate@-1", "freeze-broker"])
def test_faults_that_make_no_sense_are_refused(text):
    with pytest.raises(ConfigError, match="--faults"):
        parse_faults(text, 20.0)


@pytest.mark.parametrize(
    ("mean_ms", "p50_ms", "max_ms", "rate_hz", "valid_ms"),
    [
        (1.0, 1.0, 2.0, 11.0, 300.0),
        (60.0, 58.0, 90.0, 11.0, 350.0),
        (100.0, 100.0, 120.0, 8.0, 600.0),
        (800.0, 700.0, 1900.0, 1.0, 2000.0),
        (9000.0, 9000.0, 9000.0, 0.5, 2000.0),
    ],
)
def test_rate_and_deadline_follow_the_machine(mean_ms, p50_ms, max_ms, rate_hz, valid_ms):
    plan = choose(Speed("e", p50_ms, mean_ms, max_ms, p50_ms), 11.0)
    assert (plan.rate_hz, plan.valid_ms) == (rate_hz, valid_ms)
    assert plan.gate_ms > plan.valid_ms
    assert 5 <= plan.commissioning_parts <= 30
    assert ("too slow for 11 parts/s" in plan.remark) == (rate_hz < 11.0)


def test_percentiles_are_times_that_were_measured():
    assert percentiles([]) is None
    assert percentiles([3.0]) == {"p50": 3.0, "p99": 3.0, "p999": 3.0, "n": 1}
    assert percentiles(range(1, 1001)) == {"p50": 500.0, "p99": 990.0, "p999": 999.0, "n": 1000}


def test_the_truth_is_that_of_the_picture():
    from edge.belt import render as draw

    truth = Truth("vials", 7)
    for count in range(1, 40):
        if not truth.is_good(count):
            drawn = draw("vials", 7, count).truth
            assert truth.defect(count) == f"{drawn.kind.value}/{drawn.defect}"
            break
    else:
        raise AssertionError("no bad part among 39")


def test_a_product_that_does_not_run_on_the_belt_is_refused():
    with pytest.raises(ConfigError, match=r"spoons.*--product"):
        Truth("spoons", 1)


def test_the_text_shows_every_figure_that_is_bad_news():
    summary = {
        "parts": 9,
        "parts_per_s": 1.0,
        "verdicts": {"pass": 5, "reject": 4},
        "escapes": 2,
        "escapes_by": {"unjudged": 1, "against_verdict": 1},
        "late": 2,
        "trigger_to_gate_ms": None,
        "infer_ms": {"p50": 1.0, "p99": 2.0, "p999": 3.0, "n": 9},
        "good": {"passed": 4, "false_rejects": 1, "lost": 0},
        "bad": {"rejected": 3, "missed": 1},
        "misses": [{"part": 4, "truth": "logical/cap_mismatch", "score": 0.9}],
        "false_rejects": [{"part": 5, "truth": "good", "score": 1.1}],
        "decisions": {"verdict": 9},
        "first_verdict_s": 3.0,
        "first_open_s": None,
        "line": {"deadline_ms": 300.0},
        "engine": "e",
        "broker": "b",
        "faults": [{"at_s": 3.0, "what": "kill-gate"}],
    }
    text = render(json.loads(json.dumps(summary)))
    for shown in (
        "escapes        2 (unjudged 1",
        "late           2",
        "part 4: logical/cap_mismatch",
        "kill-gate at 3.0 s",
    ):
        assert shown in text
