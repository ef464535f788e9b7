"""Which convolutions need more than plain INT8: the fastest mix whose certificate holds.

Every INT8 convolution adds an error of its own to the score; the errors are independent to a good approximation, so their
squares add up. Each is measured alone, in each form it may take (`export.quantize.scheme.Form`), on pictures whose score lies
near the limit, since no other verdict can change. With the squares, and with how near the limit the float scores of the
certificate's pictures lie, the number of changed verdicts of any mix is foretold. Of all mixes the fastest that are foretold to
hold are tried, and the certificate decides. No INT8 score of a certificate's picture has a part in the choice, and the bound
allows for the number of tries: what is foretold wrongly costs time and never truth.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.fuse.crop import seen_side
from export.fuse.network import FusedNetwork
from export.graph.detector import AE_DIFFERENCE, ST_DIFFERENCE
from export.quantize.scheme import Form, Forms

AIMS = (0.5, 0.2, 0.05)
"""Foretold flips, as a share of the allowed ones, that each try aims at. Each try narrows the bound of all (see
`export.certificate`): with three, 2 of 4,000 verdicts may change; with one, 3."""

EXTRA = {Form.INT8: 0.0, Form.TWOFOLD: 1.0, Form.FLOAT: 3.0}
"""Time beyond plain INT8, in units of it. Float is 2 times as dear on AVX2, 4 with VNNI, 16 with AMX or tensor cores."""

COSTS_TOLD_APART = 1000


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution that may take several forms.

    Attributes:
        macs: its multiply-accumulates.
        errors: by form, mean square deviation of raw / limit near the limit when it alone is not in float.
    """

    macs: float
    errors: Mapping[Form, float]

    @property
    def choices(self) -> list[tuple[float, float, Form]]:
        """(extra cost, error, form), the cheapest first; a form that is dearer and no better than another is left out."""
        every = {**self.errors, Form.FLOAT: 0.0}
        kept: list[tuple[float, float, Form]] = []
        for form in sorted(every, key=EXTRA.__getitem__):
            if not kept or every[form] < kept[-1][1]:
                kept.append((EXTRA[form] * self.macs, every[form], form))
        return kept


@dataclass(frozen=True, slots=True)
class Choice:
    """A form for every convolution. Attributes: cost: extra multiply-accumulates. error: foretold, see `Layer`. forms."""

    cost: float
    error: float
    forms: Forms


def macs_of(network: FusedNetwork) -> dict[str, float]:
    """Multiply-accumulates of every convolution that may be quantized, by its name."""
    macs = {}
    for name, trunk in (("teacher", network.teacher), ("student", network.student)):
        side = seen_side(network.teacher, network.st, network.cells)
        for i, conv in enumerate(trunk):
            side = side - conv.weight.shape[2] + 1
            macs[f"{name}.{i}"] = float(conv.weight.size * side**2)
            side //= 2 if conv.pool else 1
    macs[ST_DIFFERENCE] = float(network.st.weight.size * network.cells**2)
    ae = network.ae if network.student_ae is None else network.student_ae
    macs[AE_DIFFERENCE if network.student_ae is None else "student.ae"] = float(ae.weight.size * network.cells**2)
    return macs


def foretold_flips(distances: NDArray[np.float64], error: float) -> float:
    """How many verdicts are expected to change.

    Args:
        distances: (n,) |float score / float limit - 1| of the certificate's pictures.
        error: mean square deviation of a score near the limit, in units of the limit. The limit is a score too and errs as much.
    """
    deviation = math.sqrt(2.0 * error)
    if deviation == 0.0:
        return 0.0
    near = distances[distances < 6.0 * deviation] / (deviation * math.sqrt(2.0))
    return float(sum(0.5 * math.erfc(one) for one in near))


def mixes(layers: Mapping[str, Layer]) -> list[Choice]:
    """All mixes that no other beats in both cost and error, the fastest first.

    Of those of about the same cost, to a `COSTS_TOLD_APART`th of all in float, the one that errs least stands for all: thirty
    convolutions have more mixes than could be listed. Plain INT8 and all in float stand for themselves.
    """
    step = sum(EXTRA[Form.FLOAT] * layer.macs for layer in layers.values()) / COSTS_TOLD_APART or 1.0
    best = [Choice(0.0, 0.0, {})]
    for name, layer in layers.items():
        every = [
            Choice(one.cost + cost, one.error + error, {**one.forms, name: form})
            for one in best
            for cost, error, form in layer.choices
        ]
        # A part of a mix that another part beats is in no mix that none beats.
        best = []
        for one in sorted(every, key=lambda one: (one.cost, one.error)):
            if not best or one.error < best[-1].error:
                if best and best[-1].cost > 0 and one.error > 0 and best[-1].cost // step == one.cost // step:
                    best.pop()
                best.append(one)
    return best


def candidates(layers: Mapping[str, Layer], distances: NDArray[np.float64], allowed: int) -> list[Forms]:
    """The mixes worth trying, the fastest first; where none is foretold to hold, the nearest to float.

    All in float is no mix: it would be an INT8 bundle without INT8.

    Args:
        layers: measured, at least one.
        distances: see `foretold_flips`.
        allowed: verdicts that may change.
    """
    chosen: list[Forms] = []
    every = [one for one in mixes(layers) if any(form is not Form.FLOAT for form in one.forms.values())]
    for aim in AIMS:
        holding = (one.forms for one in every if foretold_flips(distances, one.error) <= aim * max(allowed, 0))
        forms = next((forms for forms in holding if forms not in chosen), None)
        if forms is not None:
            chosen.append(forms)
    return chosen or [every[-1].forms]
