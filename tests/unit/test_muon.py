"""Muon: steps of a known length along orthogonal directions, which teach a layer's rare directions like its common ones."""

import pytest
import torch
from torch import nn

from training.muon import Muon, NetworkOptimizer, hidden_kernels, orthogonalize


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_singular_values_move_close_to_one_and_vectors_stay(shape):
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=generator))
    values = torch.logspace(0, -1.5, min(shape))
    made = orthogonalize((left * values) @ right.T)
    assert made.shape == shape
    seen = left.T @ made @ right
    assert torch.all((seen.diagonal() > 0.6) & (seen.diagonal() < 1.3))
    assert (seen - torch.diag(seen.diagonal())).abs().max() < 0.02


def test_a_step_is_a_share_of_the_weights_norm():
    torch.manual_seed(1)
    conv = nn.Conv2d(8, 6, 3)
    before = conv.weight.detach().clone()
    conv(torch.randn(2, 8, 5, 5)).square().sum().backward()
    Muon([conv.weight], lr=0.01).step()
    assert (conv.weight - before).norm().item() == pytest.approx(0.01 * before.norm().item(), rel=0.35)


def test_hidden_kernels_go_to_muon_and_the_rest_to_adam():
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3))
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = NetworkOptimizer(network, hidden_kernels(network), betas=(0.9, 0.99), weight_decay=0.0)
    optimizer.descend(network(torch.randn(1, 3, 9, 9)).square().sum(), muon_rate=0.01, adam_rate=0.0, clip_norm=1.0)
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"2.weight"}
    optimizer.descend(network(torch.randn(1, 3, 9, 9)).square().sum(), muon_rate=0.0, adam_rate=0.01, clip_norm=1.0)
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(before)
