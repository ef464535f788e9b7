"""ResNets of the library's own layers, small ones: what readers of weight files are held against."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

KINDS = [
    {"deep": False, "width": 16, "groups": 1, "blocks": (1, 2, 1, 1)},
    {"deep": True, "width": 16, "groups": 1, "blocks": (1, 1, 2, 1)},
    {"deep": True, "width": 32, "groups": 1, "blocks": (2, 1, 1, 1)},  # wide
    {"deep": True, "width": 32, "groups": 8, "blocks": (1, 1, 1, 1)},  # ResNeXt
]


class PlainResNet(nn.Module):
    """A ResNet put together from the library's own layers, under torchvision's names: what the reader is held against."""

    def __init__(self, *, deep, width, groups, blocks):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
        inputs, self.deep = 16, deep
        for stage, count in zip((1, 2, 3, 4), blocks, strict=True):
            outputs = 16 * 2 ** (stage - 1) * (4 if deep else 1)
            stack = nn.ModuleList()
            for i in range(count):
                stride = 2 if stage > 1 and i == 0 else 1
                stack.append(self._block(inputs, outputs, width * 2 ** (stage - 1), stride, groups))
                inputs = outputs
            setattr(self, f"layer{stage}", stack)
        self.fc = nn.Linear(inputs, 10)

    def _block(self, inputs, outputs, inner, stride, groups):
        shapes = (
            [(inputs, inner, 1, 1, 1), (inner, inner, 3, stride, groups), (inner, outputs, 1, 1, 1)]
            if self.deep
            else [(inputs, outputs, 3, stride, 1), (outputs, outputs, 3, 1, 1)]
        )
        block = nn.Module()
        for i, (a, b, kernel, step, group) in enumerate(shapes, start=1):
            setattr(block, f"conv{i}", nn.Conv2d(a, b, kernel, step, kernel // 2, groups=group, bias=False))
            setattr(block, f"bn{i}", nn.BatchNorm2d(b))
        if stride > 1 or inputs != outputs:
            block.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        return block

    def levels(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        found = []
        for stack in (self.layer1, self.layer2, self.layer3):
            for block in stack:
                kept = block.downsample(x) if hasattr(block, "downsample") else x
                last = 3 if self.deep else 2
                for i in range(1, last + 1):
                    x = getattr(block, f"bn{i}")(getattr(block, f"conv{i}")(x))
                    x = functional.relu(x) if i < last else functional.relu(x + kept)
            found.append(x)
        return found[1:]


def lively_resnet(**kind) -> PlainResNet:
    """One whose statistics are not those of a fresh layer."""
    torch.manual_seed(0)
    made = PlainResNet(**kind).train()
    with torch.no_grad():
        for _ in range(3):
            made.levels(torch.randn(4, 3, 64, 64))
    return made.eval()


def save_resnet(path: Path, **kind) -> PlainResNet:
    """Writes such a one's state dict; returns it."""
    made = lively_resnet(**kind)
    torch.save(made.state_dict(), path)
    return made
