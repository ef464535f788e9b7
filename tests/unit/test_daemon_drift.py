"""Drift alarms become conditions of the station, and go when the drift is gone."""

import numpy as np
import pytest

from edge.bundle.reader import open_bundle
from edge.config.station import Deadline, Drift, Model, StationConfig
from edge.config.station import Station as Where
from edge.daemon.build import make_drift
from edge.daemon.state.drift import DriftWatch
from edge.daemon.state.phase import Station
from edge.judge import Judgement
from tests.support.bundles import make_tiny_bundle
from tests.support.station import HandClock


def judgement(p: float, cal: float = 0.5) -> Judgement:
    return Judgement("pass", cal, cal, p, cal, cal, cal, None, (), np.zeros((1, 1), np.float32))


@pytest.fixture
def watched(tmp_path):
    path, trust, _ = make_tiny_bundle(tmp_path)
    bundle = open_bundle(path, trust)
    where = Where("plant1", "hall2", "line3", "st2")
    station = Station(HandClock())

    def make(drift: Drift, doubt=lambda *_: None) -> DriftWatch | None:
        return make_drift(StationConfig(where, Model(str(path)), Deadline(400.0), drift), bundle, station, doubt)

    return make, station


def test_a_drift_is_a_warning_that_names_its_remedy_and_goes_when_it_is_gone(watched):
    make, station = watched
    doubts = []
    drift = make(Drift(enabled=True, parts_per_alarm=1e4), lambda first, why: doubts.append((first, why)))
    rng = np.random.default_rng(0)
    for seq in range(300):
        drift.judged(1000 + 2 * seq, judgement(int(rng.integers(1, 102)) / 101))
    assert station.snapshot().conditions == ()
    for seq in range(300, 500):
        drift.judged(1000 + 2 * seq, judgement(int(rng.integers(1, 20)) / 101))
    (condition,) = station.snapshot().conditions
    assert (condition.code, condition.severity) == ("drift-creep-up", "warning")
    assert "parts ago" in condition.text
    assert "light" in condition.remedy
    # The first alarm names the part it may have begun with: the drift began with part 1600.
    assert 1500 <= doubts[0][0] <= 1610
    assert "creep-up" in doubts[0][1]
    for seq in range(2500):
        drift.judged(seq, judgement(int(rng.integers(1, 102)) / 101))
    assert station.snapshot().conditions == ()


def test_rejects_beyond_what_is_promised_and_stated_are_said(watched):
    make, station = watched
    drift = make(Drift(enabled=True, parts_per_alarm=1e4))
    for i in range(400):
        drift.judged(i, judgement(1 / 101, 2.0) if i % 3 == 0 else judgement((i % 101 + 1) / 101))
    assert "drift-promise" in {condition.code for condition in station.snapshot().conditions}


def test_it_is_off_unless_asked_for(watched):
    make, _ = watched
    assert make(Drift()) is None
