"""A ResNet of the user's own weight file as a backbone: the file says which one.

EfficientAD distils its teacher from WideResNet-101-2 (arXiv 2303.14535v3, Algorithm 3). torchvision and timm store their ResNets
(He et al., CVPR 2016), wide ones (Zagoruyko and Komodakis, BMVC 2016) and ResNeXts under the same names, and depth, width, kind
of block and groups can all be read off the shapes, so that one reader serves them all and neither package is needed. What is kept
is the network up to its third stage, whose second and third outputs (strides 8 and 16) are the levels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

from training.errors import BackboneError
from training.teacher.folding import FoldedConv
from training.teacher.levels import Level
from training.weight_files import read_state_dict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.weight_files import StateDict

_STAGES = (1, 2, 3)
_KEY = re.compile(
    r"(conv1|layer[123]\.\d+\.(conv[123]|downsample\.0))\.weight"
    r"|(bn1|layer[123]\.\d+\.(bn[123]|downsample\.1))\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)
_READ = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class ResNetForm:
    """What tells one ResNet from another, up to the third stage.

    Attributes:
        bottleneck: Blocks of three convolutions, not of two.
        blocks: Of each stage.
        stem: Channels of the first convolution; 64 in torchvision's and in timm's plain ones.
        width: Channels within the first stage's blocks; each stage has twice those of the one before.
        groups: Of the 3 x 3 convolutions.
    """

    bottleneck: bool
    blocks: tuple[int, int, int]
    stem: int
    width: int
    groups: int

    @property
    def name(self) -> str:
        """As `training.lgfdr.plans` reads it."""
        kind, blocks = "bottleneck" if self.bottleneck else "basic", "-".join(map(str, self.blocks))
        return f"resnet-{kind}-{blocks}-{self.stem}-{self.width}x{self.groups}"

    def outputs(self, stage: int) -> int:
        """Channels that stage `stage`, 0 to 2, gives."""
        return (4 * self.stem if self.bottleneck else self.stem) << stage


class _ConvNorm(nn.Module):
    """A convolution without bias and its normalization, frozen."""

    kernel: torch.Tensor
    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self, state: StateDict, conv: str, norm: str, *, stride: int = 1) -> None:
        super().__init__()
        kernel = _tensor(state, f"{conv}.weight", 4)
        self.register_buffer("kernel", kernel)
        scale, offset, mean, variance = (_tensor(state, f"{norm}.{name}", 1) for name in _BATCH_NORM)
        if any(len(one) != len(kernel) for one in (scale, offset, mean, variance)):
            raise BackboneError(f"{norm}: expected {len(kernel)} channels, those of {conv}, got {len(scale)}")
        factor = scale / (variance + 1e-5).sqrt()
        self.register_buffer("factor", factor[:, None, None])
        self.register_buffer("offset", (offset - mean * factor)[:, None, None])
        self._name, self._stride = conv, stride

    @property
    def folded(self) -> FoldedConv:
        """Both as one convolution."""
        side = self.kernel.shape[-1] // 2
        return FoldedConv(self._name, self.kernel * self.factor[..., None], self.offset.flatten(), (side, side))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, out, H / stride, W / stride); groups follow from the channels that came."""
        groups, odd = divmod(x.shape[1], self.kernel.shape[1])
        if odd or not groups or self.kernel.shape[0] % groups:
            raise BackboneError(f"a convolution of {tuple(self.kernel.shape)} follows {x.shape[1]} channels: no ResNet")
        out = functional.conv2d(x, self.kernel, stride=self._stride, padding=self.kernel.shape[-1] // 2, groups=groups)
        return out * self.factor + self.offset


class _Block(nn.Module):
    """A basic (two convolutions) or bottleneck block (three; the second takes the stride, as torchvision and timm do)."""

    def __init__(self, state: StateDict, at: str, stride: int) -> None:
        super().__init__()
        deep = f"{at}.conv3.weight" in state
        strides = (1, stride, 1) if deep else (stride, 1)
        self.convs = nn.ModuleList(
            _ConvNorm(state, f"{at}.conv{i}", f"{at}.bn{i}", stride=step) for i, step in enumerate(strides, start=1)
        )
        self.shortcut: nn.Module = nn.Identity()
        if f"{at}.downsample.0.weight" in state:
            self.shortcut = _ConvNorm(state, f"{at}.downsample.0", f"{at}.downsample.1", stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As He et al., equation 1."""
        kept = self.shortcut(x)
        *before, last = self.convs
        for conv in before:
            x = functional.relu(conv(x))
        x = last(x)
        if x.shape != kept.shape:
            raise BackboneError(f"a block makes {tuple(x.shape[1:])} of what it should add to {tuple(kept.shape[1:])}: no ResNet")
        return functional.relu(x + kept)


class ResNetFile(nn.Module):
    """A ResNet read from a weight file, up to its third stage.

    Cells of every level lie symmetrically around what they see (odd kernels, equal padding): cell k in the middle of pixel
    stride * k of the input.

    Args:
        weights: torchvision's or timm's state dict, as .pth (tensors alone are read, no code) or .safetensors.
        device: Where to work.

    Raises:
        BackboneError: The file is missing or no ResNet's.
    """

    name = "resnet"

    def __init__(self, weights: Path, device: torch.device) -> None:
        super().__init__()
        state = read_state_dict(weights, BackboneError)
        blocks = _blocks_per_stage(state, weights)
        try:
            self.stem = _ConvNorm(state, "conv1", "bn1", stride=2)
            self.stages = nn.ModuleList(
                nn.Sequential(
                    *(
                        _Block(state, f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1)
                        for i in range(blocks[stage])
                    )
                )
                for stage in _STAGES
            )  # fmt: skip
            self.to(device).eval().requires_grad_(requires_grad=False)
            with torch.no_grad():
                _, second, third = self._maps(torch.zeros(1, 3, 64, 64, device=device))
        except BackboneError as exc:
            raise BackboneError(f"{weights} does not hold a ResNet of torchvision's or timm's: {exc}") from exc
        self.levels: tuple[Level, ...] = (
            Level(channels=second.shape[1], stride_px=8, offset_px=0.5, share=0.5),
            Level(channels=third.shape[1], stride_px=16, offset_px=0.5, share=0.5),
        )

    def _maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        if self.stem.kernel.shape[1:] != (3, 7, 7):
            raise BackboneError(f"conv1.weight: expected (channels, 3, 7, 7), got {tuple(self.stem.kernel.shape)}")
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2, 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    @property
    def form(self) -> ResNetForm:
        """Which ResNet the file holds."""
        convs = [cast("_ConvNorm", conv) for conv in cast("_Block", self._stage(0)[0]).convs]
        stem, width = len(self.stem.kernel), len(convs[0].kernel)
        first, second, third = (len(self._stage(stage)) for stage in range(len(_STAGES)))
        return ResNetForm(len(convs) == 3, (first, second, third), stem, width, width // convs[1].kernel.shape[1])

    def folded(self) -> Iterator[FoldedConv]:
        """Its convolutions in the order of `training.lgfdr.plans`: a block's shortcut behind its first."""
        yield self.stem.folded
        for stage in range(len(_STAGES)):
            for block in cast("list[_Block]", self._stage(stage)):
                first, *others = (cast("_ConvNorm", conv).folded for conv in block.convs)
                yield first
                if isinstance(block.shortcut, _ConvNorm):
                    yield block.shortcut.folded
                yield from others

    def _stage(self, stage: int) -> nn.Sequential:
        return cast("nn.Sequential", self.stages[stage])

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """See `training.teacher.levels.Backbone`."""
        return self._maps(x)[1:]


def _tensor(state: StateDict, key: str, dimensions: int) -> torch.Tensor:
    if key not in state:
        raise BackboneError(f"expected {key}, there is none")
    value = state[key]
    if value.dim() != dimensions or not value.numel():
        raise BackboneError(f"{key}: expected {dimensions} dimensions, got {tuple(value.shape)}")
    if not torch.isfinite(value).all():
        raise BackboneError(f"{key}: expected finite numbers, got {int((~torch.isfinite(value)).sum())} that are not")
    return value.to(torch.float32)


def _blocks_per_stage(state: StateDict, weights: Path) -> dict[int, int]:
    """How many blocks stages 1 to 3 have; their numbers must run from 0 without a gap."""
    found: dict[int, set[int]] = {stage: set() for stage in _STAGES}
    for key in state:
        if key.startswith(_READ) and not _KEY.fullmatch(key):
            raise BackboneError(
                f"{weights}: expected a plain ResNet of torchvision's or timm's, got {key}, which these lack and which would be "
                "left out: give the file of a plain one"
            )
        if key.startswith("layer") and _KEY.fullmatch(key):
            at, block = key[len("layer") :].split(".")[:2]
            found[int(at)].add(int(block))
    for stage, blocks in found.items():
        if blocks != set(range(len(blocks))) or not blocks:
            raise BackboneError(
                f"{weights} does not hold a ResNet of torchvision's or timm's: expected keys layer{stage}.0.conv1.weight and on, "
                f"got {', '.join(sorted(state)[:4])} ..."
            )
    return {stage: len(blocks) for stage, blocks in found.items()}
