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
    from collections.abc import Iterable, Sequence

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
    """Orthogonal momentum for kernels, each read as a matrix (out, in * height * width); a linear layer's is one.

    Args:
        kernels: Weights of two or four dimensions.
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


def hidden_kernels(network: nn.Module) -> list[torch.Tensor]:
    """All kernels of convolutions, in the order in which data passes them, but the first and the last.

    The first has too few inputs, the last too many outputs for orthogonality to mean anything (and to be cheap).
    """
    return [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)][1:-1]


class NetworkOptimizer:
    """Muon for a network's hidden kernels, Adam for everything else of it.

    Args:
        network: What learns.
        hidden: Its kernels that Muon moves; none leaves all to Adam.
        betas: Adam's.
        weight_decay: Adam's.
        adam: Which Adam: AdamW takes the decay out of its moments.
    """

    def __init__(
        self,
        network: nn.Module,
        hidden: Sequence[torch.Tensor],
        *,
        betas: tuple[float, float],
        weight_decay: float,
        adam: type[torch.optim.Adam] = torch.optim.Adam,
    ) -> None:
        chosen = {id(kernel) for kernel in hidden}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
        self._muon = Muon(hidden, lr=0.0) if hidden else None
        self._adam = adam(rest, betas=betas, weight_decay=weight_decay)
        self._network = network

    def descend(self, loss: torch.Tensor, *, muon_rate: float, adam_rate: float, clip_norm: float) -> None:
        """Takes one step.

        Args:
            loss: Scalar with a graph.
            muon_rate: Length of a step of the hidden kernels, as a share of their norm.
            adam_rate: Adam's learning rate.
            clip_norm: Largest norm of the whole gradient.
        """
        muon = [] if self._muon is None else [(self._muon, muon_rate)]
        optimizers: list[tuple[torch.optim.Optimizer, float]] = [*muon, (self._adam, adam_rate)]
        for optimizer, rate in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), clip_norm)
        for optimizer, _ in optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs."""
        return {"muon": self._muon.state_dict() if self._muon is not None else None, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        if self._muon is not None:
            self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
