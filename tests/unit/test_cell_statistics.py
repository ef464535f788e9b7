"""What good parts show at each cell: believed where many parts show it, drawn towards all cells where few do."""

import numpy as np
import pytest

from training.calibrate import CELL_FLOOR, cell_statistics


def blurred(values):
    """Mean over 3 x 3 cells, the border repeated."""
    wide = np.pad(values, 1, mode="edge")
    return np.mean([wide[i : i + len(values), j : j + len(values)] for i in range(3) for j in range(3)], axis=0)


def test_many_parts_say_what_a_cell_shows():
    rng = np.random.default_rng(0)
    spread = np.where(np.arange(12) < 6, 0.5, 2.0)[None, :].repeat(12, 0)
    values = 3.0 + spread * rng.normal(size=(2000, 12, 12))
    mean, scale = cell_statistics(values).numpy()
    deviation = blurred(values.std(0))
    assert mean == pytest.approx(blurred(values.mean(0)), rel=1e-5)
    assert scale == pytest.approx(deviation + CELL_FLOOR * deviation.mean(), rel=0.01)


def test_a_cell_that_two_parts_happen_to_agree_on_is_not_the_loudest():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 24, 24))
    values[:, 4:9, 4:9] = 0.0  # their centre knows no deviation, even after the blur
    mean, scale = cell_statistics(values).numpy()
    others = rng.normal(size=(200, 24, 24))
    loudness = np.abs((others - mean) / scale).mean(0)
    assert loudness[6, 6] < 1.5 * np.median(loudness)
    unpooled = blurred(values.std(0))
    unpooled += CELL_FLOOR * unpooled.mean()
    plain = np.abs((others - mean) / unpooled).mean(0)
    assert plain[6, 6] > 2.5 * np.median(plain), "the case is one"


def test_maps_that_never_vary_stay_as_they_are():
    mean, scale = cell_statistics(np.full((5, 6, 6), 7.0)).numpy()
    assert not mean.any()
    assert (scale == 1).all()


def test_a_cell_beside_the_inspected_ones_has_an_infinite_scale_and_no_part_in_the_others():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 8, 8))
    counts = np.zeros((8, 8), np.bool_)
    counts[:, :4] = True
    loud = values.copy()
    loud[:, :, 5:] *= 1000  # beyond the blur's reach of the inspected ones
    quiet_scale, loud_scale = (cell_statistics(v, counts)[1].numpy() for v in (values, loud))
    assert np.isinf(loud_scale[:, 4:]).all()
    assert loud_scale[:, :4] == pytest.approx(quiet_scale[:, :4])
