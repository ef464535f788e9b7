"""After training: quantiles of the maps, the global head, and the constants of the fusion, all from good parts.

Nothing here sees a test picture. The head learns from training parts; quantiles, centres and scales from held-out good parts.
EfficientAD takes the quantiles from maps enlarged to the picture's side; ours come from the maps' own cells, whose values the
enlargement only blends.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.balance import Branch, balanced, figures_of, fit_branch
from training.errors import RecipeError
from training.features import to_input
from training.global_head import fit_pooled
from training.networks.detector import HeadInput, normalize_map
from training.networks.pdn import TEACHER_CHANNELS
from training.progress import told

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.networks.detector import Detector

Q_A, Q_B = 0.9, 0.995
"""Quantiles of a map's cells (EfficientAD, section 3.4)."""

MIN_PARTS = 2

LEARNT_NOTHING, LEARNT_ENOUGH = 0.25, 0.6
"""Shares of the teacher's variance the auto-encoder must explain on held-out parts for its map to count at all, and fully.
Measured on three synthetic products: explaining .66, .40 and -.03 of it gave .94, .66 and .42 logical AUROC; pcb_traces and
commutator, whose defects are structural: .15 and 0 of it, .46 and .67, and a quarter of pcb_traces' map cost 2.4 points."""

CELL_FLOOR = 0.3
"""Measured with the per-cell statistics themselves, on the tray: see `training.networks.detector`."""

PRIOR_PARTS = 3
"""A cell's variance counts as if this many further parts had shown there what any part shows anywhere: two or five parts say
little of one cell. Measured at 128 px, without and with it: screws4, whose scores two parts shape, AUROC .988 -> 1.000; the tray
with 5 shaping parts logical .978 -> .991, structural .996 -> .991, with 20 .9988 -> .9989 and .9970 -> .9977, with 100 1.000 and
.9971 both times."""

BASIS_PARTS = 48
"""Held-out parts that fix the directions of the maps: 48 x 576 vectors and more for 384 x 384 numbers."""

_BATCH = 8


@torch.no_grad()
def measure(detector: Detector, frames: NDArray[np.uint8], device: torch.device) -> tuple[NDArray[np.float64], ...]:
    """Maps before normalization and pooled vectors of many frames.

    Returns:
        (N, n, n) teacher against student, (N, n, n) auto-encoder against student, (N, 384) pooled.
    """
    parts = [
        tuple(t.to("cpu", torch.float64) for t in detector.maps(to_input(frames[start : start + _BATCH], device)))
        for start in told(range(0, len(frames), _BATCH), f"maps of {len(frames)} held-out pictures")
    ]
    return tuple(torch.cat(column).numpy() for column in zip(*parts, strict=True))


@torch.no_grad()
def fit_bases(detector: Detector, frames: NDArray[np.uint8], device: torch.device) -> dict[str, float]:
    """Sets the directions the maps keep: those of the largest mean square of the differences over good parts.

    Args:
        detector: Trained; nothing happens where its maps keep all directions.
        frames: (N, S, S, 3) uint8 good parts.
        device: Where the detector lies.

    Returns:
        The share of the mean square that is kept, of each map.
    """
    kept = len(detector.basis_st)
    if kept == TEACHER_CHANNELS:
        return {}
    moments = torch.zeros(2, TEACHER_CHANNELS, TEACHER_CHANNELS, dtype=torch.float64, device=device)
    for start in range(0, len(frames), _BATCH):
        for moment, apart in zip(
            moments, detector.differences(to_input(frames[start : start + _BATCH], device))[:2], strict=True
        ):
            rows = apart.movedim(1, -1).reshape(-1, TEACHER_CHANNELS).to(torch.float64)
            moment.addmm_(rows.T, rows)
    shares = {}
    for name, moment, basis in zip(("st", "ae"), moments, (detector.basis_st, detector.basis_ae), strict=True):
        values, vectors = torch.linalg.eigh(moment)
        basis.copy_(vectors[:, -kept:].T)
        shares[f"{name}_kept"] = float(values[-kept:].sum() / values.sum().clamp_min(1e-300))
    return shares


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


def weight_of(explained: float) -> float:
    """How much a reconstruction's map counts that explains this share of what it rebuilds, on held-out good parts: 0 to 1."""
    return float(np.clip((explained - LEARNT_NOTHING) / (LEARNT_ENOUGH - LEARNT_NOTHING), 0, 1))


def _quantiles(values: NDArray[np.float64], name: str) -> torch.Tensor:
    low, high = np.quantile(values, [Q_A, Q_B])
    if not high > low:
        raise RecipeError(
            f"{name}: the {Q_A} and {Q_B} quantiles over the held-out parts are both {low:.3g}: the networks have not trained, "
            "or the held-out pictures are all alike"
        )
    return torch.tensor([low, high], dtype=torch.float32)


