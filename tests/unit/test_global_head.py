"""Pooled vectors against what good parts show: the covariance, the trimmed scale, the untrained baseline."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from training.baselines import RandomPdn
from training.errors import RecipeError
from training.global_head import fit_pooled, ledoit_wolf, trimmed_center_scale


@pytest.mark.parametrize(("count", "channels"), [(30, 12), (8, 40)])
def test_shrinkage_is_scikit_learns(count, channels):
    vectors = np.random.default_rng(0).normal(size=(count, channels)) @ np.random.default_rng(1).normal(size=(channels, channels))
    reference = LedoitWolf().fit(vectors)
    covariance, shrinkage = ledoit_wolf(vectors)
    assert shrinkage == pytest.approx(reference.shrinkage_, rel=1e-6)
    np.testing.assert_allclose(covariance, reference.covariance_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit_pooled(vectors).distance(vectors) ** 2, reference.mahalanobis(vectors), rtol=1e-6)


def test_head_needs_parts_that_differ():
    with pytest.raises(RecipeError, match="got 1"):
        fit_pooled(np.zeros((1, 4)))
    with pytest.raises(RecipeError, match="same vector"):
        fit_pooled(np.ones((5, 4)))


def test_trimmed_scale_is_a_normals_deviation_and_ignores_outliers():
    values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
    center, scale = trimmed_center_scale(values)
    assert (center, scale) == pytest.approx((3.0, 2.0), abs=0.1)
    spoilt = np.concatenate([values, np.full(100, 1e6)])
    assert trimmed_center_scale(spoilt) == pytest.approx((center, scale), rel=0.05)
    assert trimmed_center_scale(np.ones(5))[1] > 0


def test_random_baseline_is_reproducible_and_sees_colour():
    rng = np.random.default_rng(0)
    good = rng.integers(90, 110, (12, 64, 64, 3)).astype(np.uint8)
    odd = good[:2].copy()
    odd[..., 0] += 60
    baseline = RandomPdn(good, seed=4)
    assert np.array_equal(baseline.score(odd), RandomPdn(good, seed=4).score(odd))
    assert baseline.score(odd).min() > baseline.score(good).max()
