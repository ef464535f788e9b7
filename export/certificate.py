"""The certificate: float against INT8 on held-out good and on damaged pictures, and engine against engine.

Both graphs are judged at limits of their own, fitted the same way on the same good parts: what matters on the line is whether
a part's verdict changes, not whether a number does. The flip rate comes with an exact upper bound (Clopper-Pearson), since no
flips among few pictures prove little.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.binomial import clopper_pearson_upper

CERTIFICATE_SCHEMA = 1
FLIP_BOUND = 0.002
AUROC_LOSS = 0.002
CONFIDENCE = 0.95
AGREEMENT_HEADROOM = 2.0
AGREEMENT_FLOOR = 1e-4
"""Of the limit: engines differ by the order of their float additions at least."""


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `certificate.json` holds. Deviations are |raw difference| in units of the limit.

    Attributes:
        reference: what the graph was compared with.
        pictures: how many good and damaged pictures.
        deviation_p50, deviation_p99, deviation_max: over all of them.
        auroc_reference, auroc: good against damaged pictures, before and after quantization.
        flips: verdicts that changed. flip_bound: upper bound of the flip rate at 95 % confidence.
        worst: the picture with the largest deviation: its scores/limit before and after.
        engines_max: largest deviation between OpenVINO and ONNX Runtime, of engines_pictures pictures.
        equal: flip bound at most 0.2 % and AUROC loss at most 0.002.
        why_not: what keeps `equal` from being true, empty when it is.
    """

    schema: int
    reference: str
    pictures: dict[str, int]
    deviation_p50: float
    deviation_p99: float
    deviation_max: float
    auroc_reference: float
    auroc: float
    flips: int
    flip_bound: float
    worst: dict[str, float]
    engines_max: float
    engines_pictures: int
    equal: bool
    why_not: list[str]


def auroc(good: NDArray[np.float64], bad: NDArray[np.float64]) -> float:
    """Probability that a damaged picture scores above a good one, ties counted half (Mann-Whitney U / nm)."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, side="left")
    not_above = np.searchsorted(ordered, bad, side="right")
    return float((below + not_above).sum() / (2.0 * good.size * bad.size))


def certify(
    reference: tuple[NDArray[np.float64], NDArray[np.float64]],
    quantized: tuple[NDArray[np.float64], NDArray[np.float64]],
    limits: tuple[float, float],
    engines: tuple[NDArray[np.float64], NDArray[np.float64]],
    name: str,
) -> Certificate:
    """Compare raw scores.

    Args:
        reference: raw scores of the float graph on (good, damaged) pictures.
        quantized: the same of the graph to be shipped.
        limits: (of the float graph, of the shipped graph).
        engines: raw scores of the shipped graph by (OpenVINO, ONNX Runtime) on the same pictures.
        name: of the reference.
    """
    before = np.concatenate(reference) / limits[0]
    after = np.concatenate(quantized) / limits[1]
    apart = np.abs(after - before)
    flips = int(((before > 1.0) != (after > 1.0)).sum())
    bound = clopper_pearson_upper(flips, before.size, CONFIDENCE)
    loss = auroc(*reference) - auroc(*quantized)
    worst = int(apart.argmax())
    why_not = []
    if bound > FLIP_BOUND:
        why_not.append(
            f"{flips} of {before.size} verdicts changed, so the flip rate may be up to {bound:.3%} (bound {FLIP_BOUND:.1%}; "
            "no flip among 1,497 pictures would prove it)"
        )
    if loss > AUROC_LOSS:
        why_not.append(f"AUROC fell by {loss:.4f} (bound {AUROC_LOSS})")
    return Certificate(
        schema=CERTIFICATE_SCHEMA,
        reference=name,
        pictures={"good": int(reference[0].size), "damaged": int(reference[1].size)},
        deviation_p50=float(np.quantile(apart, 0.5)),
        deviation_p99=float(np.quantile(apart, 0.99)),
        deviation_max=float(apart.max()),
        auroc_reference=auroc(*reference),
        auroc=auroc(*quantized),
        flips=flips,
        flip_bound=bound,
        worst={"before": float(before[worst]), "after": float(after[worst])},
        engines_max=float(np.abs(engines[0] - engines[1]).max() / limits[1]),
        engines_pictures=int(engines[0].size),
        equal=not why_not,
        why_not=why_not,
    )


def agreement_of(certificate: Certificate) -> float:
    """What `onbelt check` allows between engines, in units of the limit."""
    return max(AGREEMENT_FLOOR, AGREEMENT_HEADROOM * certificate.engines_max)
