"""The certificate: float against INT8 on held-out good and on damaged pictures, and engine against engine.

Both graphs are judged at limits of their own, fitted the same way on the same good parts: what matters on the line is whether
a part's verdict changes, not whether a number does. The flip rate comes with an exact upper bound (Clopper-Pearson), since no
flips among few pictures prove little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.binomial import clopper_pearson_upper
from export.quantize.scheme import Form, Forms

CERTIFICATE_SCHEMA = 2
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
        flips: verdicts that changed. flips_good: of good parts. flip_bound: upper bound of the flip rate.
        confidence: of that bound. It leaves 5 % for all graphs the export may try, not for each.
        forms: convolutions that are more than plain INT8, by name: "twofold" or "float". tried: graphs judged until this one.
        blame: what each convolution adds to the square of the score's deviation when it alone is plain INT8, in units of the
            limit; empty where there was no choice.
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
    flips_good: int
    flip_bound: float
    confidence: float
    forms: dict[str, str]
    tried: int
    blame: dict[str, float]
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


@dataclass(frozen=True, slots=True)
class Mix:
    """Which graph of those that may be tried is judged.

    Attributes:
        forms: of its convolutions. tried: graphs judged so far, this one included. allowed: how many may be.
        blame: by convolution, see `Certificate`. left: the same in the form each has here, without those in float.
    """

    forms: Forms = field(default_factory=dict)
    tried: int = 1
    allowed: int = 1
    blame: Mapping[str, float] = field(default_factory=dict)
    left: Mapping[str, float] = field(default_factory=dict)

    @property
    def confidence(self) -> float:
        """At which one graph is bounded."""
        return 1.0 - (1.0 - CONFIDENCE) / self.allowed


def allowed_flips(pictures: int, confidence: float) -> int:
    """How many verdicts of so many may change for the bound to hold; -1 where none at all is too many already."""
    flips = -1
    while clopper_pearson_upper(flips + 1, pictures, confidence) <= FLIP_BOUND:
        flips += 1
    return flips


def pictures_needed(flips: int, confidence: float) -> int:
    """Of how many pictures so many verdicts may change."""
    low, high = flips, flips + 1
    while clopper_pearson_upper(flips, high, confidence) > FLIP_BOUND:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if clopper_pearson_upper(flips, middle, confidence) <= FLIP_BOUND else (middle, high)
    return high


def certify(
    reference: tuple[NDArray[np.float64], NDArray[np.float64]],
    quantized: tuple[NDArray[np.float64], NDArray[np.float64]],
    limits: tuple[float, float],
    engines: tuple[NDArray[np.float64], NDArray[np.float64]],
    name: str,
    mix: Mix | None = None,
) -> Certificate:
    """Compare raw scores.

    Args:
        reference: raw scores of the float graph on (good, damaged) pictures.
        quantized: the same of the graph to be shipped.
        limits: (of the float graph, of the shipped graph).
        engines: raw scores of the shipped graph by (OpenVINO, ONNX Runtime) on the same pictures.
        name: of the reference.
        mix: which graph this is; None for the only one.
    """
    mix = mix or Mix()
    before = np.concatenate(reference) / limits[0]
    after = np.concatenate(quantized) / limits[1]
    apart = np.abs(after - before)
    flipped = (before > 1.0) != (after > 1.0)
    flips = int(flipped.sum())
    bound = clopper_pearson_upper(flips, before.size, mix.confidence)
    loss = auroc(*reference) - auroc(*quantized)
    worst = int(apart.argmax())
    blamed = f"; to blame: {said_of(mix.left)}" if mix.left else ""
    why_not = []
    if bound > FLIP_BOUND:
        why_not.append(
            f"{flips} of {before.size} verdicts changed, so the flip rate may be up to {bound:.3%} (bound {FLIP_BOUND:.1%}; "
            f"no flip among {pictures_needed(0, mix.confidence):,} pictures would prove it){blamed}"
        )
    if loss > AUROC_LOSS:
        why_not.append(f"AUROC fell by {loss:.4f} (bound {AUROC_LOSS}){blamed}")
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
        flips_good=int(flipped[: reference[0].size].sum()),
        flip_bound=bound,
        confidence=mix.confidence,
        forms={name: form.value for name, form in sorted(mix.forms.items()) if form is not Form.INT8},
        tried=mix.tried,
        blame=dict(mix.blame),
        worst={"before": float(before[worst]), "after": float(after[worst])},
        engines_max=float(np.abs(engines[0] - engines[1]).max() / limits[1]),
        engines_pictures=int(engines[0].size),
        equal=not why_not,
        why_not=why_not,
    )


def said_of(blame: Mapping[str, float]) -> str:
    """In words: the convolutions that add most, until nine tenths are named."""
    total, named, said = sum(blame.values()), 0.0, []
    for name, share in sorted(blame.items(), key=lambda one: -one[1]):
        if named >= 0.9 * total:
            break
        named += share
        said.append(f"{name} {share / total:.0%}")
    return ", ".join(said)


def forms_in_words(certificate: Certificate) -> str:
    """Which convolutions are more than plain INT8, form by form, and of how many."""
    said = []
    for form in (Form.TWOFOLD, Form.FLOAT):
        names = [name for name, taken in certificate.forms.items() if taken == form.value]
        said += [f"{len(names)} of {len(certificate.blame)} convolutions {form.value}: {', '.join(names)}"] * bool(names)
    return "; ".join(said)


def verdict_in_words(certificate: Certificate) -> str:
    """Whether it is equal to float; where not, why, and what to do."""
    if certificate.equal:
        return "certified equal to float"
    return f"not certified equal to float: {'; '.join(certificate.why_not)}; --precision fp32 packs the float graph itself"


def agreement_of(certificate: Certificate) -> float:
    """What `onbelt check` allows between engines, in units of the limit."""
    return max(AGREEMENT_FLOOR, AGREEMENT_HEADROOM * certificate.engines_max)
