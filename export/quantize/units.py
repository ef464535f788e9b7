"""Scale the trunks so that one integer of every hidden map is worth exactly 1.

A ReLU lets a positive factor through: a convolution is multiplied by it, and whatever reads the map is divided by it. Exact in
float. Every activation scale in the trunks is then 1.0: pooling changes none, and maps stacked on each other share theirs.

The value 1 is not only tidy: OpenVINO 2026.4 stacks two INT8 maps wrongly when their common scale is anything else (off by a
fifth of the standard deviation at 0.03, by twice it at 2.0; exact at 1.0; ONNX Runtime is exact at all).
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from export.fuse.layers import Conv
from export.fuse.network import FusedNetwork
from export.quantize.ranges import Activation, reach
from export.quantize.scheme import HIGHEST, LOWEST


def to_integer_units(network: FusedNetwork, seen: Mapping[str, Activation]) -> tuple[FusedNetwork, dict[str, Activation]]:
    """Rescale the trunks and the auto-encoder's last hidden map.

    Args:
        network: fused weights.
        seen: activations of that network.

    Returns:
        The rescaled network, and what would have been seen in it.
    """
    scaled = dict(seen)
    teacher, factor_t = _rescale_trunk("teacher", network.teacher, scaled)
    student, factor_s = _rescale_trunk("student", network.student, scaled)
    hidden_t = network.teacher[-1].weight.shape[0]
    head = network.head
    head_factor = factor_t if head.branch == "teacher" else factor_s
    units = replace(
        network,
        teacher=teacher,
        student=student,
        st=_divided(network.st, hidden_t, factor_t, factor_s),
        head=replace(head, conv=replace(head.conv, weight=head.conv.weight / head_factor)),
    )
    scaled["st.stacked"] = _stack(scaled["teacher.hidden"], scaled["student.hidden"])
    # Padded by zeros and therefore not shifted: the upper half of the integers only.
    factor_a = HIGHEST / reach(seen, "ae.hidden")
    hidden_a = network.autoencoder.last_hidden
    units = replace(units, autoencoder=replace(network.autoencoder, last_hidden=hidden_a.scaled(factor_a)))
    scaled["ae.hidden"] = seen["ae.hidden"].scaled(factor_a)
    if network.student_ae is not None:
        ae = _divided(network.ae, network.ae.weight.shape[1], factor_a, 1.0)
        other = _divided(network.student_ae, network.student_ae.weight.shape[1], factor_s, 1.0)
        return replace(units, ae=ae, student_ae=other), scaled
    scaled["ae.stacked"] = _stack(scaled["ae.hidden"], scaled["student.hidden"])
    return replace(units, ae=_divided(network.ae, hidden_a.weight.shape[0], factor_a, factor_s)), scaled


def _rescale_trunk(name: str, convs: tuple[Conv, ...], seen: dict[str, Activation]) -> tuple[tuple[Conv, ...], float]:
    """Rescale one trunk, and what was seen in it in place; return it with the factor of its last map."""
    rescaled, before = [], 1.0
    for i, conv in enumerate(convs):
        after = f"{name}.hidden" if i == len(convs) - 1 else f"{name}.{i}.out"
        widest = f"{name}.{i}.relu" if conv.pool else after
        factor = (HIGHEST - LOWEST) / reach(seen, widest)
        rescaled.append(replace(conv, weight=conv.weight * (factor / before), bias=conv.bias * factor))
        for point in {widest, after}:
            seen[point] = seen[point].scaled(factor)
        before = factor
    return tuple(rescaled), before


def _divided(conv: Conv, first: int, by_first: float, by_rest: float) -> Conv:
    """Divide the columns that read the first `first` input channels by one factor, the others by another."""
    weight = conv.weight.copy()
    weight[:, :first] /= by_first
    weight[:, first:] /= by_rest
    return replace(conv, weight=weight)


def _stack(first: Activation, second: Activation) -> Activation:
    return Activation(
        max(first.amax, second.amax),
        np.concatenate([first.mean, second.mean]),
        np.concatenate([first.variance, second.variance]),
    )
