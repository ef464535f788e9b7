"""What the simulated belt writes is what data sets are read as, for every product."""

import numpy as np
import pytest

from edge.belt.scene import PRODUCTS
from edge.belt.writer import splits, write_scenes
from training.datasets import load_frames, open_dataset, read_truth


@pytest.mark.parametrize("product", sorted(PRODUCTS))
def test_scenes_are_read_with_their_masks_and_defects(tmp_path, product):
    write_scenes(product, tmp_path / product, splits(0, 3, 2, 4), 128)
    data = open_dataset(tmp_path / product)
    assert (len(data.train), len(data.validation), len(data.test)) == (3, 2, 12)
    assert data.types == ["good", "logical_anomalies", "structural_anomalies"]
    assert data.split == "as laid out"
    for item in data.test:
        truths = read_truth(item, data.saturation)
        assert len(truths) == (item.type != "good")
        for truth in truths:
            assert truth.name
            assert 1 <= truth.saturation_px <= np.count_nonzero(truth.pixels)
    assert load_frames(data.test, 128).shape == (12, 128, 128, 3)
