"""After training: quantiles of the maps, the global head, and the constants of the fusion, all from good parts.

Nothing here sees a test picture. The head learns from training parts; quantiles, centres and scales come from held-out good parts.
EfficientAD takes the quantiles from maps enlarged to the picture's side; ours come from the maps' own cells, whose values the
enlargement only blends.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.errors import RecipeError
from training.features import to_input
from training.global_head import fit_pooled, trimmed_center_scale
from training.networks.pdn import TEACHER_CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.networks.detector import Detector

Q_A, Q_B = 0.9, 0.995
"""Quantiles of a map's cells (EfficientAD, section 3.4)."""

MIN_PARTS = 2

LEARNT_ENOUGH = 0.6
"""Share of the teacher's variance the auto-encoder must explain on held-out parts for its map to count fully. Measured on three
synthetic products: explaining .66, .40 and -.03 of it gave .94, .66 and .42 logical AUROC."""

_BATCH = 8


@torch.no_grad()
def measure(detector: Detector, frames: NDArray[np.uint8], device: torch.device) -> tuple[NDArray[np.float64], ...]:
    """Maps before normalization and pooled vectors of many frames.

    Returns:
        (N, n, n) teacher against student, (N, n, n) auto-encoder against student, (N, 384) pooled.
    """
    parts: list[tuple[torch.Tensor, ...]] = []
    for start in range(0, len(frames), _BATCH):
        parts.append(tuple(t.to("cpu", torch.float64) for t in detector.maps(to_input(frames[start : start + _BATCH], device))))
    return tuple(torch.cat(column).numpy() for column in zip(*parts, strict=True))


@torch.no_grad()
def autoencoder_distance(detector: Detector, frames: NDArray[np.uint8], device: torch.device) -> float:
    """Mean of (T - A)^2 over frames, as a share of the variance of T there: 0 perfect, 1 no better than the mean vector."""
    error = total = 0.0
    for start in range(0, len(frames), _BATCH):
        x = to_input(frames[start : start + _BATCH], device)
        teacher = detector.normalized_teacher(x)
        error += (teacher - detector.autoencoder(x)).square().sum().item()
        total += teacher.square().sum().item()
    return error / max(total, 1e-12)


def _quantiles(values: NDArray[np.float64], name: str) -> torch.Tensor:
    low, high = np.quantile(values, [Q_A, Q_B])
    if not high > low:
        raise RecipeError(
            f"{name} is the same on {Q_A:.1%} and {Q_B:.1%} of the cells of the held-out parts ({low:.3g}): the networks have not "
            "trained, or the held-out pictures are all alike"
        )
    return torch.tensor([low, high], dtype=torch.float32)


def fit_detector(
    detector: Detector, train: NDArray[np.uint8], validation: NDArray[np.uint8], device: torch.device
) -> dict[str, float]:
    """Fits everything but the networks, in place.

    Args:
        detector: Trained networks; on the device.
        train: (N, S, S, 3) uint8 good parts the networks were trained on.
        validation: (M, S, S, 3) uint8 held-out good parts.
        device: Where to work.

    Returns:
        Figures for the record: `validation_d_ta`, `ae_weight`, `head_shrinkage`, and of every branch the centre and scale.

    Raises:
        RecipeError: Too few parts, or the networks give nothing to scale by.
    """
    if len(validation) < MIN_PARTS:
        raise RecipeError(f"expected at least {MIN_PARTS} held-out good parts to fit quantiles on, got {len(validation)}")
    detector.eval()
    map_st, map_ae, pooled = measure(detector, validation, device)
    detector.q_st.copy_(_quantiles(map_st, "map_st"))
    detector.q_ae.copy_(_quantiles(map_ae, "map_ae"))
    head = fit_pooled(measure(detector, train, device)[2])
    detector.head_mean.copy_(torch.from_numpy(head.mean))
    detector.head_precision.copy_(torch.from_numpy(head.precision))
    global_center, global_scale = trimmed_center_scale(head.distance(pooled))
    detector.head_z.copy_(torch.tensor([global_center, global_scale]))

    def peaks(values: NDArray[np.float64], quantiles: torch.Tensor) -> NDArray[np.float64]:
        low, high = (float(q) for q in quantiles)
        normalized: NDArray[np.float64] = 0.1 * (values.max((1, 2)) - low) / (high - low)
        return normalized

    st_center, st_scale = trimmed_center_scale(peaks(map_st, detector.q_st))
    ae_center, ae_scale = trimmed_center_scale(peaks(map_ae, detector.q_ae))
    distance = autoencoder_distance(detector, validation, device)
    ae_weight = float(np.clip((1 - distance) / LEARNT_ENOUGH, 0, 1))
    detector.fusion.copy_(torch.tensor([st_center, st_scale, 1.0, ae_center, ae_scale, ae_weight, 1.0]))
    figures = {
        "validation_d_ta": distance, "ae_weight": ae_weight, "head_shrinkage": head.shrinkage,
        "st_center": st_center, "st_scale": st_scale, "ae_center": ae_center, "ae_scale": ae_scale,
        "global_center": global_center, "global_scale": global_scale,
    }  # fmt: skip
    unusable = [name for name, value in figures.items() if not math.isfinite(value)]
    if unusable:
        raise RecipeError(f"not finite after training: {', '.join(unusable)}; the networks diverged: train with a lower rate")
    assert detector.head_mean.shape == (TEACHER_CHANNELS,)
    return figures
