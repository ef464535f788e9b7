"""After training: what good parts show at each cell, quantiles, the pooled head and the constants of the fusion.

The same rules as for the other detectors (`training.calibrate`), on this detector's maps: nothing here sees a test picture. The
paper's public text says nothing of how its score is scaled; all of this is ours, so that one judge reads every detector.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.balance import Branch, balanced, figures_of, fit_branch
from training.calibrate import MIN_PARTS, Q_A, Q_B, cell_statistics, weight_of
from training.errors import RecipeError
from training.features import to_input
from training.global_head import fit_pooled
from training.lgfdr.detector import fold_rim, loudest
from training.networks.detector import normalize_map
from training.progress import told

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.lgfdr.detector import LgfdrDetector

_BATCH = 8


@torch.no_grad()
def measure(
    detector: LgfdrDetector, frames: NDArray[np.uint8], device: torch.device
) -> tuple[tuple[NDArray[np.float64], ...], dict[str, float]]:
    """Runs the detector over good parts.

    Returns:
        error_st (N, g, g), error_ae (N, g, g) and pooled features (N, C); and of each reconstruction the share of the features'
        variance that it leaves: 0 perfect, 1 no better than the mean.
    """
    parts, left, total = [], dict.fromkeys(("local", "global", "fused"), 0.0), 0.0
    for start in told(range(0, len(frames), _BATCH), f"maps of {len(frames)} held-out pictures"):
        features = detector.features(to_input(frames[start : start + _BATCH], device))
        rebuilt = detector.rebuild(features)
        st, ae = detector.errors(features, rebuilt)
        parts.append(tuple(t.to("cpu", torch.float64) for t in (st, ae, features.mean((2, 3)))))
        for name, one in rebuilt.items():
            left[name] += (features - one).square().sum().item()
        total += features.square().sum().item()
    columns = tuple(torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return columns, {f"left_{name}": value / max(total, 1e-12) for name, value in left.items() if value}


@torch.no_grad()
def set_maps(
    detector: LgfdrDetector,
    errors_st: NDArray[np.float64],
    errors_ae: NDArray[np.float64],
    inspected: NDArray[np.bool_] | None = None,
) -> tuple[Branch, Branch]:
    """Sets the normalization of the maps there are; see `training.calibrate.set_maps`, here with (N, g, g) errors."""
    st = ae = Branch(0.0, 1.0, 0.0, 0)
    if detector.knobs.has_structural:
        # A discriminator has learnt what good parts show where; its cells are compared by one measure.
        usual = even_statistics if detector.discriminator is not None else cell_statistics
        st = _fit_map(
            errors_st, detector.cell_st, detector.q_st, "map_st", inspected, usual(errors_st, inspected),
            detector.knobs.loudest_st,
        )  # fmt: skip
    if detector.whole is not None:
        ae = _fit_map(
            errors_ae, detector.cell_ae, detector.q_ae, "map_ae", inspected, cell_statistics(errors_ae, inspected),
            detector.knobs.loudest_ae,
        )  # fmt: skip
    return st, ae


def even_statistics(errors: NDArray[np.float64], inspected: NDArray[np.bool_] | None = None) -> torch.Tensor:
    """The same mean and scale for every cell.

    Measured on trained detectors, AUROC of map_st alone and of the score, each cell by its own statistics -> by these: tray's
    structural defects .995 -> .994 and .992 -> .990, pcb_traces .990 -> .996 and .977 -> .988, commutator .937 -> .948 and .940
    -> .947.

    Args:
        errors: (N, g, g) of good parts.
        inspected: (g, g), True where a cell counts; None for all. The scale of the others is infinite.

    Returns:
        (2, g, g) float32: mean and standard deviation over all cells that count.
    """
    counts = np.ones(errors.shape[1:], np.bool_) if inspected is None else inspected
    chosen = errors[:, counts]
    scale = np.where(counts, chosen.std() or 1.0, np.inf)
    return torch.from_numpy(np.stack([np.full(counts.shape, chosen.mean()), scale])).to(torch.float32)


def _fit_map(
    errors: NDArray[np.float64],
    cell: torch.Tensor,
    quantiles: torch.Tensor,
    name: str,
    inspected: NDArray[np.bool_] | None,
    statistics: torch.Tensor,
    cells: int,
) -> Branch:
    """Sets one map's normalization; returns what the means of its loudest cells are."""
    cell.copy_(statistics)
    mean, scale = cell.detach().cpu().double().numpy()
    usual = (errors - mean) / scale
    low, high = np.quantile(usual if inspected is None else usual[:, inspected], [Q_A, Q_B])
    if not high > low:
        raise RecipeError(
            f"{name}: the {Q_A} and {Q_B} quantiles over the held-out parts are both {low:.3g}: the towers have not trained, or "
            "the held-out pictures are all alike"
        )
    quantiles.copy_(torch.tensor([low, high], dtype=torch.float32))
    maps = fold_rim(normalize_map(torch.from_numpy(errors), cell.cpu(), quantiles.cpu()))
    return fit_branch(loudest(maps, cells).numpy())


