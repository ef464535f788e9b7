"""The pretrained feature pyramid: a frozen backbone as plain convolutions, its levels read onto one grid.

What is rebuilt is a stack of three levels of a network trained on photographs, one vector a cell of 4 px. The paper states
pretrained features and no more; backbone, levels and their weights are our reading. The backbone is one of the teacher's registry
(`training.teacher.backbones`), rewritten: every batch normalization is folded into its convolution, so that a run holds all it
needs, the exporter reads nothing but convolutions, and nothing depends on a batch.

As there, the backbone sees the picture at twice its side: enlarged inside the network, since on the box it is part of the graph.
Cell k of a level lies at stride * k + offset of the enlarged picture. The offsets come from the very paddings of the layers: the
package freezes TensorFlow's "same" padding for its own 260 px input, so its last strided layers pad both sides alike and move
nothing, where an even side would have moved the grid by half a stride.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from training.errors import BackboneError
from training.networks.pdn import STRIDE_PX
from training.teacher.efficientnet_lite import EfficientNetLite2
from training.teacher.levels import BACKBONE_SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_MIDDLE_PX = 0.5
"""Middle of the grid's cell 0, in pixels from the picture's edge: its cell j + 4 is the contract's cell j, at 4 j + 16.5 px."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution of a backbone, with zero padding of equal or unequal sides.

    Attributes:
        inputs, outputs: Channels.
        kernel, stride: In both directions.
        pads: Zeros at (top and left, bottom and right).
        depthwise: One kernel a channel.
        relu6: Whether min(max(x, 0), 6) follows.
        remember: Keep this layer's input to add it later.
        add: Add what was kept to this layer's output.
        level: Whether the output is a level of the pyramid.
        source: Where the package keeps it: (block or -1 for the stem, name of convolution, name of normalization).
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    pads: tuple[int, int]
    depthwise: bool
    relu6: bool
    source: tuple[int, str, str]
    remember: bool = False
    add: bool = False
    level: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Layers of a backbone up to its last level, and where its levels lie (in the enlarged picture).

    Attributes:
        layers: In order.
        channels: Of each level.
        strides_px: Of each level.
        offsets_px: Middle of cell 0 of each level, from the edge.
    """

    layers: tuple[Layer, ...]
    channels: tuple[int, ...]
    strides_px: tuple[int, ...]
    offsets_px: tuple[float, ...]


def _lite2() -> Plan:
    """EfficientNet-Lite2 (Tan and Le, ICML 2019) up to block 8.

    Levels: after blocks 3, 6 and 8 (24, 48 and 88 channels), each before any ReLU6; the teacher's backbone has the same. The
    288 expanded channels within block 6, once the middle level there, are silent on most cells, and brought to unit variance
    their rare words drown the rest: on the tray (150 parts, 300 steps) they told structural defects by .56 alone, the levels
    above and below them by .82 and .86, all three together by .63.
    """
    layers = [Layer(3, 32, 3, 2, (0, 1), depthwise=False, relu6=True, source=(-1, "_conv_stem", "_bn0"))]
    # (outputs, expansion, kernel, stride, pads of the depthwise convolution) of blocks 0 to 8
    blocks = (
        (16, 1, 3, 1, (1, 1)), (24, 6, 3, 2, (0, 1)), (24, 6, 3, 1, (1, 1)), (24, 6, 3, 1, (1, 1)), (48, 6, 5, 2, (2, 2)),
        (48, 6, 5, 1, (2, 2)), (48, 6, 5, 1, (2, 2)), (88, 6, 3, 2, (1, 1)), (88, 6, 3, 1, (1, 1)),
    )  # fmt: skip
    inputs = 32
    for i, (outputs, expansion, kernel, stride, pads) in enumerate(blocks):
        wide, kept = inputs * expansion, stride == 1 and inputs == outputs
        if expansion > 1:
            layers.append(
                Layer(inputs, wide, 1, 1, (0, 0), depthwise=False, relu6=True, source=(i, "_expand_conv", "_bn0"), remember=kept)
            )
        layers.append(
            Layer(
                wide, wide, kernel, stride, pads, depthwise=True, relu6=True,
                source=(i, "_depthwise_conv", "_bn1"), remember=kept and expansion == 1,
            )
        )  # fmt: skip
        layers.append(
            Layer(
                wide, outputs, 1, 1, (0, 0), depthwise=False, relu6=False,
                source=(i, "_project_conv", "_bn2"), add=kept, level=i in {3, 6, 8},
            )
        )  # fmt: skip
        inputs = outputs
    return plan_of(layers)


def plan_of(layers: Sequence[Layer]) -> Plan:
    """Follows strides and middles through the layers; the middle of a window of k cells is where its field's middle lies."""
    stride, offset = 1, 0.5
    channels, strides, offsets = [], [], []
    for layer in layers:
        offset += stride * ((layer.kernel - 1) / 2 - layer.pads[0])
        stride *= layer.stride
        if layer.level:
            channels.append(layer.outputs)
            strides.append(stride)
            offsets.append(offset)
    return Plan(tuple(layers), tuple(channels), tuple(strides), tuple(offsets))


PLANS: dict[str, Plan] = {EfficientNetLite2.name: _lite2()}
"""Name of a backbone (`training.lgfdr.knobs.BACKBONES`) -> its layers; `load_pyramid` reads their weights from its package."""


