"""Painted damage: reproducible, generic, and told to the student where it lies."""

import numpy as np
import pytest
import torch

from training.damage import LEAST_CHANGE, damaged_cells, paint_damage
from training.networks.pdn import Pdn, PdnSize, grid_side
from training.teacher.textures import generate_texture

SIZE = 128


def good(seed: int = 3):
    return generate_texture(np.random.default_rng(seed), SIZE)


def photograph(rng):
    return rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)


def painted(seed: int):
    return paint_damage(good(), photograph, np.random.default_rng(seed))


def test_a_seed_gives_the_same_damage_and_leaves_the_part_alone():
    frame = good()
    first, again = painted(7), paint_damage(frame, photograph, np.random.default_rng(7))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert np.array_equal(frame, good())
    assert not np.array_equal(first[0], painted(8)[0])


def test_what_changed_is_marked_and_nothing_else():
    frame = good()
    for seed in range(12):
        result, changed = painted(seed)
        apart = np.abs(result.astype(int) - frame.astype(int)).max(axis=2)
        assert np.array_equal(changed, apart >= LEAST_CHANGE)


def test_damage_mostly_shows_and_stays_local():
    shares = [painted(seed)[1].mean() for seed in range(60)]
    assert np.mean([share > 0 for share in shares]) > 0.9
    assert np.median(shares) < 0.15
    assert max(shares) < 0.5


@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 17), (23, 23)])
def test_a_damaged_cell_is_the_one_whose_vector_looks_there(row, column):
    changed = np.zeros((1, SIZE, SIZE), bool)
    middle = (16 + 4 * row, 16 + 4 * column)
    changed[0, middle[0] - 2 : middle[0] + 3, middle[1] - 2 : middle[1] + 3] = True
    cells = damaged_cells(changed)[0]
    assert cells.shape == (grid_side(SIZE), grid_side(SIZE))
    assert cells[row, column] == 1.0
    lit = cells.nonzero()
    assert (lit - torch.tensor([row, column])).abs().max() <= 1
    # The network's own view: only vectors whose 33 px patch covers the spot can know of it, and this one does.
    network = Pdn(PdnSize.SMALL).eval()
    x = torch.zeros(1, 3, SIZE, SIZE, requires_grad=True)
    network(x)[0, :, row, column].sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    centre = (seen.min(0).values + seen.max(0).values) / 2
    assert (centre - torch.tensor(middle)).abs().max() <= 1


def test_a_scratch_two_pixels_wide_counts_in_full_and_a_speck_does_not():
    scratch, speck = np.zeros((1, SIZE, SIZE), bool), np.zeros((1, SIZE, SIZE), bool)
    scratch[0, 60:62] = True
    speck[0, 60, 60] = True
    assert damaged_cells(scratch).amax() == 1.0
    assert 0 < damaged_cells(speck).amax() < 0.5
    assert damaged_cells(np.zeros((2, SIZE, SIZE), bool)).sum() == 0
