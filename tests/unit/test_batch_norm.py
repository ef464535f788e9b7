"""Normalizations that help the auto-encoder learn leave no trace but weights: the same function, the paper's layers."""

import copy

import pytest
import torch

from training.networks.autoencoder import Autoencoder
from training.networks.batch_norm import add_batch_norm, fold_batch_norm


@pytest.fixture
def trained():
    torch.manual_seed(0)
    network = Autoencoder(128)
    add_batch_norm(network)
    for name, value in network.named_parameters():
        if name.endswith(("1.weight", "1.bias")):
            torch.nn.init.uniform_(value, 0.2, 2.0)
    return network


def test_folding_leaves_the_papers_layers(trained):
    fold_batch_norm(trained, [torch.randn(2, 3, 128, 128)])
    plain = Autoencoder(128)
    assert {name: value.shape for name, value in trained.state_dict().items()} == {
        name: value.shape for name, value in plain.state_dict().items()
    }


def test_the_folded_network_says_what_the_normalized_one_says(trained):
    pictures = torch.randn(4, 3, 128, 128)
    folded = copy.deepcopy(trained)
    fold_batch_norm(folded, [pictures])
    # In training mode a normalization takes the statistics of the batch at hand: here the very batch that was folded. The
    # running variance is the unbiased one, so the narrowest grids (4 cells a picture) differ by a little.
    with torch.no_grad():
        expected, got = trained.train()(pictures), folded(pictures)
    assert (got - expected).norm() < 0.05 * expected.norm()


def test_folding_is_exact_at_given_statistics(trained):
    batches = [torch.randn(2, 3, 128, 128) for _ in range(3)]
    folded, kept = copy.deepcopy(trained), copy.deepcopy(trained)
    fold_batch_norm(folded, batches)
    for module in kept.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for batch in batches:
            kept.train()(batch)
        expected, got = kept.eval()(batches[0]), folded(batches[0])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
