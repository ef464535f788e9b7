"""Rounding weights for the output's sake, and the biases that take up shifts and rounding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from export.fuse.layers import Conv
from export.quantize.rounding import Covariance, choose_scales, round_weight
from export.quantize.scheme import Point, quantize_conv, quantize_twofold, round_conv


def smooth_map(channels=6, side=24, seed=0):
    """(C, side, side) that varies slowly, as activations do, with correlated channels."""
    rng = np.random.default_rng(seed)
    spread = np.cumsum(np.cumsum(rng.normal(size=(channels, side, side)), axis=1), axis=2)
    mixed = np.einsum("ij,jhw->ihw", rng.normal(size=(channels, channels)), spread)
    return 100 + 30 * mixed / mixed.std()


def windows(value, kernel):
    return sliding_window_view(value, (kernel, kernel), axis=(1, 2)).transpose(1, 2, 0, 3, 4).reshape(-1, len(value) * kernel**2)


def covariance_of(value, kernel):
    return (Covariance(0, len(value), np.cov(windows(value, kernel).T, bias=True).astype(np.float32)),)


@pytest.fixture
def conv():
    rng = np.random.default_rng(1)
    return Conv(rng.normal(size=(8, 6, 3, 3)), rng.normal(size=8))


def test_rounding_for_the_output_beats_rounding_to_the_nearest_on_other_places_too(conv):
    seen, unseen = windows(smooth_map(), 3), windows(smooth_map()[:, ::-1], 3)
    importance = smooth_map().var(axis=(1, 2))
    scale = choose_scales(conv.weight, 63, importance)
    nearest = np.clip(np.rint(conv.weight / scale[:, None, None, None]), -63, 63)
    made_good = round_weight(conv.weight, scale, 63, covariance_of(smooth_map(), 3))

    def error(weight, patches):
        apart = (weight * scale[:, None, None, None] - conv.weight).reshape(8, -1)
        return ((patches - patches.mean(axis=0)) @ apart.T).var()

    assert error(made_good, seen) < 0.1 * error(nearest, seen)
    assert error(made_good, unseen) < 0.5 * error(nearest, unseen)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.sampled_from([63, 127]), st.integers(0, 2**32 - 1))
def test_rounded_weights_stay_within_their_bits(outputs, inputs, kernel, levels, seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(outputs, inputs, kernel, kernel)) * rng.choice([0.0, 1e-6, 1.0, 1e4], (outputs, 1, 1, 1))
    root = rng.normal(size=(inputs * kernel**2,) * 2)
    scale = choose_scales(weight, levels, np.ones(inputs))
    assert (scale > 0).all()
    assert scale.dtype == np.float32
    rounded = round_weight(weight, scale, levels, [Covariance(0, inputs, (root @ root.T).astype(np.float32))])
    assert rounded.dtype == np.int8
    assert np.abs(rounded.astype(int)).max(initial=0) <= levels


def test_inputs_that_never_vary_are_rounded_to_the_nearest(conv):
    scale = choose_scales(conv.weight, 63, np.zeros(6))
    rounded = round_weight(conv.weight, scale, 63, [Covariance(0, 6, np.zeros((54, 54), np.float32))])
    assert np.array_equal(rounded, np.clip(np.rint(conv.weight / scale[:, None, None, None].astype(np.float64)), -63, 63))


def test_uncorrelated_inputs_leave_nothing_to_make_good(conv):
    scale = choose_scales(conv.weight, 63, np.ones(6))
    rounded = round_weight(conv.weight, scale, 63, [Covariance(0, 6, np.eye(54, dtype=np.float32))])
    assert np.array_equal(rounded, np.clip(np.rint(conv.weight / scale[:, None, None, None].astype(np.float64)), -63, 63))


def test_groups_must_cover_every_channel_once(conv):
    scale = np.ones(8, np.float32)
    half = np.eye(27, dtype=np.float32)
    for groups in ([Covariance(0, 3, half)], [Covariance(0, 3, half), Covariance(2, 5, half)], []):
        with pytest.raises(ValueError, match="each once"):
            round_weight(conv.weight, scale, 63, groups)
    with pytest.raises(ValueError, match=r"\(54, 54\)"):
        round_weight(conv.weight, scale, 63, [Covariance(0, 6, half)])


def test_a_shifted_input_gives_the_same_output(conv):
    value = np.clip(np.rint(smooth_map()), 0, 255)
    mean, variance = value.mean(axis=(1, 2)), value.var(axis=(1, 2))
    outputs = {}
    for shift in (0.0, 128.0):
        point = Point(1.0, np.full(6, shift), mean, variance)
        integers = quantize_conv(conv, point, *round_conv(conv, point, 63, covariance_of(value, 3)))
        held = integers.weight * integers.scale.astype(np.float64)[:, None, None, None]
        outputs[shift] = windows(value - shift, 3) @ held.reshape(8, -1).T + integers.bias
        # The bias is a whole number of the accumulator's unit.
        counts = integers.bias / integers.scale.astype(np.float64)
        assert np.allclose(counts, np.rint(counts), atol=1e-6)
    exact = windows(value, 3) @ conv.weight.reshape(8, -1).T + conv.bias
    assert np.abs(outputs[128.0] - outputs[0.0]).max() < 2 * float(integers.scale.max())
    assert np.abs((outputs[128.0] - exact).mean(axis=0)).max() < 0.05 * exact.std()
    assert (outputs[128.0] - exact).std() < 0.01 * exact.std()


def test_a_twofold_convolution_holds_its_weights_to_thirteen_bits(conv):
    value = np.clip(np.rint(smooth_map()), 0, 255)
    point = Point(1.0, np.full(6, 128.0), value.mean(axis=(1, 2)), value.var(axis=(1, 2)))
    parts = quantize_twofold(conv, point, 63)
    held = sum(one.weight * one.scale.astype(np.float64)[:, None, None, None] for one in parts)
    assert np.abs(held - conv.weight).max() <= 0.51 * float(parts[1].scale.max())
    assert float(parts[1].scale.max()) < float(parts[0].scale.max()) / 125
    assert not parts[0].bias.any()
    exact = windows(value, 3) @ conv.weight.reshape(8, -1).T + conv.bias
    got = windows(value - 128.0, 3) @ held.reshape(8, -1).T + sum(one.bias for one in parts)
    assert np.abs(got - exact).max() < 2e-3 * exact.std()


def test_a_padded_convolution_refuses_a_shifted_input():
    padded = Conv(np.ones((1, 1, 3, 3)), np.zeros(1), padding=(1, 1, 1, 1))
    point = Point(1.0, np.full(1, 128.0), np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="unpadded"):
        quantize_conv(padded, point, np.ones((1, 1, 3, 3), np.int8), np.ones(1, np.float32))


def test_a_shift_is_where_the_quantizer_saturates_or_nothing():
    with pytest.raises(ValueError, match="128 steps"):
        Point(0.5, np.full(2, 63.0), np.zeros(2), np.ones(2))
    Point(0.5, np.array([0.0, 64.0]), np.zeros(2), np.ones(2))
