"""Decide what is quantized, and with which step: from what was seen to a scheme.

- The input holds pixel - 128: step 1, without loss.
- Hidden maps of the trunks are in integer units (see `units`) and shifted (see `scheme`): step 1.
- The auto-encoder stays in float up to its last hidden map. Quantized too (symmetric, without a shift, since it pads) it
  saved 4 % of the time on AVX2, cost 4 dB of map_ae's signal-to-noise ratio, and OpenVINO and ONNX Runtime agreed on it to 36 dB
  only, against 65.
"""

from collections.abc import Mapping

import numpy as np

from export.fuse.network import FusedNetwork
from export.graph.detector import INPUT_POINT
from export.quantize.ranges import Activation
from export.quantize.rounding import Covariance
from export.quantize.scheme import LOWEST, SAFE_WEIGHT_LEVELS, Point, Scheme


def make_scheme(
    network: FusedNetwork,
    seen: Mapping[str, Activation],
    covariances: Mapping[str, tuple[Covariance, ...]],
    weight_levels: int = SAFE_WEIGHT_LEVELS,
) -> Scheme:
    """Choose points and steps.

    Args:
        network: weights in integer units.
        seen: activations of that network.
        covariances: of the inputs of its quantized convolutions.
        weight_levels: largest integer of a weight.
    """
    points = {INPUT_POINT: _point(seen[INPUT_POINT])}
    for name, convs in (("teacher", network.teacher), ("student", network.student)):
        for i, conv in enumerate(convs):
            after = f"{name}.hidden" if i == len(convs) - 1 else f"{name}.{i}.out"
            for point in (f"{name}.{i}.relu", after) if conv.pool else (after,):
                points[point] = _point(seen[point], shifted=True)
    points["st.stacked"] = _stacked(seen["st.stacked"], points["teacher.hidden"], points["student.hidden"])
    if network.student_ae is None:
        points["ae.hidden"] = _point(seen["ae.hidden"])
        points["ae.stacked"] = _stacked(seen["ae.stacked"], points["ae.hidden"], points["student.hidden"])
    return Scheme(points, covariances, weight_levels)


def _point(seen: Activation, *, shifted: bool = False) -> Point:
    return Point(1.0, np.full(seen.mean.shape, float(-LOWEST) if shifted else 0.0), seen.mean, seen.variance)


def _stacked(seen: Activation, first: Point, second: Point) -> Point:
    return Point(1.0, np.concatenate([first.shift, second.shift]), seen.mean, seen.variance)
