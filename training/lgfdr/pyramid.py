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

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

from training.lgfdr.plans import plan_named
from training.networks.pdn import STRIDE_PX
from training.teacher.levels import BACKBONE_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_MIDDLE_PX = 0.5
"""Middle of the grid's cell 0, in pixels from the picture's edge: its cell j + 4 is the contract's cell j, at 4 j + 16.5 px."""

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x, "relu": functional.relu, "relu6": functional.relu6,
}  # fmt: skip


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
        name: Of the backbone; see `training.lgfdr.plans`.
        size: Side of the picture in pixels, a multiple of 32.

    Raises:
        BackboneError: No name of a backbone.
    """

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.name, self.size, self.grid = name, size, size // STRIDE_PX
        self.plan = plan_named(name)
        self.convs = nn.ModuleList(
            nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, groups=layer.groups) for layer in self.plan.layers
        )
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
            made = conv(functional.pad(kept if layer.shortcut else x, (before, after, before, after)))
            if layer.shortcut:
                kept = made
                continue
            x = made + kept if layer.add else made
            x = _ACTIVATIONS[layer.activation](x)
            x = functional.max_pool2d(x, 3, 2, 1) if layer.pool else x
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
