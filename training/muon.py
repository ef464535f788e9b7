"""Muon: momentum whose matrices are made orthogonal, so that a step moves every direction of a layer alike.

What distinguishes one good part from the next (a colour all pieces share, a part's place) is a small share of a feature map's
variance. Gradient descent, and Adam, which scales element by element, learn directions in the order of their variance, and leave
these for thousands of steps. Muon steps equally far along all singular directions of a layer's momentum.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the coefficients of the Newton-Schulz
iteration are theirs. A step here is a share of the weights' own norm, so one rate fits layers of any width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

MOMENTUM = 0.95
ITERATIONS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Moves all singular values of a matrix close to 1 (0.7 to 1.2) and keeps its singular vectors.

    Args:
        matrix: (m, n) float32.

    Returns:
        (m, n) float32.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: torch.Tensor = wide / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x if wide is matrix else x.T


class Muon(torch.optim.Optimizer):
    """Orthogonal momentum for the kernels of convolutions, each read as a matrix (out, in * height * width).

    Args:
        kernels: Weights of four dimensions.
        lr: Length of a step, as a share of the weight's own norm.
    """

    def __init__(self, kernels: Iterable[torch.Tensor], lr: float) -> None:
        super().__init__(kernels, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Takes one step along the gradients at hand."""
        assert closure is None
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                momentum = self.state[kernel].setdefault("momentum", torch.zeros_like(kernel))
                momentum.mul_(MOMENTUM).add_(kernel.grad)
                ahead = kernel.grad.add(momentum, alpha=MOMENTUM).flatten(1)
                direction = orthogonalize(ahead)
                length = group["lr"] * kernel.norm() / min(direction.shape) ** 0.5
                kernel.sub_(length * direction.reshape(kernel.shape))


class NetworkOptimizer:
    """Muon for a network's hidden kernels, Adam for its first and last layer and for biases.

    The first kernel has too few inputs, the last too many outputs for orthogonality to mean anything (and to be cheap).

    Args:
        network: Convolutions in the order in which data passes them.
        betas: Adam's.
        weight_decay: Adam's.
    """

    def __init__(self, network: nn.Module, *, betas: tuple[float, float], weight_decay: float) -> None:
        kernels = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
        hidden = kernels[1:-1]
        chosen = {id(kernel) for kernel in hidden}
        self._muon = Muon(hidden, lr=0.0)
        self._adam = torch.optim.Adam(
            [parameter for parameter in network.parameters() if id(parameter) not in chosen],
            betas=betas,
            weight_decay=weight_decay,
        )
        self._network = network

    def descend(self, loss: torch.Tensor, *, muon_rate: float, adam_rate: float, clip_norm: float) -> None:
        """Takes one step.

        Args:
            loss: Scalar with a graph.
            muon_rate: Length of a step of the hidden kernels, as a share of their norm.
            adam_rate: Adam's learning rate.
            clip_norm: Largest norm of the whole gradient.
        """
        for optimizer, rate in ((self._muon, muon_rate), (self._adam, adam_rate)):
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), clip_norm)
        self._muon.step()
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
