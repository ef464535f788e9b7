"""Which stage is stuck, and the figures over the last parts."""

import pytest

from edge.daemon.rolling import WINDOW, Rolling
from edge.daemon.stages.figures import Figures
from edge.daemon.stages.progress import Progress
from tests.support.station import HandClock


def test_progress_tells_who_is_stuck():
    clock = HandClock()
    progress = Progress("engine", 100.0, clock)
    clock.forward(1000)
    assert progress.stuck_ms() == 0.0, "idle is not stuck"
    progress.begin()
    clock.forward(100)
    assert progress.stuck_ms() == 0.0
    clock.forward(1)
    assert progress.stuck_ms() == pytest.approx(101)
    progress.end()
    assert progress.stuck_ms() == 0.0
    progress.begin(1000)
    clock.forward(500)
    assert progress.stuck_ms() == 0.0


def test_rolling_percentiles_are_nearest_rank_over_a_bounded_window():
    rolling = Rolling()
    assert rolling.percentiles(50) is None
    for value in range(1, 101):
        rolling.add(float(value))
    assert rolling.percentiles(1, 50, 99, 100) == [1.0, 50.0, 99.0, 100.0]
    for _ in range(WINDOW):
        rolling.add(7.0)
    assert rolling.percentiles(0.1, 100) == [7.0, 7.0]


def test_figures_count_kinds_and_reasons():
    figures = Figures()
    figures.count("pass", [])
    figures.count("invalid", ["late"])
    figures.count("invalid", ["late"])
    assert figures.verdicts() == {"pass": 1, "invalid": 2}
    assert figures.invalid() == {"late": 2}