def cell_statistics(values: NDArray[np.float64], inspected: NDArray[np.bool_] | None = None) -> torch.Tensor:
    """What good parts show at each cell.

    Args:
        values: (N, n, n) maps of good parts before normalization.
        inspected: (n, n), True where a cell counts; None for all.

    Returns:
        (2, n, n) float32: mean and scale. The scale is the standard deviation over the parts, drawn a little towards that over
        all cells (`PRIOR_PARTS`), plus 0.3 of its mean over the inspected cells, so that a cell that hardly varied among few
        parts does not become the loudest. Mean and deviation are blurred over 3 x 3 cells: parts lie a cell or so apart from one
        picture to the next. The scale of a cell that does not count is infinite.
    """
    counts = np.ones(values.shape[1:], np.bool_) if inspected is None else inspected
    mean, deviation = (_box3(statistic) for statistic in (values.mean(0), values.std(0)))
    own, anywhere = len(values) * deviation**2, PRIOR_PARTS * values[:, counts].var()
    scale = np.sqrt((own + anywhere) / (len(values) + PRIOR_PARTS)) + CELL_FLOOR * deviation[counts].mean()
    if not deviation[counts].max() > 0:  # maps that never vary: the plain normalization
        mean, scale = np.zeros_like(mean), np.ones_like(scale)
    return torch.from_numpy(np.stack([mean, np.where(counts, scale, np.inf)])).to(torch.float32)


def _box3(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over 3 x 3 cells, the border repeated: (n, n) -> (n, n)."""
    side = len(values)
    wide = np.pad(values, 1, mode="edge")
    return np.asarray(sum(wide[i : i + side, j : j + side] for i in range(3) for j in range(3)) / 9.0, np.float64)


def _usual(values: NDArray[np.float64], cell: torch.Tensor) -> NDArray[np.float64]:
    mean, scale = cell.detach().cpu().double().numpy()
    return np.asarray((values - mean) / scale, np.float64)


@torch.no_grad()
def pooled_vectors(detector: Detector, frames: NDArray[np.uint8], device: torch.device) -> NDArray[np.float64]:
    """(N, 384) pooled vectors of the network the head listens to, without running the others."""
    parts = []
    for start in told(range(0, len(frames), _BATCH), f"the global head's vectors of {len(frames)} pictures"):
        x = to_input(frames[start : start + _BATCH], device)
        from_teacher = detector.head_input is HeadInput.TEACHER
        vectors = detector.normalized_teacher(x) if from_teacher else detector.student(x)[:, :TEACHER_CHANNELS]
        parts.append(vectors.mean((2, 3)).to("cpu", torch.float64))
    return torch.cat(parts).numpy()


@torch.no_grad()
def set_maps(
    detector: Detector, map_st: NDArray[np.float64], map_ae: NDArray[np.float64], inspected: NDArray[np.bool_] | None = None
) -> tuple[Branch, Branch]:
    """Sets the normalization of both maps, in place.

    Args:
        detector: Its cells and quantiles are set.
        map_st: (N, n, n) of good parts before normalization.
        map_ae: The same of the other map.
        inspected: (n, n), True where a cell counts; None for all.

    Returns:
        What the maps' largest cells are over the parts, of each map.

    Raises:
        RecipeError: A map never varies.
    """
    found = []
    for values, cell, quantiles, name in (
        (map_st, detector.cell_st, detector.q_st, "map_st"),
        (map_ae, detector.cell_ae, detector.q_ae, "map_ae"),
    ):
        cell.copy_(cell_statistics(values, inspected))
        usual = _usual(values, cell)
        quantiles.copy_(_quantiles(usual if inspected is None else usual[:, inspected], name))
        peaks = normalize_map(torch.from_numpy(values), cell.cpu(), quantiles.cpu()).amax((1, 2))
        found.append(fit_branch(peaks.numpy()))
    return found[0], found[1]


def fit_detector(
    detector: Detector,
    train: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    device: torch.device,
    head_weight: float = 0.0,
) -> dict[str, float]:
    """Fits everything but the networks, in place.

    Args:
        detector: Trained networks; on the device.
        train: (N, S, S, 3) uint8 good parts the networks were trained on.
        validation: (M, S, S, 3) uint8 held-out good parts.
        device: Where to work.
        head_weight: Of the global head in the fused score; it is fitted, and its score told, also at 0.

    Returns:
        Figures for the record: `validation_d_ta`, `ae_weight` (what the auto-encoder has learnt), `head_shrinkage`, and of every
        branch centre, scale and loudness.

    Raises:
        RecipeError: Too few parts, or the networks give nothing to scale by.
    """
    if len(validation) < MIN_PARTS:
        raise RecipeError(f"expected at least {MIN_PARTS} held-out good parts to fit quantiles on, got {len(validation)}")
    detector.eval()
    shares = fit_bases(detector, validation[:BASIS_PARTS], device)
    map_st, map_ae, pooled = measure(detector, validation, device)
    st, ae = set_maps(detector, map_st, map_ae)
    head = fit_pooled(pooled_vectors(detector, train, device))
    detector.head_mean.copy_(torch.from_numpy(head.mean))
    detector.head_precision.copy_(torch.from_numpy(head.precision))
    whole = fit_branch(head.distance(pooled))
    detector.head_z.copy_(torch.tensor([whole.center, whole.scale]))
    distance = autoencoder_distance(detector, validation, device)
    ae_weight = weight_of(1 - distance)
    st_loud, ae_loud, *loud = balanced([st, ae, whole] if head_weight else [st, ae])
    detector.fusion.copy_(
        torch.tensor([st.center, st.scale, st_loud, ae.center, ae.scale, ae_weight * ae_loud, head_weight * sum(loud)])
    )
    figures = {
        "validation_d_ta": distance, "ae_weight": ae_weight, "head_shrinkage": head.shrinkage,
        **figures_of(st, ae, whole), **shares,
    }  # fmt: skip
    unusable = [name for name, value in figures.items() if not math.isfinite(value)]
    if unusable:
        raise RecipeError(f"not finite after training: {', '.join(unusable)}; the networks diverged: train with a lower rate")
    assert detector.head_mean.shape == (TEACHER_CHANNELS,)
    return figures
