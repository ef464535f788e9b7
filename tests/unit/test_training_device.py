"""--device is tried before anything else is done for it, and what does not work is said in one line."""

import pytest
import torch

from training.device import device_of
from training.errors import RecipeError


def test_the_processor_is_always_there():
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:97", "", "cpu:x"])
def test_a_device_that_is_none_is_said_with_the_remedy(name):
    with pytest.raises(RecipeError, match=r"expected a device this torch can use, such as cpu or cuda .* leave it out") as caught:
        device_of(name)
    assert "\n" not in str(caught.value)
