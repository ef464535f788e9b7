"""Plans of backbones as plain convolutions: what `training.lgfdr.pyramid` builds, and the exporter writes, by a backbone's name.

A name says every layer, so that a run and a bundle need neither the package nor the weight file their backbone came from:

    efficientnet-lite2                 the package's network (`training.teacher.efficientnet_lite`)
    resnet-basic-2-2-2-64-64x1         a ResNet of torchvision's or timm's (`training.teacher.resnet`): kind of block, blocks
    resnet-bottleneck-3-4-23-64-128x1  in the first three stages, channels of the stem, width within the first stage's blocks
                                       x groups (ResNet-18 and WideResNet-101-2 here)

Every batch normalization is folded into its convolution. The levels are those of the teacher's backbones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.errors import BackboneError
from training.teacher.efficientnet_lite import EfficientNetLite2
from training.teacher.resnet import ResNetForm

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESNET = re.compile(r"resnet-(basic|bottleneck)-([1-9]\d?)-([1-9]\d?)-([1-9]\d?)-([1-9]\d?)-([1-9]\d{1,2})x([1-9]\d?)")
MOST_WEIGHTS = 200_000_000
"""More than twice WideResNet-101-2 has: a name comes from a file and must not fill the memory."""
_RELU, _RELU6 = "relu", "relu6"


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution of a backbone, with zero padding of equal or unequal sides, and what follows it.

    Attributes:
        inputs, outputs: Channels.
        kernel, stride: In both directions.
        pads: Zeros at (top and left, bottom and right).
        groups: Of its channels; as many as inputs where each has a kernel of its own.
        activation: "relu", "relu6" or "", after the addition.
        pool: Whether a maximum over 3 x 3 in steps of 2 follows.
        remember: Keep this layer's input to add it later.
        shortcut: The layer acts on what was kept, which its output replaces; what it would have followed goes on behind it.
        add: Add what was kept to this layer's output.
        level: Whether the output is a level of the pyramid.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    pads: tuple[int, int]
    groups: int = 1
    activation: str = ""
    pool: bool = False
    remember: bool = False
    shortcut: bool = False
    add: bool = False
    level: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Layers of a backbone up to its last level, and where cells lie (in the picture the backbone sees).

    Attributes:
        layers: In order.
        layer_strides_px: Of each layer's convolution, in order.
        channels: Of each level.
        strides_px: Of each level.
        offsets_px: Middle of cell 0 of each level, from the edge.
    """

    layers: tuple[Layer, ...]
    layer_strides_px: tuple[int, ...]
    channels: tuple[int, ...]
    strides_px: tuple[int, ...]
    offsets_px: tuple[float, ...]

    @property
    def weights(self) -> int:
        """How many weights all kernels have."""
        return sum(layer.inputs // layer.groups * layer.outputs * layer.kernel**2 for layer in self.layers)


def plan_of(layers: Sequence[Layer]) -> Plan:
    """Follows strides and middles through the layers; the middle of a window of k cells is where its field's middle lies."""
    stride, offset, before = 1, 0.5, 1
    each, channels, strides, offsets = [], [], [], []
    for layer in layers:
        before = stride if layer.remember else before
        if layer.shortcut:
            each.append(before * layer.stride)
            continue
        offset += stride * ((layer.kernel - 1) / 2 - layer.pads[0])
        stride *= layer.stride
        each.append(stride)
        stride *= 2 if layer.pool else 1  # its window of three cells is padded by one, so no middle moves
        if layer.level:
            channels.append(layer.outputs)
            strides.append(stride)
            offsets.append(offset)
    return Plan(tuple(layers), tuple(each), tuple(channels), tuple(strides), tuple(offsets))


def plan_named(name: str) -> Plan:
    """The plan a backbone's name stands for.

    Raises:
        BackboneError: No name of a backbone.
    """
    if name == EfficientNetLite2.name:
        return _lite2()
    if found := _RESNET.fullmatch(name):
        kind, *numbers = found.groups()
        first, second, third, stem, width, groups = map(int, numbers)
        if width % groups == 0 and (kind == "bottleneck" or (width, groups) == (stem, 1)):
            plan = _resnet(ResNetForm(kind == "bottleneck", (first, second, third), stem, width, groups))
            if plan.weights <= MOST_WEIGHTS:
                return plan
    raise BackboneError(
        f"lgfdr knows no backbone {name!r}: expected {EfficientNetLite2.name}, or the name of a ResNet such as "
        "resnet-bottleneck-3-4-23-64-128x1, which --weights FILE reads off its file"
    )


def _lite2() -> Plan:
    """EfficientNet-Lite2 (Tan and Le, ICML 2019) up to block 8.

    Levels: after blocks 3, 6 and 8 (24, 48 and 88 channels), each before any ReLU6; the teacher's backbone has the same. The
    288 expanded channels within block 6, once the middle level there, are silent on most cells, and brought to unit variance
    their rare words drown the rest: on the tray (150 parts, 300 steps) they told structural defects by .56 alone, the levels
    above and below them by .82 and .86, all three together by .63.
    """
    layers = [Layer(3, 32, 3, 2, (0, 1), activation=_RELU6)]
    # (outputs, expansion, kernel, stride, pads of the depthwise convolution) of blocks 0 to 8
    blocks = (
        (16, 1, 3, 1, (1, 1)), (24, 6, 3, 2, (0, 1)), (24, 6, 3, 1, (1, 1)), (24, 6, 3, 1, (1, 1)), (48, 6, 5, 2, (2, 2)),
        (48, 6, 5, 1, (2, 2)), (48, 6, 5, 1, (2, 2)), (88, 6, 3, 2, (1, 1)), (88, 6, 3, 1, (1, 1)),
    )  # fmt: skip
    inputs = 32
    for i, (outputs, expansion, kernel, stride, pads) in enumerate(blocks):
        wide, kept = inputs * expansion, stride == 1 and inputs == outputs
        if expansion > 1:
            layers.append(Layer(inputs, wide, 1, 1, (0, 0), activation=_RELU6, remember=kept))
        layers.append(
            Layer(wide, wide, kernel, stride, pads, groups=wide, activation=_RELU6, remember=kept and expansion == 1)
        )  # fmt: skip
        layers.append(Layer(wide, outputs, 1, 1, (0, 0), add=kept, level=i in {3, 6, 8}))
        inputs = outputs
    return plan_of(layers)


def _resnet(form: ResNetForm) -> Plan:
    """A ResNet (He et al., CVPR 2016) up to its third stage; the second and third are its levels."""
    layers = [Layer(3, form.stem, 7, 2, (3, 3), activation=_RELU, pool=True)]
    inputs = form.stem
    for stage, blocks in enumerate(form.blocks):
        width, outputs = form.width << stage, form.outputs(stage)
        for i in range(blocks):
            stride = 2 if stage and not i else 1
            kernels = ((inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1))
            if not form.bottleneck:
                kernels = ((inputs, outputs, 3, stride), (outputs, outputs, 3, 1))  # type: ignore[assignment]
            convs = [
                Layer(
                    before, after, kernel, step, (kernel // 2, kernel // 2), form.groups if kernel == 3 else 1, activation=_RELU,
                    remember=number == 0, add=number == len(kernels) - 1,
                    level=number == len(kernels) - 1 and i == blocks - 1 and stage > 0,
                )
                for number, (before, after, kernel, step) in enumerate(kernels)
            ]  # fmt: skip
            if stride > 1 or inputs != outputs:
                convs.insert(1, Layer(inputs, outputs, 1, stride, (0, 0), shortcut=True))
            layers += convs
            inputs = outputs
    return plan_of(layers)
