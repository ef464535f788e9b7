"""The quarantine covers every part since the last proof, no part before it, and bounds what may have escaped."""

import numpy as np
import pytest

from edge.binomial import cdf, quantile
from edge.drift.quarantine import EscapeWindow


def test_the_window_is_exactly_what_was_judged_since_the_proof():
    window = EscapeWindow()
    for seq in range(1, 101):
        window.judged(seq, passed=seq % 10 != 0)
    window.proof()
    for seq in range(101, 131):
        window.judged(seq, passed=seq % 10 != 0)
    found = window.failed("golden frame good-1")
    assert (found.first, found.last, found.passed, found.known_parts) == (101, 130, 27, 100)
    assert found.expected == pytest.approx(27 * 11 / 102)
    assert found.expected < found.bound <= 27
    # What was judged in the window never counts as proven.
    window.judged(131, passed=True)
    window.proof()
    window.judged(132, passed=True)
    again = window.failed("frozen camera")
    assert (again.first, again.last, again.known_parts) == (132, 132, 101)


def test_without_a_proof_everything_may_be_bad():
    window = EscapeWindow()
    for seq in range(5, 9):
        window.judged(seq, passed=True)
    found = window.failed("clock step")
    assert (found.first, found.last, found.passed, found.expected, found.bound) == (5, 8, 4, 4.0, 4)


def test_no_part_since_the_proof_is_an_empty_window():
    window = EscapeWindow()
    window.judged(1, passed=True)
    window.proof()
    found = window.failed("golden frame")
    assert found.last < found.first
    assert (found.passed, found.bound) == (0, 0)


def test_the_bound_holds_as_often_as_it_says():
    """400 lines of 4 % bad parts, all found until the proof and all missed after it."""
    rng = np.random.default_rng(0)
    held, excess = 0, []
    for _ in range(400):
        window = EscapeWindow()
        for seq, bad in enumerate(rng.random(400) < 0.04, start=1):
            window.judged(seq, passed=not bad)
        window.proof()
        blind = rng.random(100) < 0.04
        for seq in range(401, 501):
            window.judged(seq, passed=True)
        found = window.failed("blind")
        held += int(blind.sum()) <= found.bound
        excess.append(found.expected)
    assert held >= 0.95 * 400
    assert np.mean(excess) == pytest.approx(4.0, rel=0.15)


def test_binomial_quantiles():
    for n, rate in ((10, 0.3), (500, 0.01), (3000, 0.9)):
        for probability in (0.05, 0.5, 0.975):
            k = quantile(probability, n, rate)
            assert cdf(k, n, rate) >= probability
            assert k == 0 or cdf(k - 1, n, rate) < probability
    assert quantile(0.9, 0, 0.5) == 0
    with pytest.raises(ValueError, match="probability"):
        quantile(1.0, 5, 0.5)
