import numpy as np
import pytest

from training.few_parts import MOST_GROWTH, MOST_LIGHT, MOST_SHIFT, MOST_TINT, MOST_TURN, enlarge, vary

SIDE = 128


def dotted(row: int, column: int) -> np.ndarray:
    frame = np.full((SIDE, SIDE, 3), 60, np.uint8)
    frame[row - 2 : row + 3, column - 2 : column + 3] = 200
    return frame


def middle_of_dot(frame: np.ndarray) -> np.ndarray:
    light = frame.astype(np.float64).sum(2)
    weight = light > (light.min() + light.max()) / 2
    where: np.ndarray = np.argwhere(weight).mean(0)
    return where


def test_parts_come_first_as_they_are_and_copies_take_turns():
    parts = np.stack([dotted(40, 40), dotted(80, 90)])
    many = enlarge(parts, 7, seed=3)
    assert many.shape == (7, SIDE, SIDE, 3)
    assert many.dtype == np.uint8
    assert (many[:2] == parts).all()
    for copy, part in zip(many[2:], parts[[0, 1, 0, 1, 0]], strict=True):
        assert (copy != part).any()
        assert np.linalg.norm(middle_of_dot(copy) - middle_of_dot(part)) < SIDE * 0.15
    assert len({copy.tobytes() for copy in many}) == 7


@pytest.mark.parametrize("least", [0, 1, 2])
def test_enough_parts_are_left_alone(least):
    parts = np.stack([dotted(40, 40), dotted(80, 90)])
    assert enlarge(parts, least, seed=0) is parts


def test_copies_are_drawn_from_the_seed():
    parts = dotted(40, 40)[None]
    first, again, other = (enlarge(parts, 4, seed=seed) for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_a_copy_stays_within_what_is_said_of_it():
    # A dot in the middle only moves; one at a known distance from it also turns, and comes nearer or goes farther.
    shifts, reaches, turns, lights, tints = [], [], [], [], []
    for seed in range(200):
        centre, right = (middle_of_dot(vary(dotted(*at), np.random.default_rng(seed))) for at in ((64, 64), (64, 104)))
        shifts.append(centre - 64)
        arm = right - centre
        reaches.append(np.linalg.norm(arm) / 40)
        turns.append(np.arctan2(arm[0], arm[1]))
        gain = vary(np.full((SIDE, SIDE, 3), 100, np.uint8), np.random.default_rng(seed)).mean((0, 1)) / 100
        lights.append(gain.mean())
        tints.append(gain / gain.mean())
    shift = np.abs(shifts).max()
    assert SIDE * MOST_SHIFT * 0.8 < shift < SIDE * MOST_SHIFT + 1
    assert MOST_GROWTH * 0.7 < np.abs(np.array(reaches) - 1).max() < MOST_GROWTH + 0.02
    assert MOST_TURN * 0.8 < np.abs(turns).max() < MOST_TURN + 0.02
    assert MOST_LIGHT * 0.8 < np.abs(np.array(lights) - 1).max() < MOST_LIGHT + MOST_TINT + 0.03
    assert MOST_TINT * 0.8 < np.abs(np.array(tints) - 1).max() < 2 * MOST_TINT


def test_no_edge_comes_into_view():
    plain = np.full((SIDE, SIDE, 3), 100, np.uint8)
    for seed in range(50):
        copy = vary(plain, np.random.default_rng(seed)).astype(int)
        assert (copy == copy[0, 0]).all()
