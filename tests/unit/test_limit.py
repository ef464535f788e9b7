"""The limit on good parts: what may be promised, what only estimated, and that the promise is kept."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.limit import LimitKind, carried_rate, fit_limit, guaranteed_rank, parts_needed
from edge.binomial import cdf, clopper_pearson_upper
from edge.errors import DataError


def exact_cdf(successes, n, rate):
    return sum(math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(successes + 1))


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 0.99), st.data())
def test_binomial_sums_are_the_sums(n, rate, data):
    successes = data.draw(st.integers(0, n))
    assert cdf(successes, n, rate) == pytest.approx(exact_cdf(successes, n, rate), abs=1e-12)


def test_binomial_sums_at_their_ends():
    assert cdf(-1, 5, 0.5) == 0.0
    assert cdf(5, 5, 0.5) == 1.0
    assert cdf(0, 5, 0.0) == 1.0
    assert cdf(4, 5, 1.0) == 0.0
    with pytest.raises(ValueError, match="rate"):
        cdf(1, 2, 1.5)


def test_the_upper_bound_without_any_event_is_the_closed_form():
    assert clopper_pearson_upper(0, 1497, 0.95) == pytest.approx(1 - 0.05 ** (1 / 1497), rel=1e-9)
    assert clopper_pearson_upper(0, 1497, 0.95) <= 0.002 < clopper_pearson_upper(0, 1496, 0.95)
    assert clopper_pearson_upper(3, 3, 0.95) == 1.0
    with pytest.raises(ValueError, match="successes"):
        clopper_pearson_upper(4, 3, 0.95)


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_the_upper_bound_is_where_so_few_become_improbable(n, data):
    successes = data.draw(st.integers(0, n - 1))
    bound = clopper_pearson_upper(successes, n, 0.95)
    assert cdf(successes, n, bound) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"),
    [(0.005, 0.95, 598), (0.01, 0.95, 299), (0.05, 0.95, 59), (0.5, 0.5, 1), (0.001, 0.99, 4603)],
)
def test_how_many_parts_a_promise_needs(rate, confidence, needed):
    assert parts_needed(rate, confidence) == needed
    assert 1 - (1 - rate) ** needed >= confidence
    assert needed == 1 or 1 - (1 - rate) ** (needed - 1) < confidence


@pytest.mark.parametrize(("rate", "confidence"), [(0.0, 0.9), (1.0, 0.9), (0.1, 0.0), (0.1, 1.0), (math.nan, 0.9)])
def test_impossible_promises_are_refused(rate, confidence):
    with pytest.raises(ValueError, match="false_reject"):
        parts_needed(rate, confidence)


def test_the_rank_is_the_smallest_that_keeps_the_promise():
    for n in (598, 700, 2000):
        rank = guaranteed_rank(n, 0.005, 0.95)
        assert rank is not None
        assert exact_cdf_below(rank, n) >= 0.95 > exact_cdf_below(rank - 1, n)
    assert guaranteed_rank(597, 0.005, 0.95) is None


def exact_cdf_below(rank, n):
    """P(Binomial(n, 0.995) <= rank - 1), summed from the short end: that at least n - rank + 1 parts lie above."""
    return 1.0 - sum(math.comb(n, i) * 0.005**i * 0.995 ** (n - i) for i in range(n - rank + 1))


def test_the_guarantee_holds_over_many_calibrations():
    # For uniform scores the share of good parts above the limit is 1 - limit, so no sampling is needed to know it.
    rng = np.random.default_rng(0)
    kept = [1 - fit_limit(rng.random(200), 0.05, 0.9).value <= 0.05 for _ in range(2000)]
    assert np.mean(kept) >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / 2000)


def test_a_guarantee_is_an_order_statistic_and_does_not_depend_on_the_scores_scale():
    scores = np.random.default_rng(1).exponential(size=700)
    fitted = fit_limit(scores, 0.005, 0.95)
    assert fitted.kind is LimitKind.GUARANTEE
    assert fitted.value == np.sort(scores)[fitted.rank - 1]
    assert fitted.confidence == 0.95
    assert fit_limit(np.exp(scores), 0.005, 0.95).value == pytest.approx(math.exp(fitted.value))
    assert "guarantee" in fitted.promise()


def test_too_few_parts_give_an_estimate_that_is_called_one():
    fitted = fit_limit(np.random.default_rng(2).exponential(size=60), 0.005, 0.95)
    assert fitted.kind is LimitKind.ESTIMATE
    assert fitted.confidence == 0.0
    assert fitted.rank == 0
    assert fitted.carried == pytest.approx(0.0487, abs=1e-4)
    assert "estimate, no guarantee" in fitted.promise()
    assert "4.87%" in fitted.promise()


def test_an_estimate_is_never_below_the_largest_good_score():
    rng = np.random.default_rng(3)
    for _ in range(50):
        scores = rng.normal(size=int(rng.integers(8, 200)))
        fitted = fit_limit(scores, 0.005, 0.95)
        assert fitted.value >= scores.max()
        assert fitted.interval[0] <= fitted.interval[1]


def test_the_estimate_comes_near_the_quantile_of_a_known_tail():
    # 0.5 % of exponential scores lie above 5.3. From 400 parts the fitted quantile spreads by about a sixth.
    rng = np.random.default_rng(4)
    limits = [fit_limit(rng.exponential(size=400), 0.005, 0.95).value for _ in range(60)]
    assert 5.0 < np.median(limits) < 7.5


def test_equal_scores_have_no_tail_and_still_a_limit():
    fitted = fit_limit(np.full(20, 0.3), 0.005, 0.95)
    assert fitted.value == 0.3


def test_parts_that_cannot_set_a_limit_are_refused_with_the_number_needed():
    with pytest.raises(DataError, match="598"):
        fit_limit(np.arange(7.0), 0.005, 0.95)
    with pytest.raises(DataError, match="finite"):
        fit_limit(np.array([0.1] * 20 + [np.nan]), 0.005, 0.95)


@given(st.integers(1, 5000))
def test_what_parts_carry_is_what_their_largest_score_can_promise(n):
    rate = carried_rate(n, 0.95)
    assert 1 - (1 - rate) ** n == pytest.approx(0.95)