def reading_matrix(cells: int, side: int, stride_px: float, offset_px: float) -> torch.Tensor:
    """How a level of another grid is read at the cells' middles, along one direction.

    A triangle as wide as the coarser of the two grids: plain linear interpolation of a coarser level, a weighted mean of a finer
    one, so that no row of it is skipped.

    Args:
        cells: Cells of the grid read onto.
        side: Cells of the level.
        stride_px: Between two cells of the level, in pixels of the picture.
        offset_px: Middle of the level's cell 0, likewise.

    Returns:
        (cells, side) float32; each row sums to 1.
    """
    wanted = FIRST_MIDDLE_PX + STRIDE_PX * torch.arange(cells, dtype=torch.float64)[:, None]
    given = offset_px + stride_px * torch.arange(side, dtype=torch.float64)[None, :]
    wanted = wanted.clamp(given.min(), given.max())  # beyond the outermost cell there is only that cell
    weight = (1 - (wanted - given).abs() / max(stride_px, STRIDE_PX)).clamp_min(0)
    return (weight / weight.sum(1, keepdim=True)).to(torch.float32)


class Pyramid(nn.Module):
    """A frozen backbone and the reading of its levels.

    Args:
        name: Of the backbone, in `PLANS`.
        size: Side of the picture in pixels, a multiple of 32.

    Raises:
        BackboneError: Unknown name.
    """

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        if name not in PLANS:
            raise BackboneError(f"lgfdr knows no backbone {name!r}: expected one of {', '.join(sorted(PLANS))}")
        self.name, self.size, self.grid = name, size, size // STRIDE_PX
        self.plan = PLANS[name]
        self.convs = nn.ModuleList(
            nn.Conv2d(
                layer.inputs, layer.outputs, layer.kernel, layer.stride, groups=layer.inputs if layer.depthwise else 1
            )
            for layer in self.plan.layers
        )  # fmt: skip
        for i, (stride, offset) in enumerate(zip(self.plan.strides_px, self.plan.offsets_px, strict=True)):
            matrix = reading_matrix(self.grid, size * BACKBONE_SCALE // stride, stride / BACKBONE_SCALE, offset / BACKBONE_SCALE)
            self.register_buffer(f"reading_{i}", matrix, persistent=False)
        self.requires_grad_(requires_grad=False)

    @property
    def channels(self) -> int:
        """Channels of the stack."""
        return sum(self.plan.channels)

    def reading(self, level: int) -> torch.Tensor:
        """(grid, side of the level) float32: see `reading_matrix`."""
        return cast("torch.Tensor", getattr(self, f"reading_{level}"))

    def levels(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) normalized pictures at the backbone's own scale -> one (N, c, h, w) map a level."""
        found, kept = [], x
        for layer, conv in zip(self.plan.layers, self.convs, strict=True):
            kept = x if layer.remember else kept
            before, after = layer.pads
            x = conv(functional.pad(x, (before, after, before, after)))
            x = functional.relu6(x) if layer.relu6 else x
            x = x + kept if layer.add else x
            if layer.level:
                found.append(x)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gives the stacked levels.

        Args:
            x: (N, 3, size, size) float32 normalized pictures.

        Returns:
            (N, C, size / 4, size / 4) float32.
        """
        large = functional.interpolate(x, scale_factor=float(BACKBONE_SCALE), mode="bilinear", align_corners=False)
        read = [
            self.reading(i) @ level @ self.reading(i).T for i, level in enumerate(self.levels(large))
        ]  # fmt: skip
        return torch.cat(read, dim=1)


def load_pyramid(name: str, size: int) -> tuple[Pyramid, str]:
    """Builds a pyramid with its pretrained weights.

    Returns:
        The frozen pyramid on the CPU, and the SHA-256 over its folded weights: what a run and a bundle are traced by.

    Raises:
        BackboneError: Unknown name, its package is not installed, or its layers are not what the plan says.
    """
    pyramid = Pyramid(name, size)
    network = EfficientNetLite2(torch.device("cpu")).network
    for layer, module in zip(pyramid.plan.layers, pyramid.convs, strict=True):
        conv = cast("nn.Conv2d", module)
        block, conv_name, norm_name = layer.source
        owner = network if block < 0 else network._blocks[block]  # noqa: SLF001 the package has no public way in
        theirs, norm = getattr(owner, conv_name), getattr(owner, norm_name)
        if theirs.weight.shape != conv.weight.shape or _pads(theirs) != layer.pads:
            raise BackboneError(
                f"{name}: {conv_name} of block {block}: expected weights {tuple(conv.weight.shape)} and padding {layer.pads}, "
                f"got {tuple(theirs.weight.shape)} and {_pads(theirs)}; install the versions named in onbelt[train]"
            )
        scale = (norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()).detach()
        with torch.no_grad():
            conv.weight.copy_(theirs.weight.double() * scale[:, None, None, None])
            assert conv.bias is not None
            conv.bias.copy_(norm.bias.double() - norm.running_mean.double() * scale)
    digest = hashlib.sha256()
    for tensor in pyramid.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return pyramid, digest.hexdigest()


def _pads(conv: Any) -> tuple[int, int]:
    """(top and left, bottom and right) of one of the package's convolutions, (-1, -1) where the directions differ."""
    padding = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
    left, right, top, bottom = padding
    return (left, right) if (left, right) == (top, bottom) else (-1, -1)
