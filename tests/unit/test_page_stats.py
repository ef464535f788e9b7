"""The page's percentiles against the exact order statistics."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.page.stats import BUCKETS_PER_DECADE, Histogram

STEP = 10 ** (1 / BUCKETS_PER_DECADE) * (1 + 1e-9)
SHARES = (0.5, 0.99, 0.999)


def exact(values: list[float], share: float, *, low: bool) -> float:
    ordered = sorted(values, reverse=low)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


@given(st.lists(st.floats(0.02, 90_000.0), min_size=1, max_size=400))
def test_a_latency_percentile_is_never_below_the_exact_one_and_at_most_one_bucket_above(values):
    hist = Histogram()
    for value in values:
        hist.add(value)
    for share, got in zip(SHARES, hist.percentiles(*SHARES), strict=True):
        want = exact(values, share, low=False)
        assert got is not None
        assert want <= got <= want * STEP


@given(st.lists(st.floats(-90_000.0, 90_000.0).filter(lambda v: abs(v) > 0.02), min_size=1, max_size=400))
def test_a_slack_percentile_is_never_above_the_exact_one(values):
    hist = Histogram(signed=True, worst="low")
    for value in values:
        hist.add(value)
    for share, got in zip(SHARES, hist.percentiles(*SHARES), strict=True):
        want = exact(values, share, low=True)
        assert got is not None
        assert want - abs(want) * (STEP - 1) <= got <= want
    assert hist.min_ms == min(values)


def test_without_samples_there_is_no_percentile():
    assert Histogram().percentiles(0.5, 0.99) == [None, None]


def test_what_is_not_a_number_is_not_counted():
    hist = Histogram()
    hist.add(float("nan"))
    hist.add(5.0)
    assert hist.count == 1
    assert hist.percentiles(0.999) == [5.0]


def test_values_outside_the_scale_are_reported_by_their_extremes():
    hist = Histogram()
    for value in (0.0, 1e7):
        hist.add(value)
    assert hist.percentiles(0.5, 0.999) == [0.01, 1e7]


def test_a_copy_does_not_follow_its_original():
    hist = Histogram()
    hist.add(1.0)
    twin = hist.copy()
    hist.add(100.0)
    assert (twin.count, twin.percentiles(0.999)) == (1, [1.0])


@given(st.lists(st.floats(0.02, 5000.0), max_size=200))
def test_cumulative_counts_are_exact_at_the_bounds_prometheus_gets(values):
    hist = Histogram()
    for value in values:
        hist.add(value)
    bounds = [10.0 ** (k / 4) for k in range(-2, 15)]
    # A sample on the very bound may fall on either side of its last bit.
    for bound, got in zip(bounds, hist.cumulative(bounds), strict=True):
        assert sum(v < bound * (1 - 1e-12) for v in values) <= got <= sum(v <= bound * (1 + 1e-9) for v in values)


def test_an_unknown_side_is_refused():
    with pytest.raises(ValueError, match="'high' or 'low'"):
        Histogram(worst="middle")
