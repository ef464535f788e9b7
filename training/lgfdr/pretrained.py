"""Pretrained weights into a pyramid: from the package that brings them, or from a weight file of the user's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

import torch

from training.errors import BackboneError
from training.lgfdr.pyramid import Pyramid
from training.teacher.efficientnet_lite import EfficientNetLite2
from training.teacher.resnet import ResNetFile

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_CPU = torch.device("cpu")


def backbone_in(weights: Path) -> str:
    """The name of the backbone a weight file holds, for the knob `backbone`.

    Raises:
        BackboneError: The file is missing or holds no ResNet of torchvision's or timm's.
    """
    return ResNetFile(weights, _CPU).form.name


def load_pyramid(name: str, size: int, weights: Path | None = None) -> tuple[Pyramid, str]:
    """Builds a pyramid with its pretrained weights.

    Args:
        name: Of the backbone; see `training.lgfdr.plans`.
        size: Side of the picture in pixels.
        weights: The weight file, for a ResNet.

    Returns:
        The frozen pyramid on the CPU, and the SHA-256 over its folded weights: what a run and a bundle are traced by.

    Raises:
        BackboneError: Unknown name, its package is not installed, its weight file is missing or not wanted, or its layers are not
            what the plan says.
    """
    pyramid = Pyramid(name, size)
    if name == EfficientNetLite2.name:
        if weights is not None:
            raise BackboneError(f"backbone {name!r} brings its weights: expected no --weights, got {weights}")
        theirs, remedy = list(EfficientNetLite2(_CPU).folded()), "install the versions named in onbelt[train]"
    else:
        if weights is None:
            raise BackboneError(f"backbone {name!r} is read from a weight file: name it with --weights")
        theirs, remedy = list(ResNetFile(weights, _CPU).folded()), f"give the file it was named after, not {weights}"
    if len(theirs) != len(pyramid.convs):
        raise BackboneError(f"{name}: expected {len(pyramid.convs)} convolutions, got {len(theirs)}; {remedy}")
    for layer, module, folded in zip(pyramid.plan.layers, pyramid.convs, theirs, strict=True):
        conv = cast("nn.Conv2d", module)
        if folded.weight.shape != conv.weight.shape or folded.pads != layer.pads:
            raise BackboneError(
                f"{name}: {folded.name}: expected weights {tuple(conv.weight.shape)} and padding {layer.pads}, got "
                f"{tuple(folded.weight.shape)} and {folded.pads}; {remedy}"
            )
        with torch.no_grad():
            conv.weight.copy_(folded.weight)
            assert conv.bias is not None
            conv.bias.copy_(folded.bias)
    digest = hashlib.sha256()
    for tensor in pyramid.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return pyramid, digest.hexdigest()
