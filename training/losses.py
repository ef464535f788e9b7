"""The losses of EfficientAD and of DFSC, on feature maps.

EfficientAD (arXiv 2303.14535v3, Algorithm 1): hard feature loss between teacher and student, a penalty on natural pictures,
teacher against auto-encoder, auto-encoder against student, summed without weights.

DFSC (arXiv 2407.17909) is a training-only constraint on the auto-encoder. Its exact text could not be had; what follows is our
reading, with a knob for everything the public text leaves open. All squares are element by element:

    d_TA = (T - A)^2;  tau' = the q-quantile of d_TA (no gradient) of each picture;  M = [d_TA >= tau'] ("novel")
    L_DFSC = sum(M max(0, m - d_TA)) / sum(M)                       pushes A away on novel elements until the margin m
    L_TA   = mean of d_TA over the similar elements, or over all
    L      = L_TA + mean (A - S_A)^2 + lambda L_DFSC

lambda = 0 is EfficientAD to the bit, whatever the other knobs say (tested). A margin below tau' makes the hinge inactive for
ever, which is the likeliest silent failure: the share of novel elements on which the hinge acts is returned with every loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import torch


class DfscKnobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the public text of DFSC leaves open.

    Attributes:
        weight: lambda; 0 turns the constraint off, the trimming of L_TA included.
        quantile: q of tau'.
        margin: m, in units of d_TA (the teacher's channels have unit variance) if absolute, else as a multiple of tau'.
        margin_of_tau: Whether the margin is tied to the measured tau' (then the hinge is active from the start for m > 1).
        margin_most: Largest margin, in units of d_TA. The hinge raises the very tau' its margin is tied to: without a bound the
            two chase each other (seen: lambda 0.1, 1.5 tau', d_TA at 10^19 within a hundred steps).
        by_position: Split whole grid positions (channel means) instead of single elements.
        similar_only: L_TA leaves the novel elements out.
        start: Part of the auto-encoder's steps before the constraint begins: it must first learn what is similar.
        ramp: Part of the steps over which lambda then grows to its value.
    """

    weight: float = 0.01
    quantile: float = 0.995
    margin: float = 1.5
    margin_of_tau: bool = True
    margin_most: float = 8.0
    by_position: bool = False
    similar_only: bool = True
    start: float = 0.7
    ramp: float = 0.2


@dataclass(frozen=True, slots=True)
class AutoencoderLoss:
    """What the auto-encoder's branch costs.

    Attributes:
        total: L_TA + lambda L_DFSC, to be minimized.
        distance: Mean of d_TA over all elements; 1 is "predicts each channel's mean".
        tau: Mean of tau' over the pictures (0 where the constraint is off).
        active: Share of the novel elements on which the hinge acts (0 where the constraint is off).
    """

    total: torch.Tensor
    distance: float
    tau: float
    active: float


def hard_feature_loss(teacher: torch.Tensor, student: torch.Tensor, quantile: float = 0.999) -> torch.Tensor:
    """Mean of the largest squared differences of each picture (EfficientAD, section 3.3).

    "At or above the q-quantile" are exactly the k largest of n elements with k = n - ceil(q (n - 1)); selecting them costs a
    fifth of sorting all, and has none of `torch.quantile`'s limit of 2^24 elements.

    Args:
        teacher: (N, C, h, w) float32, normalized.
        student: (N, C, h, w) float32.
        quantile: q; 0 gives the mean over all elements.

    Returns:
        Scalar.
    """
    squares = (teacher - student).square().flatten(1)
    count = squares.shape[1]
    kept = count - math.ceil(quantile * (count - 1))
    if kept >= count:
        return squares.mean()
    return squares.topk(kept, dim=1, sorted=False).values.mean()


def penalty_loss(student: torch.Tensor) -> torch.Tensor:
    """Mean square of the student's first half on pictures of anything else: it must not learn to copy the teacher at large.

    Args:
        student: (N, C, h, w) float32: the first half of the channels.
    """
    return student.square().mean()


def dfsc_weight(knobs: DfscKnobs, progress: float) -> float:
    """Lambda at a point of the training: 0 before `start`, then linearly up to its value within `ramp`.

    Args:
        knobs: The constraint.
        progress: Part of the steps done, 0 to 1.
    """
    if knobs.weight == 0 or progress < knobs.start:
        return 0.0
    return knobs.weight * (1.0 if knobs.ramp == 0 else min(1.0, (progress - knobs.start) / knobs.ramp))


def autoencoder_loss(
    teacher: torch.Tensor, autoencoder: torch.Tensor, knobs: DfscKnobs | None = None, progress: float = 1.0
) -> AutoencoderLoss:
    """Teacher against auto-encoder, with or without the DFSC constraint.

    Args:
        teacher: (N, C, h, w) float32, normalized.
        autoencoder: (N, C, h, w) float32.
        knobs: The constraint; None is plain EfficientAD.
        progress: Part of the steps done, 0 to 1.
    """
    squares = (teacher - autoencoder).square()
    everything = squares.mean()
    weight = 0.0 if knobs is None else dfsc_weight(knobs, progress)
    if knobs is None or knobs.weight == 0 or (weight == 0.0 and (not knobs.similar_only or progress < knobs.start)):
        return AutoencoderLoss(everything, everything.item(), 0.0, 0.0)
    split = squares.mean(1, keepdim=True) if knobs.by_position else squares
    flat = split.detach().flatten(1)
    count = flat.shape[1]
    novel_count = max(1, count - math.ceil(knobs.quantile * (count - 1)))
    tau = flat.topk(novel_count, dim=1, sorted=False).values.amin(1).view(-1, 1, 1, 1)
    novel = split.detach() >= tau
    margin = (knobs.margin * tau).clamp_max(knobs.margin_most) if knobs.margin_of_tau else torch.full_like(tau, knobs.margin)
    gap = (margin - split).clamp_min(0)
    hinge = (gap * novel).sum() / novel.sum()
    active = ((gap > 0) & novel).sum() / novel.sum()
    if knobs.similar_only:
        similar = (~novel).expand_as(squares)
        reconstruction = (squares * similar).sum() / similar.sum()
    else:
        reconstruction = everything
    total = reconstruction + weight * hinge if weight else reconstruction
    return AutoencoderLoss(total, everything.item(), tau.mean().item(), active.item())
