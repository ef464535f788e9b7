"""Batch normalization inside the auto-encoder while it learns, folded into its convolutions afterwards.

The decoder spreads one vector over the whole grid in seven layers. Without normalization its signal is drowned by what all parts
have in common, and which of the differences between parts it picks up within a short run is luck of the first weights (figures in
docs/results.md). What is kept has the paper's layers and nothing else: a normalization with settled statistics is a factor and an
offset a channel, which a convolution's weights and bias take up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.networks.autoencoder import Autoencoder


def add_batch_norm(autoencoder: Autoencoder) -> None:
    """Puts a normalization behind every convolution of the decoder but the output, in place."""
    for stage, conv in enumerate(autoencoder.decoder):
        autoencoder.decoder[stage] = _normalized(conv)
    autoencoder.last_hidden = _normalized(autoencoder.last_hidden)


def _normalized(conv: nn.Module) -> nn.Sequential:
    assert isinstance(conv, nn.Conv2d)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


@torch.no_grad()
def fold_batch_norm(autoencoder: Autoencoder, batches: Iterable[torch.Tensor]) -> None:
    """Settles the statistics over given pictures and folds them into the convolutions, in place; leaves the network in eval mode.

    Args:
        autoencoder: As `add_batch_norm` left it.
        batches: (N, 3, size, size) float32 pictures, all batches of one length.
    """
    for module in autoencoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
    autoencoder.train()
    for batch in batches:
        autoencoder(batch)
    autoencoder.eval()
    for stage, block in enumerate(autoencoder.decoder):
        autoencoder.decoder[stage] = _folded(block)
    autoencoder.last_hidden = _folded(autoencoder.last_hidden)


def _folded(block: nn.Module) -> nn.Conv2d:
    assert isinstance(block, nn.Sequential)
    conv, norm = block
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)
