"""Two reconstructions into one: the selective reconstruction head, and the plain gates it is measured against.

Stated by the paper: the head fuses both adaptively. Our reading follows selective kernels (Li et al., CVPR 2019): the sum of both
is pooled over the picture, squeezed, and two full connections give each branch a weight a channel; a softmax over the branches
makes the weights sum to 1. The other gates weigh the sum of both: SE (Hu et al., CVPR 2018), ECA (Wang et al., CVPR 2020) and
SimAM (Yang et al., ICML 2021), each after its paper's formula but for the half that SimAM's loses (`SimamGate`). The head, SE and
ECA begin at the plain mean of the two; SimAM's weights are at least a half everywhere, so it begins at the mean or beyond.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

REDUCTION = 8
LEAST_SQUEEZE = 32
"""Channels of the squeeze: C / 8, at least 32 (selective kernels, section 3.1, with r = 16 on wider networks)."""
SIMAM_LAMBDA = 1e-4
"""SimAM's regularizer (its section 3.3)."""


def squeeze_width(channels: int) -> int:
    """Channels between the two full connections of a gate."""
    return max(LEAST_SQUEEZE, channels // REDUCTION)


def eca_kernel(channels: int) -> int:
    """ECA's kernel: the odd number next to |log2(C) / 2 + 1 / 2| (its equation 12, gamma 2, b 1)."""
    kernel = int(abs(math.log2(channels) / 2 + 0.5))
    return kernel if kernel % 2 else kernel + 1


class SelectiveHead(nn.Module):
    """R = w_L * L + w_G * G with (w_L, w_G) = softmax over branches of two full connections of relu(FC(mean(L + G)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, squeeze_width(channels))
        self.branches = nn.Linear(squeeze_width(channels), 2 * channels)
        nn.init.normal_(self.branches.weight, std=0.02)
        nn.init.zeros_(self.branches.bias)

    def weights(self, local: torch.Tensor, global_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C) each: how much of either reconstruction is taken; they sum to 1."""
        squeezed = functional.relu(self.squeeze((local + global_).mean((2, 3))))
        logits = self.branches(squeezed).view(len(local), 2, -1)
        both = torch.softmax(logits, dim=1)
        return both[:, 0], both[:, 1]

    def forward(self, local: torch.Tensor, global_: torch.Tensor) -> torch.Tensor:
        """Two (N, C, g, g) -> (N, C, g, g)."""
        w_l, w_g = self.weights(local, global_)
        return w_l[:, :, None, None] * local + w_g[:, :, None, None] * global_


class SeGate(nn.Module):
    """R = sigmoid(FC(relu(FC(mean(U))))) * U with U = L + G."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, squeeze_width(channels))
        self.excite = nn.Linear(squeeze_width(channels), channels)
        nn.init.normal_(self.excite.weight, std=0.02)
        nn.init.zeros_(self.excite.bias)

    def forward(self, local: torch.Tensor, global_: torch.Tensor) -> torch.Tensor:
        """Two (N, C, g, g) -> (N, C, g, g)."""
        both = local + global_
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(both.mean((2, 3))))))
        return gate[:, :, None, None] * both


class EcaGate(nn.Module):
    """R = sigmoid(conv1d over channels of mean(U)) * U with U = L + G."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = eca_kernel(channels)
        self.across = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        nn.init.normal_(self.across.weight, std=0.02)

    def forward(self, local: torch.Tensor, global_: torch.Tensor) -> torch.Tensor:
        """Two (N, C, g, g) -> (N, C, g, g)."""
        both = local + global_
        gate = torch.sigmoid(self.across(both.mean((2, 3))[:, None])[:, 0])
        return gate[:, :, None, None] * both


class SimamGate(nn.Module):
    """R = sigmoid(e - 1/2) * U, e = (U - mean)^2 / (4 (variance + lambda)) + 1/2, channel by channel, with U = L + G.

    SimAM takes sigmoid(e); the 1/2 is taken off so that a cell like all others gets the mean of both, as with the other gates.
    """

    def forward(self, local: torch.Tensor, global_: torch.Tensor) -> torch.Tensor:
        """Two (N, C, g, g) -> (N, C, g, g)."""
        both = local + global_
        square = (both - both.mean((2, 3), keepdim=True)).square()
        cells = both.shape[2] * both.shape[3]
        variance = square.sum((2, 3), keepdim=True) / (cells - 1)
        return torch.sigmoid(square / (4 * (variance + SIMAM_LAMBDA))) * both


def make_gate(name: str, channels: int) -> nn.Module | None:
    """Gives the gate of that name; None for the mean of both.

    Args:
        name: One of `training.lgfdr.knobs.GATES`.
        channels: Of the features.
    """
    if name == "simam":
        return SimamGate()
    makers: dict[str, type[SelectiveHead | SeGate | EcaGate]] = {"srh": SelectiveHead, "se": SeGate, "eca": EcaGate}
    return makers[name](channels) if name in makers else None
