"""Decide what is quantized, and with which step: from what was seen to a scheme.

- The input holds pixel - 128: step 1, without loss.
- Hidden maps of the trunks are in integer units (see `units`) and shifted (see `scheme`): step 1.
- The auto-encoder's padded convolutions take symmetric inputs without a shift, if they are quantized at all.
"""

from collections.abc import Mapping

import numpy as np

from export.fuse.network import FusedNetwork
from export.graph.detector import INPUT_POINT
from export.quantize.ranges import Activation, reach
from export.quantize.scheme import HIGHEST, LOWEST, SAFE_WEIGHT_LEVELS, Point, Scheme


def make_scheme(
    network: FusedNetwork,
    seen: Mapping[str, Activation],
    weight_levels: int = SAFE_WEIGHT_LEVELS,
    *,
    autoencoder: bool = True,
) -> Scheme:
    """Choose points and steps.

    Args:
        network: weights in integer units.
        seen: activations of that network.
        weight_levels: largest integer of a weight.
        autoencoder: whether the auto-encoder's hidden layers are quantized too.
    """
    points = {INPUT_POINT: _point(seen[INPUT_POINT], 1.0)}
    for name, convs in (("teacher", network.teacher), ("student", network.student)):
        for i, conv in enumerate(convs):
            after = f"{name}.hidden" if i == len(convs) - 1 else f"{name}.{i}.out"
            for point in (f"{name}.{i}.relu", after) if conv.pool else (after,):
                points[point] = _point(seen[point], 1.0, shifted=True)
    points["st.stacked"] = _stacked(seen["st.stacked"], points["teacher.hidden"], points["student.hidden"])
    if network.student_ae is None or autoencoder:
        points["ae.hidden"] = _point(seen["ae.hidden"], 1.0)
    if network.student_ae is None:
        points["ae.stacked"] = _stacked(seen["ae.stacked"], points["ae.hidden"], points["student.hidden"])
    if autoencoder:
        for name in seen:
            if name.startswith("autoencoder."):
                points[name] = _point(seen[name], float(np.float32(reach(seen, name) / HIGHEST)))
    return Scheme(points, weight_levels)


def _point(seen: Activation, step: float, *, shifted: bool = False) -> Point:
    return Point(step, np.full(seen.mean.shape, -LOWEST * step if shifted else 0.0), seen.mean, seen.variance)


def _stacked(seen: Activation, first: Point, second: Point) -> Point:
    return Point(first.step, np.concatenate([first.shift, second.shift]), seen.mean, seen.variance)
