import numpy as np
import pytest

from edge.anomaly_map import BORDER_CELLS, to_picture

N = 24  # cells of a 128 px model
SIZE = (N + 2 * BORDER_CELLS) * 4


@pytest.mark.parametrize("cell", [(0, 0), (11, 3), (23, 23)])
def test_a_cell_lies_where_its_patch_looks(cell):
    anomaly_map = np.zeros((N, N), np.float32)
    anomaly_map[cell] = 1.0
    picture = to_picture(anomaly_map, SIZE, SIZE)
    rows, columns = np.nonzero(picture > 0.7)
    for where, index in ((rows, cell[0]), (columns, cell[1])):
        first, last = 4 * index, 4 * index + 33  # the 33 px the cell describes
        assert first <= where.min() or index == 0
        assert where.max() < last or index == N - 1
        if 0 < index < N - 1:
            assert abs(where.mean() - (4 * index + 16.5)) <= 0.5


def test_a_linear_map_stays_linear_at_any_size():
    ramp = np.tile(np.arange(N, dtype=np.float32), (N, 1))
    for width in (SIZE, 2 * SIZE, 300):
        picture = to_picture(ramp, SIZE, width)
        expected = (np.arange(width) + 0.5) / width * (N + 8) - 4.125
        inside = (expected > 0.5) & (expected < N - 1.5)
        np.testing.assert_allclose(picture[64][inside], expected[inside], atol=1e-3)


def test_the_border_repeats_the_rim_and_nothing_leaves_the_range():
    rng = np.random.default_rng(0)
    anomaly_map = rng.normal(0, 1, (N, N)).astype(np.float32)
    picture = to_picture(anomaly_map, 200, 150)
    assert picture.shape == (200, 150)
    assert picture.dtype == np.float32
    assert picture.min() >= anomaly_map.min() - 1e-6
    assert picture.max() <= anomaly_map.max() + 1e-6
    assert picture[0, 0] == pytest.approx(anomaly_map[0, 0], abs=1e-6)
    assert picture[-1, -1] == pytest.approx(anomaly_map[-1, -1], abs=1e-6)


@pytest.mark.parametrize(("shape", "height"), [((4,), 10), ((0, 0), 10), ((4, 4), 0)])
def test_nothing_to_lay_over_is_refused(shape, height):
    with pytest.raises(ValueError, match="expected a"):
        to_picture(np.zeros(shape, np.float32), height, 10)
