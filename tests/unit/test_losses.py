"""The losses: against plain definitions, and DFSC's constraint against EfficientAD."""

import msgspec
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.losses import DfscKnobs, autoencoder_loss, dfsc_weight, hard_feature_loss, penalty_loss

OFF = DfscKnobs(weight=0.0)  # as `--dfsc-weight 0` makes it


def maps(seed=0, pictures=1, channels=16, side=9):
    generator = torch.Generator().manual_seed(seed)
    shape = (pictures, channels, side, side)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator, requires_grad=True)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.0, 0.9999), st.integers(1, 40), st.integers(1, 7), st.integers(0, 2**31))
def test_hard_feature_loss_is_the_mean_at_or_above_the_quantile(quantile, channels, side, seed):
    teacher, student = maps(seed, 1, channels, side)
    squares = (teacher - student.detach()).square().flatten()
    rank = quantile * (len(squares) - 1)
    assume(quantile == 0 or abs(rank - round(rank)) > 1e-6)  # on a rank, rounding decides whether the element itself counts
    expected = squares[squares.double() >= torch.quantile(squares.double(), quantile)].mean()
    torch.testing.assert_close(hard_feature_loss(teacher, student, quantile).detach(), expected, rtol=1e-5, atol=1e-7)


def test_hard_feature_loss_takes_each_picture_by_itself():
    teacher, student = maps(pictures=2)
    apart = [hard_feature_loss(teacher[i : i + 1], student[i : i + 1], 0.9) for i in range(2)]
    torch.testing.assert_close(hard_feature_loss(teacher, student, 0.9), (apart[0] + apart[1]) / 2)


def test_hard_feature_loss_reaches_only_the_hard_elements():
    teacher, student = maps()
    hard_feature_loss(teacher, student, 0.99).backward()
    assert (student.grad != 0).sum() == 1296 - 1283  # 1296 elements, ceil(0.99 x 1295) = 1283 of them easy


def test_penalty_is_the_mean_square():
    student = torch.tensor([[1.0, -3.0]])
    assert penalty_loss(student) == 5.0


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.7, 1.0])
def test_dfsc_without_weight_is_efficientad_to_the_bit(progress):
    teacher, first = maps(3)
    second = first.detach().clone().requires_grad_()
    plain = autoencoder_loss(teacher, first)
    constrained = autoencoder_loss(teacher, second, OFF, progress)
    plain.total.backward()
    constrained.total.backward()
    assert torch.equal(plain.total, constrained.total)
    assert torch.equal(first.grad, second.grad)
    assert torch.equal(plain.total, (teacher - first).square().mean())


def test_dfsc_before_its_start_is_efficientad():
    teacher, autoencoder = maps(4)
    knobs = DfscKnobs(weight=1.0, start=0.5)
    assert torch.equal(autoencoder_loss(teacher, autoencoder, knobs, 0.49).total, autoencoder_loss(teacher, autoencoder).total)


@pytest.mark.parametrize("by_position", [False, True])
def test_dfsc_is_the_formula(by_position):
    teacher, autoencoder = maps(5)
    knobs = DfscKnobs(weight=0.3, quantile=0.9, margin=6.0, margin_of_tau=False, by_position=by_position, start=0.0, ramp=0.0)
    found = autoencoder_loss(teacher, autoencoder, knobs)
    squares = (teacher - autoencoder.detach()).square()
    split = squares.mean(1, keepdim=True) if by_position else squares
    tau = torch.quantile(split.flatten(), 0.9)
    novel = split >= tau
    hinge = (6.0 - split[novel]).clamp_min(0).mean()
    similar = squares[~novel.expand_as(squares)].mean()
    torch.testing.assert_close(found.total.detach(), similar + 0.3 * hinge)
    assert found.active == pytest.approx((split[novel] < 6.0).float().mean().item())
    assert found.distance == pytest.approx(squares.mean().item())


def test_dfsc_pushes_novel_elements_away_and_pulls_similar_ones_in():
    teacher, autoencoder = maps(6)
    knobs = DfscKnobs(weight=1.0, quantile=0.95, margin=1.5, margin_most=100.0, start=0.0, ramp=0.0)
    loss = autoencoder_loss(teacher, autoencoder, knobs)
    loss.total.backward()
    squares = (teacher - autoencoder.detach()).square()
    moved = 2 * (teacher - autoencoder.detach()) * autoencoder.grad  # how descent changes each squared difference
    novel = squares >= squares.flatten().topk(1296 - 1231).values.amin()
    below = novel & (squares < min(1.5 * loss.tau, knobs.margin_most))
    assert below.any()
    assert (moved[below] > 0).all()
    assert (moved[~novel] <= 0).all()


def test_a_margin_below_tau_never_acts_and_says_so():
    teacher, autoencoder = maps(7)
    knobs = DfscKnobs(weight=1.0, quantile=0.99, margin=0.5, margin_of_tau=False, start=0.0, ramp=0.0)
    assert autoencoder_loss(teacher, autoencoder, knobs).active == 0.0


def test_weight_waits_then_ramps():
    knobs = DfscKnobs(weight=0.4, start=0.5, ramp=0.2)
    assert [dfsc_weight(knobs, p) for p in (0.0, 0.49)] == [0.0, 0.0]
    assert dfsc_weight(knobs, 0.6) == pytest.approx(0.2)
    assert dfsc_weight(knobs, 0.9) == pytest.approx(0.4)
    assert dfsc_weight(msgspec.structs.replace(knobs, ramp=0.0), 0.5) == pytest.approx(0.4)


def test_a_margin_tied_to_tau_cannot_run_away():
    """The hinge raises the tau its margin is tied to; the bound must end the chase."""
    teacher, start = maps(8)
    knobs = DfscKnobs(weight=10.0, quantile=0.9, margin=1.5, margin_most=8.0, start=0.0, ramp=0.0)
    autoencoder = start.detach().clone().requires_grad_()
    descent = torch.optim.SGD([autoencoder], lr=1.0)
    for _ in range(300):
        descent.zero_grad()
        autoencoder_loss(teacher, autoencoder, knobs).total.backward()
        descent.step()
    last = autoencoder_loss(teacher, autoencoder, knobs)
    assert torch.isfinite(autoencoder).all()
    assert last.tau < 40
