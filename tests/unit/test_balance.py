"""Branches of the fused score: equally loud on good parts, whatever their tails, and believed little where parts are few."""

import dataclasses

import numpy as np
import pytest

from training.balance import PRIOR_PARTS, Branch, balanced, fit_branch


def terms(branch: Branch, scores, weight=1.0):
    z = (np.asarray(scores) - branch.center) / branch.scale
    return weight * np.log1p(np.exp(z - 3.0))


@pytest.fixture
def branches():
    """A calm branch, and one that shouts at one good part of fifty; both of the same middle."""
    rng = np.random.default_rng(0)
    calm = rng.normal(2.0, 0.5, 2000)
    loud = rng.normal(7.0, 0.1, 2000)
    loud[::50] += 4.0
    return calm, loud


def test_a_branchs_middle_is_not_moved_by_its_tail_and_its_loudness_is_that_of_the_tail(branches):
    calm, loud = (fit_branch(scores) for scores in branches)
    assert (calm.center, calm.scale) == pytest.approx((2.0, 0.5), rel=0.1)
    assert (loud.center, loud.scale) == pytest.approx((7.0, 0.1), rel=0.1)
    assert (calm.parts, loud.parts) == (2000, 2000)
    assert loud.loudness == pytest.approx(terms(loud, branches[1]).mean())
    assert loud.loudness > 5 * calm.loudness


def test_with_many_parts_every_branchs_term_is_one_on_average(branches):
    fitted = [dataclasses.replace(fit_branch(scores), parts=1000 * PRIOR_PARTS) for scores in branches]
    for branch, weight, scores in zip(fitted, balanced(fitted), branches, strict=True):
        assert terms(branch, scores, weight).mean() == pytest.approx(1.0, rel=0.01)


def test_a_quiet_branchs_defect_counts_beside_a_loud_branchs_good_parts(branches):
    """z = 15 in the calm branch, which no good part reaches: below the limit as the terms are, above it balanced."""
    fitted = [fit_branch(scores) for scores in branches]
    for weights, found in (([1.0, 1.0], False), (balanced(fitted), True)):
        limit = sum(terms(b, s, w) for b, s, w in zip(fitted, branches, weights, strict=True)).max()
        odd = [fitted[0].center + 15 * fitted[0].scale, fitted[1].center]
        score = sum(terms(b, s, w) for b, s, w in zip(fitted, odd, weights, strict=True))
        assert (score > limit) == found


def test_few_parts_say_little():
    calm, loud = Branch(0.0, 1.0, 0.1, 2), Branch(0.0, 1.0, 0.9, 2)
    few = balanced([calm, loud])
    assert 1.0 < few[0] / few[1] < 2.0
    many = balanced([Branch(0.0, 1.0, 0.1, 100 * PRIOR_PARTS), Branch(0.0, 1.0, 0.9, 100 * PRIOR_PARTS)])
    assert many[0] / many[1] == pytest.approx(9.0, rel=0.1)
    assert balanced([loud]) == pytest.approx([1 / 0.9])
