"""Scale the hidden maps, channel by channel, so that one integer is worth exactly 1 and no channel wastes its integers.

A ReLU lets a positive factor through, and so does pooling: a channel is multiplied by it where it is made and divided by it
where it is read. Exact in float. Every activation scale in the trunks is then 1.0: pooling changes none, and maps stacked on
each other share theirs.

The factors even out the channels. An engine gives a tensor one scale, so without them a channel that never exceeds a tenth of
the tensor's largest value has 25 integers instead of 255. Evened out fully, each channel would fill its integers and the
next layer's weights would differ by as much as the channels did; half-way (in logarithms) shares the burden between the two, and
leaves a quiet channel room for what a defect it has never seen makes of it (Nagel et al., "Data-free quantization through weight
equalization and bias correction", ICCV 2019, section 4.1, with measured instead of derived ranges; Xiao et al., "SmoothQuant",
ICML 2023, section 4, with the same half).

The value 1 is not only tidy: OpenVINO 2026.4 stacks two INT8 maps wrongly when their common scale is anything else (off by a
fifth of the standard deviation at 0.03, by twice it at 2.0; exact at 1.0; ONNX Runtime is exact at all).
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from export.fuse.layers import Array, Conv
from export.fuse.network import FusedNetwork
from export.quantize.ranges import HEADROOM, Activation
from export.quantize.scheme import HIGHEST, LOWEST

EVENNESS = 0.5
"""0: one factor for a whole map. 1: every channel fills its integers.

Measured on the vials' 36 pictures nearest the limit, st.difference twofold, deviation of the score in units of the limit (root
mean square, median, largest): 0.5 gives .022, .015, .060; 0.75 gives .022, .011, .084; 1 gives .032, .007, .157. The more even
the finer the usual picture, and the further off the one that excites a quiet channel as none did while ranges were measured."""

QUIETEST = 1e-3
"""Of the largest channel's reach: a channel below it counts as this loud, since a dead one has no reach to be scaled by."""


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
    head = network.head
    head_factor = factor_t if head.branch == "teacher" else factor_s
    units = replace(
        network,
        teacher=teacher,
        student=student,
        st=_divided(network.st, factor_t, factor_s),
        head=replace(head, conv=_divided(head.conv, head_factor)),
    )
    scaled["st.stacked"] = _stack(scaled["teacher.hidden"], scaled["student.hidden"])
    hidden_a = network.autoencoder.last_hidden
    # Where it is stacked it is shifted like the trunks' maps; on its own it feeds a convolution that pads and stays in float.
    factor_a = (HIGHEST - LOWEST) / evened_reach(seen["ae.hidden"])
    units = replace(units, autoencoder=replace(network.autoencoder, last_hidden=hidden_a.scaled(factor_a)))
    scaled["ae.hidden"] = seen["ae.hidden"].scaled(factor_a)
    if network.student_ae is not None:
        return replace(units, ae=_divided(network.ae, factor_a), student_ae=_divided(network.student_ae, factor_s)), scaled
    scaled["ae.stacked"] = _stack(scaled["ae.hidden"], scaled["student.hidden"])
    return replace(units, ae=_divided(network.ae, factor_a, factor_s)), scaled


def evened_reach(seen: Activation) -> Array:
    """(C,) what each channel's integers have to cover, headroom included; 1 where nothing was ever above 0."""
    loudest = seen.amax or 1.0
    peaks = np.maximum(seen.peaks, QUIETEST * loudest)
    evened: Array = HEADROOM * loudest ** (1.0 - EVENNESS) * peaks**EVENNESS
    return evened


def _rescale_trunk(name: str, convs: tuple[Conv, ...], seen: dict[str, Activation]) -> tuple[tuple[Conv, ...], Array]:
    """Rescale one trunk, and what was seen in it in place; return it with the factors of its last map."""
    rescaled, before = [], np.ones(convs[0].weight.shape[1])
    for i, conv in enumerate(convs):
        after = f"{name}.hidden" if i == len(convs) - 1 else f"{name}.{i}.out"
        widest = f"{name}.{i}.relu" if conv.pool else after
        factors = (HIGHEST - LOWEST) / evened_reach(seen[widest])
        rescaled.append(_divided(conv, before).scaled(factors))
        for point in {widest, after}:
            seen[point] = seen[point].scaled(factors)
        before = factors
    return tuple(rescaled), before


def _divided(conv: Conv, *factors: Array) -> Conv:
    """Divide the weights by the factors of the input channels, given map by map in the order they are stacked."""
    return replace(conv, weight=conv.weight / np.concatenate(factors)[:, None, None])


def _stack(first: Activation, second: Activation) -> Activation:
    return Activation(
        np.concatenate([first.peaks, second.peaks]),
        np.concatenate([first.mean, second.mean]),
        np.concatenate([first.variance, second.variance]),
    )
