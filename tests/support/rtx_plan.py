"""What a plan of TensorRT-RTX says it computes: the program in it is partly readable text.

Not an interface of NVIDIA's: seen in plans of 1.7.1. A convolution is written `corrltn={ name="..." output={...} input={...}`,
a tensor `tensor={ ... dims={ 1 512 27 27 } ... name="..." ... type=int8 }`.
"""

import re
from typing import NamedTuple

_TENSOR = re.compile(rb'tensor=\{ [^}]*?dims=\{ ([0-9 ]*)\}[^{}]*?name="([^"]+)"[^\n]*? type=(\w+) \}')
_CONVOLUTION = re.compile(rb'corrltn=\{ name="(?:node_of_)?([^"]+?)(?:_U\d+)?" output=\{([^}]*)\} input=\{([^}]*)\}')


class Convolution(NamedTuple):
    """Element types of a convolution's activation and weight."""

    activation: str
    weight: str


def convolutions(plan: bytes) -> dict[str, Convolution]:
    """Convolutions of a plan by the ONNX node's name, or its output's where the node has none."""
    types = {match[2]: match[3].decode() for match in _TENSOR.finditer(plan)}
    found = {}
    for match in _CONVOLUTION.finditer(plan):
        inputs = [types.get(name, "?") for name in re.findall(rb'"([^"]+)"', match[3])]
        found[match[1].decode()] = Convolution(inputs[0], inputs[1])
    return found
