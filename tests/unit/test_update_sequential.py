"""The guard's tests keep their promise: rare false alarms however often one looks, and quick to see what is gross."""

import numpy as np
import pytest

from edge.update.sequential import ShareTest, wilson

ALPHA = 0.01


def first_alarm(test, hits):
    for count, hit in enumerate(hits, 1):
        test.add(hit=bool(hit))
        if test.alarm:
            return count
    return None


@pytest.mark.parametrize(("bound", "above"), [(0.01, True), (0.1, True), (0.05, False)])
def test_false_alarms_stay_below_alpha_over_the_whole_run(bound, above):
    rng = np.random.default_rng(1)
    runs = 150
    alarms = sum(
        first_alarm(ShareTest(bound, above=above, alpha=ALPHA), rng.random(500) < bound) is not None for _ in range(runs)
    )
    # 1.5 expected at most; 7 or more has a chance of 0.1 % (Poisson with mean 1.5)
    assert alarms <= 6


@pytest.mark.parametrize(
    ("bound", "above", "truth", "within"),
    [(0.01, True, 1.0, 5), (0.01, True, 0.2, 60), (0.1, True, 0.4, 60), (0.05, False, 0.0, 160)],
)
def test_what_is_gross_is_seen_soon(bound, above, truth, within):
    rng = np.random.default_rng(2)
    found = [first_alarm(ShareTest(bound, above=above, alpha=ALPHA), rng.random(within) < truth) for _ in range(100)]
    assert sum(one is not None for one in found) >= 95


@pytest.mark.parametrize(("hits", "count"), [(0, 100), (5, 100), (50, 60), (100, 100), (1, 3)])
def test_wilson_bounds_are_where_the_score_test_turns(hits, count):
    """The definition: at the bound p, |share - p| is 1.6449 standard errors of p."""
    low, high = wilson(hits, count)
    for bound in (low, high):
        if 0.0 < bound < 1.0:
            assert abs(hits / count - bound) == pytest.approx(1.6449 * np.sqrt(bound * (1 - bound) / count), rel=1e-9)
    assert low <= hits / count <= high


def test_wilson_bounds_of_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
