"""Weight files of others: state dicts as .pth or .safetensors, read without running anything that is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from training.checkpoints import UNREADABLE

if TYPE_CHECKING:
    from pathlib import Path

    from training.errors import TrainingError

StateDict = dict[str, torch.Tensor]

_NESTS = ("state_dict", "model", "model_state_dict")
"""Where training scripts keep the state dict inside what they save."""


def read_state_dict(path: Path, error: type[TrainingError]) -> StateDict:
    """Reads a state dict.

    Args:
        path: A safetensors file, or what `torch.save` wrote. Of a pickle only tensors and plain containers are accepted
            (`weights_only`): a file cannot run code.
        error: What to raise.

    Returns:
        Name -> tensor on the CPU, whatever the file nests it in ("state_dict", "model").

    Raises:
        TrainingError: Of the class `error`: the file is missing, unreadable, or holds no state dict.
    """
    if not path.is_file():
        raise error(f"no weight file at {path}: expected a state dict, .safetensors or as torch.save writes it; name another")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *UNREADABLE) as exc:
        why = str(exc).partition("\n")[0]
        raise error(
            f"cannot read {path}: expected a state dict, as safetensors or as torch.save writes it, of tensors alone; {why}. "
            "A whole pickled module must be saved anew by its owner: torch.save(module.state_dict(), FILE)"
        ) from exc
    for nest in _NESTS:
        if isinstance(loaded, dict) and isinstance(loaded.get(nest), dict):
            loaded = loaded[nest]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(k, str) for k in loaded):
        raise error(f"{path}: expected a state dict (names and tensors), got {type(loaded).__name__}")
    tensors = {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise error(f"{path}: expected a state dict (names and tensors), it holds no tensor")
    return tensors
