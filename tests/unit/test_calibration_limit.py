"""Limits: the promise holds, is not made where it cannot be, and an estimate is called one."""

import numpy as np
import pytest
from sklearn.utils import check_random_state

from calibration.damage import KINDS, damage, damage_all
from calibration.limit import LimitKind, carried_rate, fit_limit, guaranteed_rank, parts_needed
from edge.binomial import cdf, clopper_pearson_upper
from edge.errors import DataError


def test_half_a_percent_at_95_takes_598_parts():
    assert parts_needed(0.005, 0.95) == 598
    assert guaranteed_rank(597, 0.005, 0.95) is None
    assert guaranteed_rank(598, 0.005, 0.95) == 598
    assert carried_rate(598, 0.95) <= 0.005 < carried_rate(597, 0.95)


def test_the_promise_holds_over_many_draws():
    """2,000 draws of 200 heavy-tailed parts: the share above the limit keeps to 2 % in at least 95 % of them."""
    rng = check_random_state(0)
    kept = 0
    for _ in range(2000):
        scores = rng.standard_exponential(200) ** 2
        limit = fit_limit(scores, 0.02, 0.95)
        assert limit.kind is LimitKind.GUARANTEE
        kept += np.exp(-np.sqrt(limit.value)) <= 0.02
    assert kept >= 0.95 * 2000 - 3 * np.sqrt(2000 * 0.05 * 0.95)


def test_too_few_parts_give_an_estimate_that_says_so():
    scores = np.random.default_rng(0).normal(size=100)
    limit = fit_limit(scores, 0.005, 0.95)
    assert limit.kind is LimitKind.ESTIMATE
    assert limit.confidence == 0.0
    assert limit.value >= scores.max()
    assert "no guarantee" in limit.promise()


@pytest.mark.parametrize("n", [20, 150])
def test_an_estimates_interval_holds_the_quantile_it_aims_at(n):
    """Heavy, light and bounded tails, 200 draws each: 90 % is said, and at least 85 % must be seen."""
    rng = np.random.default_rng(n)
    laws = (
        (lambda: rng.standard_exponential(n), -np.log(0.005)),
        (lambda: rng.lognormal(0, 1, n), np.exp(2.5758)),
        (lambda: rng.random(n), 0.995),
    )
    for draw, truth in laws:
        ends = [fit_limit(draw(), 0.005, 0.95).interval for _ in range(200)]
        assert np.mean([low <= truth <= high for low, high in ends]) >= 0.85
        assert all(low <= high for low, high in ends)


def test_an_interval_holds_its_own_estimate():
    for seed in range(20):
        limit = fit_limit(np.random.default_rng(seed).normal(size=8 + seed), 0.3 if seed < 1 else 0.05, 0.99)
        assert limit.kind is LimitKind.ESTIMATE
        assert limit.interval[0] <= limit.value <= limit.interval[1]


@pytest.mark.parametrize("scores", [np.zeros(7), np.array([0.0] * 20 + [np.nan])])
def test_what_cannot_be_fitted_is_refused(scores):
    with pytest.raises(DataError, match="expected"):
        fit_limit(scores, 0.01, 0.95)


def test_binomial_agrees_with_scipy():
    from scipy import stats

    for n, rate in ((10, 0.3), (750, 0.002), (3000, 0.9)):
        for successes in {0, 1, n // 2, n - 1}:
            assert cdf(successes, n, rate) == pytest.approx(stats.binom.cdf(successes, n, rate), rel=1e-8, abs=1e-12)
    assert clopper_pearson_upper(1, 750, 0.95) == pytest.approx(stats.beta.ppf(0.95, 2, 749), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_shows_where_its_mask_says_and_is_repeatable(kind):
    frame = np.random.default_rng(1).integers(60, 200, (64, 64, 3), dtype=np.uint8)
    one, again = (damage(frame, np.random.default_rng(2), kind) for _ in range(2))
    assert np.array_equal(one.frame, again.frame)
    assert one.mask.any()
    assert np.array_equal((one.frame != frame).any(axis=2), one.mask)


def test_all_kinds_of_damage_appear():
    frame = np.random.default_rng(4).integers(60, 200, (64, 64, 3), dtype=np.uint8)
    assert {one.kind for one in damage_all([frame], 14, seed=3)} == set(KINDS)
