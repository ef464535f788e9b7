"""The discriminator: which of what is not rebuilt is damage.

A plain mean over the channels of F - R counts every channel alike, and good parts leave residuals too: texture that no tower can
foresee. The discriminator is shown features and residual of parts with painted damage (`training.damage`) and says of each cell
how much it looks like damage: with that the mean is weighed. It learns after the towers, which stand still meanwhile.

Not in the paper: after DRAEM's discriminative sub-network (Zavrtanik et al., ICCV 2021, section 3.2) and DeSTSeg's segmentation
network (Zhang et al., CVPR 2023, section 3.3), here on the residual of the fused reconstruction, so that what the selective head
makes of both towers is what it listens to.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

FOCUS = 2.0
"""Exponent of the focal loss (Lin et al., ICCV 2017, equation 4): most cells are undamaged and soon told."""

RARE = -3.0
"""Logit it begins with: one cell in twenty is damaged, as painted pictures have it."""


class Discriminator(nn.Module):
    """Three convolutions over [F, F - R].

    Args:
        channels: Of the features.
        width: Of what lies between.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(2 * channels, width, 1)
        self.hidden = nn.Conv2d(width, width, 3, padding=1)
        self.output = nn.Conv2d(width, 1, 1)

    def forward(self, features: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """(N, C, g, g) features and what is not rebuilt of them -> (N, g, g) logits of damage."""
        h = functional.relu(self.squeeze(torch.cat((features, residual), 1)))
        out: torch.Tensor = self.output(functional.relu(self.hidden(h)))
        return out[:, 0]


def initialize_discriminator(discriminator: Discriminator) -> None:
    """Starts at "hardly any cell is damaged" (Lin et al., section 4.1)."""
    assert discriminator.output.bias is not None
    nn.init.constant_(discriminator.output.bias, RARE)


def discriminator_loss(logits: torch.Tensor, damaged: torch.Tensor) -> torch.Tensor:
    """Focal loss, its mean over the cells.

    Args:
        logits: (N, g, g) float32.
        damaged: (N, g, g) float32: how far each cell is damaged, 0 to 1.
    """
    said = torch.sigmoid(logits)
    right = said * damaged + (1 - said) * (1 - damaged)
    each = functional.binary_cross_entropy_with_logits(logits, damaged, reduction="none")
    return ((1 - right) ** FOCUS * each).mean()