def fit_lgfdr(
    detector: LgfdrDetector, train: NDArray[np.uint8], validation: NDArray[np.uint8], device: torch.device
) -> dict[str, float]:
    """Fits everything but the towers, in place.

    Args:
        detector: Trained; on the device.
        train: (N, S, S, 3) uint8 good parts the towers were trained on.
        validation: (M, S, S, 3) uint8 held-out good parts.
        device: Where to work.

    Returns:
        Figures for the record: what each reconstruction leaves, weights, centres and scales.

    Raises:
        RecipeError: Too few parts, the towers give nothing to scale by, or no branch counts.
    """
    if len(validation) < MIN_PARTS:
        raise RecipeError(f"expected at least {MIN_PARTS} held-out good parts to fit quantiles on, got {len(validation)}")
    detector.eval()
    (errors_st, errors_ae, pooled), figures = measure(detector, validation, device)
    st, ae = set_maps(detector, errors_st, errors_ae)
    with torch.no_grad():
        starts = told(range(0, len(train), _BATCH), f"the global head's vectors of {len(train)} pictures")
        means = [detector.features(to_input(train[i : i + _BATCH], device)).mean((2, 3)).cpu().double() for i in starts]
    head = fit_pooled(torch.cat(means).numpy())
    detector.head_mean.copy_(torch.from_numpy(head.mean))
    detector.head_precision.copy_(torch.from_numpy(head.precision))
    whole = fit_branch(head.distance(pooled))
    detector.head_z.copy_(torch.tensor([whole.center, whole.scale]))
    # A global tower that has not learnt the parts calls every part odd: its map counts by what it explains, as an auto-encoder's.
    ae_weight = weight_of(1 - figures.get("left_global", 1.0))
    counting = {"st": st} if detector.knobs.has_structural else {}
    counting |= {"ae": ae} if detector.whole is not None else {}
    counting |= {"global": whole} if detector.knobs.pooled_head else {}
    loud = dict(zip(counting, balanced(list(counting.values())), strict=True))
    weights = loud.get("st", 0.0), ae_weight * loud.get("ae", 0.0), loud.get("global", 0.0)
    if not any(weights):
        raise RecipeError(
            f"nothing counts in the score: the global tower leaves {figures.get('left_global', 1.0):.2f} of the features' "
            "variance on held-out parts unexplained and is the only branch switched on; train more steps, or take "
            "--knob towers=both, --knob maps=discriminator or --knob pooled_head=true"
        )
    detector.fusion.copy_(torch.tensor([st.center, st.scale, weights[0], ae.center, ae.scale, *weights[1:]]))
    figures |= {"ae_weight": ae_weight, "head_shrinkage": head.shrinkage, **figures_of(st, ae, whole)}
    unusable = [name for name, value in figures.items() if not math.isfinite(value)]
    if unusable:
        raise RecipeError(f"not finite after training: {', '.join(unusable)}; the towers diverged: train with a lower rate")
    return figures


def warnings_of(detector: LgfdrDetector, figures: dict[str, float]) -> list[str]:
    """What the user must know before trusting the run."""
    if detector.whole is None or figures["ae_weight"] >= 1:
        return []
    return [
        f"the global tower leaves {figures['left_global']:.2f} of the features' variance on held-out parts unexplained, "
        f"so its map counts {figures['ae_weight']:.2f} only: logical defects may be missed; train more steps"
    ]
