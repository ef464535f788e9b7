"""Decide what is quantized, and with which step: from what was seen to a scheme.

- The input holds pixel - 128: step 1, without loss.
- Hidden maps are in integer units (see `units`) and shifted (see `scheme`): step 1. A map is quantized when a convolution
  that reads it is; one that nobody reads in INT8 stays in float.
- The auto-encoder stays in float up to its last hidden map. Quantized too (symmetric, without a shift, since it pads) it
  saved 4 % of the time on AVX2, cost 4 dB of map_ae's signal-to-noise ratio, and OpenVINO and ONNX Runtime agreed on it to 36 dB
  only, against 65.
"""

from collections.abc import Mapping

import numpy as np

from export.fuse.layers import Conv
from export.fuse.network import FusedNetwork
from export.graph.detector import AE_DIFFERENCE, AE_HIDDEN, INPUT_POINT, ST_DIFFERENCE
from export.quantize.ranges import Activation
from export.quantize.rounding import Covariance
from export.quantize.scheme import LOWEST, SAFE_WEIGHT_LEVELS, Form, Forms, Point, Scheme


def make_scheme(
    network: FusedNetwork,
    seen: Mapping[str, Activation],
    covariances: Mapping[str, tuple[Covariance, ...]],
    weight_levels: int = SAFE_WEIGHT_LEVELS,
    forms: Forms | None = None,
) -> Scheme:
    """Choose points and steps.

    Args:
        network: weights in integer units.
        seen: activations of that network.
        covariances: of the inputs of its quantized convolutions.
        weight_levels: largest integer of a weight.
        forms: of convolutions, by their names in `quantized_convs`; INT8 where nothing is said.
    """
    forms = forms or {}
    in_float = {name for name, form in forms.items() if form is Form.FLOAT}
    points: dict[str, Point] = {}
    if not {"teacher.0", "student.0"} <= in_float:
        points[INPUT_POINT] = _point(seen[INPUT_POINT], shift=0.0)
    stacks = {"st": ST_DIFFERENCE} | ({"ae": AE_DIFFERENCE} if network.student_ae is None else {})
    student_readers = {*stacks.values()} if network.student_ae is None else {ST_DIFFERENCE, "student.ae"}
    for name, convs, readers in (("teacher", network.teacher, {ST_DIFFERENCE}), ("student", network.student, student_readers)):
        for point, reader in _points_of(name, convs, readers):
            if not reader <= in_float:
                points[point] = _point(seen[point])
    if network.student_ae is None and AE_DIFFERENCE not in in_float:
        points[AE_HIDDEN] = _point(seen[AE_HIDDEN])
    for stack, first in zip(stacks, ("teacher.hidden", AE_HIDDEN), strict=False):
        both = [_point(seen[half], shift=None if half in points else 0.0) for half in (first, "student.hidden")]
        points[f"{stack}.stacked"] = _stacked(seen[f"{stack}.stacked"], *both)
    return Scheme(points, covariances, weight_levels, forms)


def _points_of(name: str, convs: tuple[Conv, ...], last_readers: set[str]) -> list[tuple[str, set[str]]]:
    """The activation points of a trunk, each with the convolutions that read it."""
    points = []
    for i, conv in enumerate(convs):
        last = i == len(convs) - 1
        readers = last_readers if last else {f"{name}.{i + 1}"}
        points += [(f"{name}.{i}.relu", readers)] * conv.pool + [(f"{name}.hidden" if last else f"{name}.{i}.out", readers)]
    return points


def _point(seen: Activation, shift: float | None = None) -> Point:
    taken = float(-LOWEST) if shift is None else shift
    return Point(1.0, np.full(seen.mean.shape, taken), seen.mean, seen.variance)


def _stacked(seen: Activation, first: Point, second: Point) -> Point:
    return Point(1.0, np.concatenate([first.shift, second.shift]), seen.mean, seen.variance)
