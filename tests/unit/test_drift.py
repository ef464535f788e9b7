"""Drift alarms: no bet wins against what the calibration allows, changes are told apart, false alarms keep to their rate."""

import functools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.rules import fit_rules, parse_rule, shares
from edge.bundle.manifest import Limit, Rule
from edge.drift.bets import Bets, above_limit, downward, highest_bounds, inward, upward
from edge.drift.detector import HISTORY, Detector, advance
from edge.drift.monitor import KINDS, DriftMonitor, DriftSettings, above_rule
from tests.support.bundles import tiny_members

N = 600
QUICK = DriftSettings(parts_per_alarm=1e5)


def p_of(raw: float, calibration: np.ndarray) -> float:
    return (1 + len(calibration) - int(np.searchsorted(calibration, raw))) / (len(calibration) + 1)


def run(monitor: DriftMonitor, scores: np.ndarray, calibration: np.ndarray, limit: float):
    for raw in scores:
        alarm = monitor.add(p_of(float(raw), calibration), above=bool(raw > limit))
        if alarm is not None:
            return alarm
    return None


@pytest.fixture
def line():
    rng = np.random.default_rng(5)
    calibration = np.sort(rng.lognormal(0, 0.6, N))
    return rng, calibration, float(calibration[-1])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1500), st.floats(0, 0.2), st.floats(1e-5, 0.1), st.integers(0, 3), st.lists(st.integers(0, 1), max_size=8))
def test_no_bet_wins_on_average_where_its_event_is_as_likely_as_the_bound_allows(n, bad, risk, above, ruled):
    high = min(above, n)
    for bets in (upward(n, bad, risk, ruled), downward(n, bad, risk, high, ruled), inward(n, bad, risk, high, ruled)):
        assert bets.pays.shape[0] == n + 1
        assert (bets.pays >= 0).all()
        # A bet pays one sum where its event happens and another where not: its mean at the event's highest probability is 1.
        high, low = bets.pays.max(axis=0), bets.pays.min(axis=0)
        means = bets.places * high + (1 - bets.places) * low
        assert (means <= 1 + 1e-9).all()


def test_the_bounds_hold_together_on_all_but_the_stated_share_of_calibrations():
    """Uniform scores, so the true share above a calibration score is known: 2,000 calibrations of 120 parts, risk 10 %."""
    rng = np.random.default_rng(0)
    n, risk = 120, 0.1
    each = risk / highest_bounds(n)
    broken = np.zeros(2000, bool)
    calibrations = np.sort(rng.random((2000, n)), axis=1)
    edges = np.concatenate([np.zeros((2000, 1)), calibrations, np.ones((2000, 1))], axis=1)
    mass = np.diff(edges, axis=1)[:, ::-1]  # mass[c]: probability that c calibration scores are at least as high
    for bets in (upward(n, 0.0, each), downward(n, 0.0, each), inward(n, 0.0, each)):
        broken |= (mass @ bets.pays > 1 + 1e-9).any(axis=1)
    assert broken.mean() <= risk
    assert broken.mean() > 0.001  # bounds that can never break would be bounds on nothing


@pytest.mark.parametrize("kind", ["lowest", "highest", "middle"])
def test_the_bounds_hold_also_of_what_a_rule_leaves(kind):
    """A rule may reject the parts of lowest, highest or middle fused score: 15 % of uniform ones, and the rest is no change."""
    rng = np.random.default_rng(0)
    n, risk, share = 200, 0.1, 0.15
    each = risk / highest_bounds(n, 1)

    @functools.cache
    def bets(*ruled: int) -> list[Bets]:
        return [upward(n, 0.0, each, ruled), downward(n, 0.0, each, 0, ruled), inward(n, 0.0, each, 0, ruled)]

    broken, unruled = np.zeros(400, bool), np.zeros(400, bool)
    first = {"lowest": 0.0, "highest": 1.0 - share, "middle": 0.5 - share / 2}[kind]
    for i in range(400):
        edges = np.concatenate([[0.0], np.sort(rng.random(n)), [1.0]])
        mass = np.diff(edges - np.clip(edges - first, 0.0, share))[::-1] / (1.0 - share)
        above = int(rng.binomial(n, share))
        broken[i] = any((mass @ one.pays > 1 + 1e-9).any() for one in bets(above))
        unruled[i] = any((mass @ one.pays > 1 + 1e-9).any() for one in bets())
    assert broken.mean() <= risk
    assert unruled.mean() > risk, "bounds on all good parts are none on those that a rule leaves"


def test_what_rules_reject_is_known_from_how_their_limits_are_fitted():
    rng = np.random.default_rng(0)
    for n, rate, confidence, rules in ((600, 0.05, 0.9, 1), (5000, 0.01, 0.95, 3), (1474, 0.005, 0.95, 1)):
        each = shares(rate, confidence, rules)
        asked = tuple(parse_rule(f"r{i}=st") for i in range(rules))
        values = rng.random((n, rules))
        fitted = fit_rules(asked, values, *each)
        limit = Limit(1.0, rate, confidence, "guarantee", n, {}, fitted)
        for rule, column in zip(fitted, values.T, strict=True):
            assert above_rule(limit, rule, n) == int((column > rule.limit).sum())
    few = fit_rules((parse_rule("a=st"),), rng.random((50, 1)), 0.001, 0.99)
    assert above_rule(Limit(1.0, 0.002, 0.0, "estimate", 50, {}, few), few[0], 50) == 0


