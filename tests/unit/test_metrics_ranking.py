import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from training.metrics import area_up_to, auroc, auroc_interval, clopper_pearson, roc_curve

LABELLED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(bad for _, bad in rows) < len(rows)
)


@settings(deadline=None)
@given(LABELLED)
def test_auroc_agrees_with_scikit_learn_whatever_the_ties(rows):
    scores, bad = zip(*rows, strict=True)
    assert auroc(scores, bad) == pytest.approx(reference.roc_auc_score(bad, scores), abs=1e-12)


@settings(deadline=None)
@given(LABELLED)
def test_auroc_is_the_share_of_pairs_in_the_right_order(rows):
    good = [score for score, bad in rows if not bad]
    bad = [score for score, bad in rows if bad]
    pairs = [1.0 if b > g else 0.5 if b == g else 0.0 for b in bad for g in good]
    assert auroc(*zip(*rows, strict=True)) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@settings(deadline=None)
@given(LABELLED)
def test_roc_curve_agrees_with_scikit_learn_point_by_point(rows):
    scores, bad = zip(*rows, strict=True)
    fpr, tpr, thresholds = roc_curve(scores, bad)
    want_fpr, want_tpr, want_thresholds = reference.roc_curve(bad, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr, want_fpr)
    np.testing.assert_allclose(tpr, want_tpr)
    np.testing.assert_array_equal(thresholds, want_thresholds)
    assert area_up_to(fpr, tpr, 1.0) == pytest.approx(auroc(scores, bad), abs=1e-12)


def test_auroc_of_one_class_is_not_defined():
    assert auroc([1.0, 2.0], [False, False]) is None
    assert auroc([1.0, 2.0], [True, True]) is None
    with pytest.raises(ValueError, match="2 bad of 2"):
        roc_curve([1.0, 2.0], [True, True])


def test_auroc_orders_infinities_and_refuses_nan():
    assert auroc([0.0, 1e30, np.inf], [False, False, True]) == 1.0
    with pytest.raises(ValueError, match="NaN for part 1 of 3"):
        auroc([0.0, np.nan, 1.0], [False, False, True])
    with pytest.raises(ValueError, match="one score and one label"):
        auroc([0.0, 1.0], [True])


def test_area_up_to_a_limit_is_cut_by_interpolation():
    fpr, y = np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.5, 0.5])
    assert area_up_to(fpr, y, 0.05) == pytest.approx(0.05 * 0.25 / 2 / 0.05)
    assert area_up_to(fpr, y, 0.2) == pytest.approx((0.1 * 0.5 / 2 + 0.1 * 0.5) / 0.2)


def test_area_up_to_a_limit_takes_the_top_of_a_vertical_step():
    fpr, y = np.array([0.0, 0.0, 0.3, 0.3, 1.0]), np.array([0.0, 0.6, 0.6, 1.0, 1.0])
    assert area_up_to(fpr, y, 0.3) == pytest.approx(0.6)
    assert area_up_to(fpr, y, 0.6) == pytest.approx((0.3 * 0.6 + 0.3) / 0.6)
    with pytest.raises(ValueError, match="got 0"):
        area_up_to(fpr, y, 0.0)


@pytest.mark.parametrize("n", [1, 7, 40, 500])
def test_clopper_pearson_ends_where_the_binomial_tails_are_a_fortieth(n):
    for k in {0, 1, n // 3, n - 1, n}:
        lower, upper = clopper_pearson(k, n)
        at_least = sum(math.comb(n, i) * lower**i * (1 - lower) ** (n - i) for i in range(k, n + 1))
        at_most = sum(math.comb(n, i) * upper**i * (1 - upper) ** (n - i) for i in range(k + 1))
        assert lower == 0.0 if k == 0 else at_least == pytest.approx(0.025, rel=1e-6)
        assert upper == 1.0 if k == n else at_most == pytest.approx(0.025, rel=1e-6)


def test_clopper_pearson_without_trials_says_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="k = 3, n = 2"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        clopper_pearson(1, 2, confidence=1.0)


@settings(deadline=None)
@given(st.floats(0.0, 1.0), st.integers(1, 300), st.integers(1, 300))
def test_auroc_interval_holds_the_area_and_satisfies_its_definition(area, good, bad):
    lower, upper = auroc_interval(area, good, bad)
    assert 0.0 <= lower <= area <= upper <= 1.0
    mean = (good + bad) / 2
    for end in (lower, upper):
        if not 1e-6 < end < 1 - 1e-6 or abs(end - area) < 1e-9:
            continue
        q1, q2 = end / (2 - end), 2 * end * end / (1 + end)  # Hanley and McNeil's two terms
        variance = (end * (1 - end) + (mean - 1) * (q1 - end**2) + (mean - 1) * (q2 - end**2)) / (good * bad)
        assert abs(area - end) == pytest.approx(1.959963984540054 * math.sqrt(variance), rel=1e-6)


def test_auroc_interval_of_a_perfect_score_on_few_parts_is_wide():
    assert auroc_interval(1.0, 10, 10)[0] < 0.9
    assert auroc_interval(1.0, 1000, 1000)[0] > 0.99
    with pytest.raises(ValueError, match="0 good and 3 bad"):
        auroc_interval(1.0, 0, 3)


def test_auroc_interval_covers_the_true_area_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    true = stats.norm.cdf(1.5 / math.sqrt(2))
    inside = 0
    for _ in range(400):
        scores = np.concatenate([rng.normal(0, 1, 30), rng.normal(1.5, 1, 40)])
        area = auroc(scores, np.arange(70) >= 30)
        assert area is not None
        lower, upper = auroc_interval(area, 30, 40)
        inside += lower <= true <= upper
    assert 0.91 <= inside / 400 <= 0.99
