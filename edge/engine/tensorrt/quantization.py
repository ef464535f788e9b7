"""Refuse a quantized model that TensorRT would read otherwise than it was meant, and say which convolutions will be INT8.

TensorRT knows one scheme: signed INT8 around zero, weights with one scale per output channel (axis 0), activations with one
scale, biases in float, and it never converts between float types by itself. Its parser says so late and in its own terms, or
not at all. Measured with TensorRT-RTX 1.7.1: a uint8 QuantizeLinear is read as int8 and loses half of its range, with a warning
where it has a zero point and without one where it has none; an activation scaled per channel, or a weight scaled along its
inputs, turns its convolution into a float one without a word. So the file is checked first, and the message names the node.

A convolution is computed in INT8 when both of its inputs come straight from a DequantizeLinear, or its activation from a
concatenation of such with one common scale. Anything between (a Pad, say) leaves it in float, with its weight widened anew
every frame: seen in the plan TensorRT-RTX 1.7.1 makes of such a graph (tests/unit/test_tensorrt_rtx.py reads it there).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge.bundle.format import MODEL
from edge.engine.tensorrt.onnx_graph import (
    BFLOAT16,
    FLOAT,
    FLOAT16,
    INT8,
    INT32,
    TYPE_NAMES,
    Constant,
    Node,
    OnnxGraph,
    read_graph,
)
from edge.errors import EngineError

_FLOATS = frozenset({FLOAT, FLOAT16, BFLOAT16})
# Operators that name the integer arithmetic themselves: TensorRT derives it from Q/DQ, and has none of these.
_OPERATOR_FORM = frozenset(
    {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QLinearAdd", "QLinearConcat"}
)
# Where all float inputs must share one type. A Resize has float scales beside its data; Q/DQ are looked at by themselves.
_ONE_TYPE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Concat", "Conv", "MatMul", "Gemm", "PRelu", "Sum", "ConvTranspose"}
)
_REMEDY = "export the bundle with onbelt export, which writes symmetric signed INT8"


@dataclass(frozen=True, slots=True)
class Convolutions:
    """What will be computed how.

    Attributes:
        integer: names of the convolutions computed in INT8. floating: the others, by name, each with what keeps it in float.
    """

    integer: tuple[str, ...]
    floating: dict[str, str]


def check_quantization(model: bytes) -> Convolutions:
    """Refuse what TensorRT must not be given.

    Args:
        model: an ONNX file that passed `check_contract`.

    Raises:
        EngineError: asymmetric, unsigned or wider integers, an int32 bias, an activation scaled per channel, a weight scaled
            along another axis than its outputs, integer operators in place of Q/DQ, or two float types in one operator.
    """
    graph = read_graph(model)
    for node in graph.nodes:
        if node.operator in _OPERATOR_FORM:
            raise _refused(node, f"expected QuantizeLinear and DequantizeLinear around float operators, found {node.operator}")
        if node.operator in {"QuantizeLinear", "DequantizeLinear"}:
            _check_pair(graph, node)
        elif node.operator in _ONE_TYPE:
            _check_types(graph, node)
    return Convolutions(*_sort(graph))


def _check_pair(graph: OnnxGraph, node: Node) -> None:
    """One QuantizeLinear or DequantizeLinear."""
    quantizes = node.operator == "QuantizeLinear"
    if len(node.inputs) < 2:
        raise _refused(node, f"expected {node.operator} with a scale, got {len(node.inputs)} inputs")
    integer = graph.types.get(node.outputs[0] if quantizes else node.inputs[0], 0)
    if integer == INT32 and not quantizes:
        raise _refused(node, "expected a float bias, found an int32 one behind DequantizeLinear")
    if integer != INT8:
        raise _refused(node, f"expected signed int8, found {TYPE_NAMES.get(integer, f'type {integer}')}")
    scale = graph.constants.get(node.inputs[1])
    if scale is None:
        raise _refused(node, "expected a constant scale, found one that is computed")
    if scale.values is None or not np.all(np.isfinite(scale.values.astype(np.float64)) & (scale.values.astype(np.float64) > 0)):
        raise _refused(node, "expected finite scales above 0")
    if len(node.inputs) > 2 and node.inputs[2]:
        zero = graph.constants.get(node.inputs[2])
        if zero is None or zero.values is None:
            raise _refused(node, "expected a constant zero point, found one that is computed")
        if zero.values.any():
            odd = zero.values[np.flatnonzero(zero.values)[0]]
            raise _refused(node, f"expected symmetric INT8 (zero point 0), found zero point {odd}")
    _check_granularity(graph, node, scale, quantizes=quantizes)


def _check_granularity(graph: OnnxGraph, node: Node, scale: Constant, *, quantizes: bool) -> None:
    count = int(np.prod(scale.shape, dtype=np.int64))
    if count == 1:
        return
    stored = graph.constants.get(node.inputs[0])
    if quantizes or stored is None:
        raise _refused(node, f"expected one scale for an activation, found {count}")
    axis = node.integers.get("axis", 1)
    if axis != 0 or stored.shape[:1] != (count,):
        raise _refused(
            node, f"expected one scale per output channel (axis 0) of a weight {stored.shape}, found {count}, axis {axis}"
        )


def _check_types(graph: OnnxGraph, node: Node) -> None:
    found = {name: graph.types.get(name, 0) for name in node.inputs if name}
    floats = {kind for kind in found.values() if kind in _FLOATS}
    if len(floats) > 1:
        shown = ", ".join(f"{name} {TYPE_NAMES[kind]}" for name, kind in found.items() if kind in _FLOATS)
        raise _refused(node, f"expected one float type, found {shown}; put a Cast between them")


def _sort(graph: OnnxGraph) -> tuple[tuple[str, ...], dict[str, str]]:
    integer: list[str] = []
    floating: dict[str, str] = {}
    for node in graph.nodes:
        if node.operator != "Conv":
            continue
        why = next(_obstacles(graph, node), "")
        if why:
            floating[node.name] = why
        else:
            integer.append(node.name)
    return tuple(integer), floating


def _obstacles(graph: OnnxGraph, conv: Node) -> Iterator[str]:
    """What keeps a convolution from INT8."""
    for role, tensor in zip(("input", "weight"), conv.inputs, strict=False):
        maker = graph.makers.get(tensor)
        if maker is not None and maker.operator == "Concat":
            parts = [graph.makers.get(name) for name in maker.inputs]
            between = [part for part in parts if part is None or part.operator != "DequantizeLinear"]
            if between:
                yield f"{_said(between[0])} stands between Q/DQ and its {role}"
            elif len({_scale_of(graph, part) for part in parts if part is not None}) > 1:
                yield f"its {role} is stacked of parts with different scales"
        elif maker is None or maker.operator != "DequantizeLinear":
            yield f"its {role} comes from {_said(maker)}, not from a DequantizeLinear"


def _said(maker: Node | None) -> str:
    return "a float tensor" if maker is None else f"{maker.operator} {maker.name!r}"


def _scale_of(graph: OnnxGraph, node: Node) -> bytes:
    scale = graph.constants[node.inputs[1]].values
    return b"" if scale is None else scale.tobytes()


def _refused(node: Node, why: str) -> EngineError:
    return EngineError(f"tensorrt: cannot build {MODEL}: {node.operator} {node.name!r}: {why}; {_REMEDY}")
