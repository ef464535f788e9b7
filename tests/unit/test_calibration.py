"""Damaged pictures and activation ranges: what calibration shows the network."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.damage import KINDS, damage, damage_all
from export.fuse.network import fuse
from export.graph.builder import GraphBuilder
from export.graph.detector import write_graph
from export.quantize.ranges import HEADROOM, collect_ranges, reach
from export.quantize.units import to_integer_units
from tests.support.detectors import pictures, random_detector


@pytest.mark.parametrize("kind", KINDS)
def test_damage_shows_and_says_where(kind):
    frame = pictures(1, 64)[0]
    before = frame.copy()
    for seed in range(5):
        damaged = damage(frame, np.random.default_rng(seed), kind)
        assert damaged.frame.shape == frame.shape
        assert damaged.frame.dtype == np.uint8
        assert np.array_equal(damaged.mask, (damaged.frame != frame).any(axis=2))
        assert np.abs(damaged.frame.astype(int) - frame).max() >= 12
    assert np.array_equal(frame, before)


@settings(deadline=None, max_examples=30)
@given(st.integers(16, 60), st.integers(16, 60), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_damage_shows_even_on_a_flat_picture(height, width, grey, seed):
    frame = np.full((height, width, 3), grey, np.uint8)
    damaged = damage(frame, np.random.default_rng(seed))
    assert damaged.frame.shape == frame.shape
    assert damaged.mask.any()
    assert damaged.kind in KINDS


def test_the_same_seed_gives_the_same_bytes_and_every_kind():
    frames = list(pictures(3, 48))
    first, second, other = (damage_all(frames, 14, seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a.frame, b.frame) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(a.frame, b.frame) for a, b in zip(first, other, strict=True))
    assert {one.kind for one in first} == set(KINDS)


def test_damage_of_an_unknown_kind_or_of_nothing_is_refused():
    with pytest.raises(ValueError, match="rust"):
        damage(pictures(1, 32)[0], np.random.default_rng(0), "rust")
    with pytest.raises(ValueError, match="at least one"):
        damage_all([], 3, 0)


@pytest.fixture(scope="module")
def network():
    return fuse(random_detector(seed=4))


@pytest.fixture(scope="module")
def frames():
    good = pictures(2, seed=2)
    return np.concatenate([good, [one.frame for one in damage_all(list(good), 2, 0)]])


@pytest.fixture(scope="module")
def seen(network, frames):
    return collect_ranges(network, frames)


def test_ranges_are_what_the_float_graph_shows(network, frames, seen):
    import onnxruntime

    builder = GraphBuilder()
    model = write_graph(network, builder, taps=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for point in ("input", "teacher.0.relu", "student.hidden", "ae.hidden"):
        values = np.concatenate([session.run([builder.points[point]], {"frame": frame[None]})[0] for frame in frames])
        assert seen[point].amax == pytest.approx(np.abs(values).max())
        assert np.allclose(seen[point].mean, values.mean((0, 2, 3), dtype=np.float64), rtol=1e-4, atol=1e-5)
        assert np.allclose(seen[point].variance, values.var((0, 2, 3), dtype=np.float64), rtol=1e-3, atol=1e-4)


def test_damaged_pictures_reach_further_than_good_ones(network, frames, seen):
    good = collect_ranges(network, frames[:2])
    assert all(seen[point].amax >= good[point].amax for point in good)
    assert seen["teacher.0.relu"].amax > good["teacher.0.relu"].amax


def test_ranges_of_no_pictures_are_refused(network):
    with pytest.raises(ValueError, match="expected pictures"):
        collect_ranges(network, np.empty((0, 128, 128, 3), np.uint8))


def test_integer_units_change_no_score_and_fill_the_integers(network, frames, seen):
    import onnxruntime

    units, seen_in_units = to_integer_units(network, seen)
    models = [write_graph(one) for one in (network, units)]
    onnx.checker.check_model(models[1], full_check=True)
    sessions = [onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]) for m in models]
    for frame in frames[1:3]:
        (want, *want_maps), (got, *got_maps) = (session.run(None, {"frame": frame[None]}) for session in sessions)
        assert np.allclose(got, want, rtol=2e-5, atol=2e-5)
        assert all(np.abs(a - b).max() < 1e-5 * np.abs(a).max() for a, b in zip(want_maps, got_maps, strict=True))
    for trunk in ("teacher", "student"):
        for point in (f"{trunk}.0.relu", f"{trunk}.1.relu", f"{trunk}.hidden"):
            assert reach(seen_in_units, point) == pytest.approx(255.0)
            # A channel a hundred times quieter than the loudest has a tenth of the integers, not a hundredth.
            quiet, loud = seen[point].peaks, seen[point].amax
            alive = quiet > 1e-2 * loud
            assert np.allclose(seen_in_units[point].peaks[alive] * HEADROOM, 255.0 * np.sqrt(quiet[alive] / loud))
    assert reach(seen_in_units, "ae.hidden") == pytest.approx(255.0)
    again = collect_ranges(units, frames)
    assert again["student.hidden"].amax == pytest.approx(255.0 / HEADROOM, rel=1e-4)
