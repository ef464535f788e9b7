"""The torch device named on the command line, tried before pictures are read and networks are made for it."""

import torch

from training.errors import RecipeError


def device_of(name: str) -> torch.device:
    """The device of this name.

    Raises:
        RecipeError: torch knows none of this name, or cannot use it here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        # torch without CUDA asserts; a name it does not know and a GPU that is not there are RuntimeErrors, a page long.
        said = str(exc).partition("\n")[0][:200]
        raise RecipeError(
            f"--device {name}: expected a device this torch can use, such as cpu or cuda ({said}); leave it out to train on the "
            "CPU, or install a torch built for this GPU"
        ) from exc
    return device
