"""How weights begin, and the mean of them that is kept."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class WeightMean(Generic[Network]):
    """Exponential mean of a network's weights; the decay grows with the steps, so that the start is soon forgotten."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network: Network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights after step `step` (counted from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for mean, now in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)


def initialize_at_he_scale(network: nn.Module) -> None:
    """He's initialization, the last layer at a tenth: a unit signal inside, and an output that starts near the mean, 0.

    The library's default shrinks the signal by about 1.7 a layer; through the auto-encoder's thirteen, little of the picture is
    left, and the first hundred steps of a short run go into finding it.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for conv in convolutions:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    with torch.no_grad():
        convolutions[-1].weight *= 0.1
