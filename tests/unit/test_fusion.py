"""Every fusing pass against torch, and the whole fused graph against the float detector."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from export.fuse.crop import seen_side
from export.fuse.difference import HIDDEN_PADDING, difference, embed_padded_kernel
from export.fuse.head import pooled_head
from export.fuse.layers import Conv, read_conv, read_convs
from export.fuse.maps import fold_map
from export.fuse.network import fuse
from export.fuse.normalization import fold_normalization
from export.fuse.statistics import fold_teacher_statistics
from export.fuse.subspace import keep_directions
from export.graph.detector import write_graph
from tests.support.detectors import pictures, random_detector
from training.networks.detector import HeadInput, normalize_map
from training.networks.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize_frames

TIGHT = 1e-12  # both sides compute in float64: only the order of additions differs


def random_conv(outputs, inputs, kernel, seed=0, **more):
    rng = np.random.default_rng(seed)
    return Conv(rng.normal(size=(outputs, inputs, kernel, kernel)), rng.normal(size=outputs), **more)


def run_conv(conv, x):
    """A convolution by torch in float64: (N, C, H, W) numpy in and out."""
    top, left, bottom, right = conv.padding
    padded = functional.pad(torch.from_numpy(x), (left, right, top, bottom))
    out = functional.conv2d(padded, torch.from_numpy(conv.weight), torch.from_numpy(conv.bias), stride=conv.stride)
    out = functional.relu(out) if conv.relu else out
    return (functional.avg_pool2d(out, 2) if conv.pool else out).numpy()


def relative(got, wanted):
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def test_normalization_folds_into_an_unpadded_first_convolution():
    conv = random_conv(5, 3, 4)
    frames = torch.from_numpy(pictures(2, 32))
    normalized = normalize_frames(frames).double().numpy()
    folded = fold_normalization(conv, np.array(IMAGENET_MEAN), np.array(IMAGENET_STD))
    centred = frames.permute(0, 3, 1, 2).double().numpy() - 128
    # normalize_frames itself computes in float32
    assert relative(run_conv(folded, centred), run_conv(conv, normalized)) < 1e-6


def test_normalization_refuses_padding_where_it_would_not_be_exact():
    with pytest.raises(ValueError, match="unpadded"):
        fold_normalization(random_conv(2, 3, 4, padding=(1, 1, 1, 1)), np.array(IMAGENET_MEAN), np.array(IMAGENET_STD))


def test_teacher_statistics_fold_into_the_last_convolution():
    conv, rng = random_conv(6, 4, 3), np.random.default_rng(1)
    mean, std, x = rng.normal(size=6), rng.uniform(0.5, 2, 6), rng.normal(size=(1, 4, 9, 9))
    wanted = (run_conv(conv, x) - mean[:, None, None]) / std[:, None, None]
    assert relative(run_conv(fold_teacher_statistics(conv, mean, std), x), wanted) < TIGHT


@pytest.mark.parametrize(("conv", "std"), [(random_conv(2, 2, 3, relu=True), [1.0, 1.0]), (random_conv(2, 2, 3), [1.0, 0.0])])
def test_teacher_statistics_refuse_what_would_not_be_exact(conv, std):
    with pytest.raises(ValueError, match="expected"):
        fold_teacher_statistics(conv, np.zeros(2), np.array(std))


def test_a_difference_is_one_convolution_over_both_inputs():
    first, second, rng = random_conv(6, 4, 4, 1), random_conv(6, 3, 4, 2), np.random.default_rng(3)
    a, b = rng.normal(size=(1, 4, 11, 11)), rng.normal(size=(1, 3, 11, 11))
    both = difference(first, second)
    assert both.weight.shape == (6, 7, 4, 4)
    assert relative(run_conv(both, np.concatenate([a, b], axis=1)), run_conv(first, a) - run_conv(second, b)) < TIGHT


def test_a_difference_refuses_convolutions_over_other_windows():
    with pytest.raises(ValueError, match="same windows"):
        difference(random_conv(6, 4, 4), random_conv(6, 4, 3))
    with pytest.raises(ValueError, match="without activation"):
        difference(random_conv(6, 4, 4, relu=True), random_conv(6, 4, 4, relu=True))


def test_a_padded_kernel_embeds_in_an_unpadded_one():
    conv = random_conv(5, 4, 3, padding=(1, 1, 1, 1))
    x = np.random.default_rng(0).normal(size=(1, 4, 10, 10))
    top, left, bottom, right = HIDDEN_PADDING
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    assert relative(run_conv(embed_padded_kernel(conv), padded), run_conv(conv, x)) < TIGHT


def test_only_the_padded_kernel_of_the_autoencoder_is_embedded():
    with pytest.raises(ValueError, match="3x3"):
        embed_padded_kernel(random_conv(5, 4, 3))


def test_map_normalization_is_one_scale_and_offset_per_cell():
    rng = np.random.default_rng(0)
    squares, cell, quantiles = rng.random((7, 4, 4)), rng.random((2, 4, 4)) + 0.1, np.array([0.3, 1.7])
    wanted = normalize_map(torch.from_numpy(squares.mean(0)[None]), torch.from_numpy(cell), torch.from_numpy(quantiles))[
        0
    ].numpy()
    folded = fold_map(cell, quantiles, channels=7)
    assert np.allclose(folded.scale * squares.sum(0) + folded.offset, wanted, atol=1e-12)
    assert np.allclose(folded.sums(wanted), squares.sum(0), atol=1e-12)


@pytest.mark.parametrize(("scale", "quantiles"), [(1.0, [1.0, 1.0]), (0.0, [0.0, 1.0])])
def test_a_map_that_never_varied_is_refused(scale, quantiles):
    with pytest.raises(ValueError, match="constant"):
        fold_map(np.full((2, 3, 3), scale), np.array(quantiles), channels=4)


def test_the_head_pools_before_its_convolution_instead_of_behind():
    conv, x = random_conv(6, 4, 4), np.random.default_rng(5).normal(size=(1, 4, 12, 12))
    mean = np.random.default_rng(6).normal(size=6)
    head = pooled_head("teacher", conv, mean, np.eye(6), 0.0, 1.0)
    windows = np.stack([[x[0, :, i : i + 9, j : j + 9].mean((1, 2)) for j in range(4)] for i in range(4)])
    pooled = np.einsum("ocij,ijc->o", head.conv.weight, windows) + head.conv.bias
    assert relative(pooled, run_conv(conv, x)[0].mean((1, 2)) - mean) < TIGHT


def test_a_head_without_a_scale_is_refused():
    with pytest.raises(ValueError, match="positive scale"):
        pooled_head("teacher", random_conv(6, 4, 4), np.zeros(6), np.eye(6), 0.0, 0.0)


@pytest.mark.parametrize(("size", "seen"), [(128, 125), (256, 253), (160, 157)])
def test_the_last_pixels_of_a_picture_are_seen_by_no_cell(size, seen):
    trunk = read_convs(random_detector().teacher.layers)
    assert seen_side(trunk[:-1], trunk[-1], size // 4 - 8) == seen


def test_the_crop_refuses_a_trunk_that_pads():
    with pytest.raises(ValueError, match="unpadded"):
        seen_side([random_conv(2, 2, 3, padding=(1, 1, 1, 1))], random_conv(2, 2, 3), 8)


def test_modules_that_no_pass_knows_are_refused():
    with pytest.raises(TypeError, match="Linear"):
        read_convs([torch.nn.Linear(2, 2)])
    with pytest.raises(TypeError, match="one group"):
        read_conv(torch.nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(TypeError, match="2x2"):
        read_convs([torch.nn.Conv2d(3, 3, 3), torch.nn.AvgPool2d(3)])


@pytest.mark.parametrize("directions", [384, 20])
def test_the_fused_graph_gives_the_detectors_numbers(directions):
    detector = random_detector(head=HeadInput.STUDENT, seed=3, directions=directions)
    model = write_graph(fuse(detector))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    # The reference in float64, so that what is left is the float32 graph's own rounding.
    reference = random_detector(head=HeadInput.STUDENT, seed=3, directions=directions).double()
    for frame in pictures(1, seed=1):
        wanted = reference.scores(*reference.maps(normalize_frames(torch.from_numpy(frame[None])).double()))
        for got, want in zip(session.run(None, {"frame": frame[None]}), wanted, strict=True):
            assert relative(got, want[0].numpy()) < 1e-5


def test_directions_are_kept_of_a_bare_convolution_only():
    rng = np.random.default_rng(0)
    conv = Conv(rng.normal(size=(5, 3, 2, 2)), rng.normal(size=5))
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert keep_directions(conv, basis) is conv
    narrow = keep_directions(conv, basis[:2])
    patch = rng.normal(size=(3, 2, 2))
    whole = np.tensordot(conv.weight, patch, 3) + conv.bias
    assert np.allclose(np.tensordot(narrow.weight, patch, 3) + narrow.bias, basis[:2] @ whole)
    for unfit, wrong in ((dataclasses.replace(conv, relu=True), basis[:2]), (conv, basis[:2, :4])):
        with pytest.raises(ValueError, match="no activation"):
            keep_directions(unfit, wrong)


def test_pixels_beyond_the_crop_reach_the_autoencoder_only():
    detector = random_detector()
    session = onnxruntime.InferenceSession(write_graph(fuse(detector)).SerializeToString(), providers=["CPUExecutionProvider"])
    frame = pictures(1)[0]
    changed = frame.copy()
    changed[125:] = 255 - changed[125:]
    (before, st_before, ae_before), (after, st_after, ae_after) = (
        session.run(None, {"frame": f[None]}) for f in (frame, changed)
    )
    assert np.array_equal(st_before, st_after)
    assert before[3] == after[3]
    assert not np.array_equal(ae_before, ae_after)


def test_fusing_leaves_the_detector_as_it_was():
    detector = random_detector()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    network = fuse(detector)
    dataclasses.replace(network)  # frozen, but its arrays could be views of the detector's
    network.st.weight[:] = 0
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