@pytest.mark.parametrize(("kind", "p"), [("creep-up", 0.1), ("creep-down", 0.95), ("narrow", 0.5)])
def test_a_monitor_allows_for_what_rules_reject(kind, p):
    """Only parts within all limits are watched: what the rules reject may have had any score."""
    scores = [0.01 * i for i in range(1, 101)]
    plain, _ = tiny_members(calibration=scores)
    evidence = []
    for rules in ([], [Rule("a", "ae", 0.5, 0.1)]):
        limit = Limit(1.0, 0.2, 0.9, "guarantee", 100, plain.limit.branches, rules)
        monitor = DriftMonitor.of(msgspec.structs.replace(plain, limit=limit), DriftSettings(parts_per_alarm=1e200))
        for _ in range(30):
            monitor.add(round(p * 101) / 101)
        evidence.append(monitor.evidence()[kind])
    assert evidence[0] > evidence[1] > 0


def test_the_simulation_steps_as_the_detector_does():
    bets = upward(50, 0.01, 0.01)
    detector = Detector(bets, 1e9)
    sums = np.zeros((1, bets.pays.shape[1]))
    for row in np.random.default_rng(1).integers(0, 51, 500):
        detector.add(int(row))
        advance(sums, bets.pays[[row]])
    assert 10**detector.evidence == pytest.approx(max(1.0, sums.mean()))


def test_good_parts_raise_no_alarm(line):
    """At one false alarm in 100,000 parts a run of 5,000 may show one with probability 0.05 at most."""
    rng, calibration, limit = line
    assert run(DriftMonitor(N, 0.005, settings=QUICK), rng.lognormal(0, 0.6, 5_000), calibration, limit) is None


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("creep-up", lambda good: 1.5 * good),
        ("creep-up", lambda good: good + 0.4),
        ("creep-down", lambda good: 0.6 * good),
        ("creep-down", lambda good: 0.0 * good),
        ("narrow", lambda good: good**0.1),
        ("promise", lambda good: np.where(np.arange(good.size) % 8 == 0, 1e3, good)),
        ("promise", lambda good: good + 100.0),
    ],
)
def test_each_change_is_told_by_its_name(line, kind, make):
    rng, calibration, limit = line
    good = rng.lognormal(0, 0.6, 3500)
    monitor = DriftMonitor(N, 0.005, settings=QUICK)
    assert run(monitor, good[:1000], calibration, limit) is None
    alarm = run(monitor, make(good[1000:]), calibration, limit)
    assert alarm is not None
    assert alarm.kind == kind
    assert alarm.remedy
    assert 1 <= alarm.since <= alarm.earliest
    # When it began, by the parts that kind watches: within half of the time it took to see it, and 60 parts.
    took = alarm.part - 1000
    assert abs(alarm.since - took) <= 0.5 * took + 60


def test_bad_parts_within_the_stated_share_are_no_drift(line):
    rng, calibration, limit = line
    good = rng.lognormal(0, 0.6, 5_000)
    bad = np.where(rng.random(good.size) < 0.015, 1e3, good)
    assert run(DriftMonitor(N, 0.005, settings=QUICK), bad, calibration, limit) is None


def test_missed_bad_parts_within_their_share_are_no_drift(line):
    rng, calibration, limit = line
    good = rng.lognormal(0, 0.6, 5_000)
    missed = np.where(rng.random(good.size) < 0.008, 0.99 * limit, good)
    assert run(DriftMonitor(N, 0.005, settings=QUICK), missed, calibration, limit) is None


def test_an_alarm_begins_its_kind_anew_and_comes_again_while_the_cause_stands(line):
    rng, calibration, limit = line
    monitor = DriftMonitor(N, 0.005, settings=QUICK)
    first = run(monitor, 2 * rng.lognormal(0, 0.6, 3000), calibration, limit)
    assert first is not None
    assert monitor.evidence()["creep-up"] == 0.0 or first.kind != "creep-up"
    second = run(monitor, 2 * rng.lognormal(0, 0.6, 3000), calibration, limit)
    assert second is not None
    assert second.part > first.part


def test_too_few_calibration_parts_say_nothing_wrong():
    monitor = DriftMonitor(1, 0.005, settings=QUICK)
    for i in range(2000):
        assert monitor.add(0.5 if i % 2 else 1.0) is None


def test_the_start_is_found_and_history_is_bounded():
    detector = Detector(above_limit(0.05), 1e6)
    for _ in range(HISTORY + 500):
        assert not detector.add(1)
    parts = 0
    while not detector.add(parts % 2):
        parts += 1
    likeliest, earliest, surely = detector.began()
    assert abs(likeliest - (parts + 1)) <= 2
    assert likeliest <= earliest <= parts + 12
    assert earliest <= surely <= earliest + 200
    detector.reset()
    assert detector.began() == (0, 0, 0)


@pytest.mark.parametrize("p", [0.0, -0.1, 1.2, 0.0005])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(ValueError, match="p-value"):
        DriftMonitor(N, 0.005).add(p)


@pytest.mark.parametrize("wrong", [{"bad_share": 1.0}, {"risk": 0.0}, {"parts_per_alarm": 0.0}, {"bad_passed": -0.1}])
def test_settings_that_promise_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        DriftMonitor(N, 0.005, settings=DriftSettings(**wrong))


def test_evidence_is_told_for_every_kind():
    monitor = DriftMonitor(N, 0.005)
    assert tuple(monitor.evidence()) == KINDS
