"""What-if: the good parts that set a limit are named, never left out; forecasts hold as often as they say."""

from itertools import pairwise

import numpy as np
import pytest

from calibration.limit import LimitKind, fit_limit, guaranteed_rank
from calibration.whatif import _chance, _forecast, _places_law, explore, with_maps
from calibration.whatif_words import in_words
from edge.errors import DataError
from edge.limits.curve import Rate


def test_one_odd_part_sets_the_limit_and_is_named_with_what_it_costs():
    rng = np.random.default_rng(0)
    good = rng.exponential(1.0, 700)
    good[123] = 40.0
    bad = {"dent": np.linspace(5, 60, 56)}
    found = explore(good, bad, 0.005, 0.95)
    assert found.limit.value == fit_limit(good, 0.005, 0.95).value == 40.0, "nothing was left out"
    first = found.setters[0]
    assert (first.index, first.place, first.raw) == (123, 1, 40.0)
    assert first.chance < 1e-6
    assert first.without.value == np.sort(good)[-2]
    assert first.missed["dent"].count < found.now.missed["dent"].count == 36
    names = [f"part-{i}" for i in range(700)]
    text = "\n".join(in_words(found, names, 0.95))
    assert "1. part-123: 40" in text
    assert "passes 36 of 56 dent" in text


def test_below_the_guarantee_taking_a_part_away_is_called_an_estimate():
    good = np.random.default_rng(1).exponential(1.0, 598)
    found = explore(good, {}, 0.005, 0.95)
    assert found.limit.kind is LimitKind.GUARANTEE
    assert found.setters[0].without.kind is LimitKind.ESTIMATE
    assert "too few are left for the guarantee" in "\n".join(in_words(found, [str(i) for i in range(598)], 0.95))


def test_the_curve_trades_false_rejects_for_misses_and_promises_what_the_order_statistic_carries():
    rng = np.random.default_rng(2)
    good, bad = rng.normal(0, 1, 1000), {"a": rng.normal(3, 1, 200)}
    curve = explore(good, bad, 0.01, 0.95).curve
    limits = [one.limit for one in curve]
    assert limits == sorted(limits)
    assert all(b.rejected.count <= a.rejected.count and b.missed["a"].count >= a.missed["a"].count for a, b in pairwise(curve))
    for one in curve:
        assert one.rejected.low <= one.rejected.share <= one.rejected.high
        assert one.promised > one.rejected.share
    rank = guaranteed_rank(1000, 0.01, 0.95)
    assert rank is not None
    (stands,) = [one for one in curve if one.rejected.count == 1000 - rank]
    assert stands.promised <= 0.01


def test_the_forecast_holds_nine_times_in_ten():
    rng = np.random.default_rng(3)
    rank, held = guaranteed_rank(1200, 0.005, 0.95), 0
    assert rank is not None
    for _ in range(200):
        draws = rng.random(1800)
        one = _forecast(np.sort(draws[:600]), {}, 1200, 0.005, 0.95)
        assert (one.parts, one.rank) == (1200, rank)
        limit = float(np.sort(draws[600:])[rank - 1])
        assert one.low is not None
        held += one.low <= limit and (one.high is None or limit <= one.high)
    assert held >= 0.85 * 200
    law = _places_law(600, 1200, rank)
    assert law.sum() == pytest.approx(1.0, abs=1e-9)
    assert (law @ np.arange(601)) == pytest.approx(600 * rank / 1201, rel=1e-9)


def test_oddness_is_uniform_when_the_tail_is_exponential():
    rng = np.random.default_rng(4)
    chances = [_chance(np.sort(rng.exponential(2.0, 300)), place) for _ in range(300) for place in (1, 3)]
    for p in (0.05, 0.5):
        assert np.mean(np.array(chances) <= p) == pytest.approx(p, abs=0.06)


def test_limits_for_each_map_see_what_the_fused_score_drowns():
    rng = np.random.default_rng(5)
    good = np.abs(rng.normal(size=(3000, 4)))
    good[:, 0] = good[:, 1:].sum(axis=1) + 3 * good[:, 3]
    bad = np.abs(rng.normal(size=(200, 4)))
    bad[:, 2] += 4.0
    bad[:, 0] = bad[:, 1:].sum(axis=1) + 3 * bad[:, 3]
    found = explore(good[:, 0], {"a": bad[:, 0]}, 0.01, 0.95)
    beside = with_maps(good, {"a": bad}, 0.01, 0.95)
    assert beside.guarantee
    assert beside.needed == 1227
    assert beside.rejected.share <= 0.01
    assert beside.missed["a"].count < found.now.missed["a"].count / 2
    assert "--also st=st ae=ae" in "\n".join(in_words(found, [str(i) for i in range(3000)], 0.95, [beside]))
    assert not with_maps(good[:600], {}, 0.005, 0.95).guarantee


def test_too_few_parts_and_broken_scores_are_refused():
    with pytest.raises(DataError, match="at least 8"):
        explore(np.arange(5.0), {}, 0.01, 0.9)
    with pytest.raises(DataError, match="finite"):
        explore(np.arange(50.0), {"dent": np.array([np.nan])}, 0.1, 0.9)
    found = explore(np.arange(20.0), {}, 0.001, 0.95)
    assert "still too few" in "\n".join(in_words(found, [str(i) for i in range(20)], 0.95))
    assert Rate.counted(0, 0).share == 0.0
