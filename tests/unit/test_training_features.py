"""What the student learns from: changed versions of a picture, the teacher's stored vectors, their statistics."""

import numpy as np
import torch

from tests.support.trainings import CPU
from training.features import FeatureStore, jitter, teacher_statistics, to_input, version_of
from training.networks.pdn import Pdn, PdnSize
from training.teacher.textures import generate_texture


def test_versions_change_light_and_nothing_else():
    rng = np.random.default_rng(1)
    frame = generate_texture(rng, 64)
    kinds = [jitter(frame, np.random.default_rng(i)) for i in range(24)]
    assert len({k.tobytes() for k in kinds}) > 20
    for changed in kinds:
        assert np.corrcoef(changed.mean(2).ravel(), frame.mean(2).ravel())[0, 1] > 0.97  # nothing moved
    frames = frame[None]
    assert np.array_equal(version_of(frames, 0, 0, 9), frame)
    assert np.array_equal(version_of(frames, 0, 1, 9), version_of(frames, 0, 1, 9))
    assert not np.array_equal(version_of(frames, 0, 1, 9), version_of(frames, 0, 2, 9))


def test_store_gives_back_what_was_put_within_half_precision():
    store = FeatureStore(2, 2, 128)
    vectors = torch.randn(384, 24, 24)
    store.put(1, 0, vectors)
    torch.testing.assert_close(store.get([(1, 0)], CPU)[0], vectors, rtol=2**-10, atol=1e-4)
    assert FeatureStore.versions_within(100, 4, 128, store_mib=10_000) == 4
    assert FeatureStore.versions_within(100, 4, 256, store_mib=1000) == 2
    assert FeatureStore.versions_within(5000, 4, 256, store_mib=10) == 1


def test_teacher_statistics_are_those_of_all_vectors():
    torch.manual_seed(0)
    network = Pdn(PdnSize.SMALL).eval()
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    mean, std = teacher_statistics(network, frames, CPU)
    with torch.no_grad():
        vectors = network(to_input(frames, CPU)).double()
    torch.testing.assert_close(mean.double(), vectors.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std.double(), vectors.std((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-5)
