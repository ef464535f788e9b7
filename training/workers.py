"""Several processes that train one network, as `torchrun` starts them: each draws its part of a batch, gradients are averaged.

torchrun --nproc-per-node 4 --no-python onbelt distill photographs/ --device cuda --batch 64 --out teacher.safetensors

A process that torchrun has not started, or started alone, works as it always does. The averaging is torch's own
DistributedDataParallel, over NCCL between GPUs and Gloo between CPUs.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.device import device_of
from training.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those that train together.

    Attributes:
        rank: Of this one, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes files and tells progress."""
        return self.rank == 0

    def shared(self, network: nn.Module) -> nn.Module:
        """The same network, whose gradients are the mean over all workers; its weights become those of the leader."""
        return network if self.count == 1 else DistributedDataParallel(network)

    def mean(self, value: float) -> float:
        """The mean of a number over all workers; each must ask."""
        return value if self.count == 1 else self._sum(value) / self.count

    def any(self, asked: bool) -> bool:
        """Whether any worker says so; each must ask. Stopping is to be agreed on, or the others wait for a gradient for ever."""
        return asked if self.count == 1 else self._sum(float(asked)) > 0

    def _sum(self, value: float) -> float:
        gpu = distributed.get_backend() == "nccl"
        number = torch.tensor(value, dtype=torch.float64, device=torch.device("cuda") if gpu else torch.device("cpu"))
        distributed.all_reduce(number)
        return float(number.item())


ALONE = Workers()


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Workers, torch.device]]:
    """Joins the workers torchrun has started, for as long as the context lasts.

    Args:
        device: As named on the command line; "cuda" is each worker's own GPU.

    Raises:
        RecipeError: The device is of no use here, or torchrun's variables make no sense.
    """
    texts = [os.environ.get(name, "") for name in _NAMES]
    if texts[1] in {"", "1"}:
        yield ALONE, device_of(device)
        return
    if not all(text.isdecimal() for text in texts) or int(texts[0]) >= int(texts[1]):
        told = ", ".join(f"{name}={text!r}" for name, text in zip(_NAMES, texts, strict=True))
        raise RecipeError(f"expected the numbers torchrun sets, got {told}; start with torchrun, or unset them")
    rank, count, local = map(int, texts)
    if device not in {"cpu", "cuda"}:
        raise RecipeError(f"--device {device}: expected cpu or cuda with several workers, each of which takes its own GPU")
    own = device_of(device if device == "cpu" else f"cuda:{local}")
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield Workers(rank, count), own
    finally:
        distributed.destroy_process_group()
