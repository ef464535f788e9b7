"""A model's nodes, small constants and element types, read from the protobuf: enough to judge how it is quantized.

The box has no `onnx` package. The model has passed `check_contract` by then: one graph, ONNX's own operators, no external data.

Source: onnx.proto3 of ONNX 1.23 (field numbers).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.engine.protobuf import as_bytes, as_integer, as_integers, as_text, fields, signed

FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, BFLOAT16 = 1, 2, 3, 6, 7, 9, 10, 16  # TensorProto.DataType
TYPE_NAMES = {
    FLOAT: "fp32", UINT8: "uint8", INT8: "int8", 4: "uint16", 5: "int16", INT32: "int32", INT64: "int64", BOOL: "bool",
    FLOAT16: "fp16", 11: "fp64", BFLOAT16: "bf16", 17: "fp8", 21: "uint4", 22: "int4",
}  # fmt: skip
_TO_BOOL = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "IsNaN", "IsInf"})
_TO_INT64 = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero"})
_KEEP_VALUES = 4096  # elements; zero points and scales have at most one per channel
_NUMPY = {FLOAT: "<f4", UINT8: "u1", INT8: "i1", INT32: "<i4", INT64: "<i8", FLOAT16: "<f2"}


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor inside the file.

    Attributes:
        element: its TensorProto.DataType. shape: its dimensions.
        values: flat, or None where it is large or of a type that is not looked into.
    """

    element: int
    shape: tuple[int, ...]
    values: NDArray[np.generic] | None


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes:
        name: for messages: its own, or that of its first output. integers: its integer attributes (axis, to, ...).
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A graph in the order it was written.

    Attributes:
        constants: by tensor name. types: element type by tensor name, as far as it could be derived; 0 where not.
        makers: which node makes a tensor.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    types: Mapping[str, int]
    makers: Mapping[str, Node]


def read_graph(model: bytes) -> OnnxGraph:
    """Read the graph of a model that passed `check_contract`.

    Raises:
        BundleError: the protobuf is damaged.
    """
    nodes: list[Node] = []
    constants: dict[str, Constant] = {}
    types: dict[str, int] = {}
    for number, value in fields(memoryview(model), "model"):
        if number != 7:
            continue
        for kind, part in fields(as_bytes(value, "graph"), "graph"):
            if kind == 1:
                node, constant = _read_node(as_bytes(part, "node"))
                nodes.append(node)
                if constant is not None and node.outputs:
                    constants[node.outputs[0]] = constant
            elif kind == 5:
                name, constant = _read_tensor(as_bytes(part, "initializer"))
                constants[name] = constant
            elif kind == 11:
                name, element = _read_input(as_bytes(part, "input"))
                types[name] = element
    types |= {name: constant.element for name, constant in constants.items()}
    for node in nodes:
        element = _type_of(node, types)
        types |= {output: types.get(output, 0) or element for output in node.outputs if output}
    makers = {output: node for node in nodes for output in node.outputs if output}
    return OnnxGraph(tuple(nodes), constants, types, makers)


def _type_of(node: Node, types: Mapping[str, int]) -> int:
    """Element type of a node's outputs, 0 where it cannot be said."""
    if node.operator == "Cast":
        return node.integers.get("to", 0)
    if node.operator == "QuantizeLinear":
        by_attribute = node.integers.get("output_dtype", 0)
        return types.get(node.inputs[2], 0) if len(node.inputs) > 2 and node.inputs[2] else by_attribute or UINT8
    if node.operator == "DequantizeLinear":
        return types.get(node.inputs[1], 0) if len(node.inputs) > 1 else 0
    if node.operator in _TO_BOOL:
        return BOOL
    if node.operator in _TO_INT64:
        return INT64
    source = node.inputs[1:2] if node.operator == "Where" else node.inputs[:1]
    return types.get(source[0], 0) if source else 0


def _read_node(message: memoryview) -> tuple[Node, Constant | None]:
    """One node, and the tensor it carries where it is a Constant."""
    operator = name = ""
    inputs: list[str] = []
    outputs: list[str] = []
    integers: dict[str, int] = {}
    constant: Constant | None = None
    for number, value in fields(message, "node"):
        if number == 1:
            inputs.append(as_text(value, "input"))
        elif number == 2:
            outputs.append(as_text(value, "output"))
        elif number == 3:
            name = as_text(value, "node name")
        elif number == 4:
            operator = as_text(value, "operator")
        elif number == 5:
            key, integer, tensor = _read_attribute(as_bytes(value, "attribute"))
            if integer is not None:
                integers[key] = integer
            constant = tensor or constant
    label = name or (outputs[0] if outputs else operator)
    node = Node(operator, label, tuple(inputs), tuple(outputs), integers)
    return node, constant if operator == "Constant" else None


def _read_attribute(message: memoryview) -> tuple[str, int | None, Constant | None]:
    key = ""
    integer: int | None = None
    tensor: Constant | None = None
    for number, value in fields(message, "attribute"):
        if number == 1:
            key = as_text(value, "attribute name")
        elif number == 3:
            integer = signed(as_integer(value, "attribute"))
        elif number == 5:
            tensor = _read_tensor(as_bytes(value, "attribute tensor"))[1]
        elif number == 2:
            # A Constant may carry a single float (field 2 of AttributeProto) as `value_float`.
            raw = np.frombuffer(as_bytes(value, "attribute"), "<f4")
            tensor = Constant(FLOAT, (), raw)
    return key, integer, tensor


def _read_input(message: memoryview) -> tuple[str, int]:
    """Name and element type of a graph input."""
    name, element = "", 0
    for number, value in fields(message, "value"):
        if number == 1:
            name = as_text(value, "value name")
        elif number == 2:
            for kind, tensor in fields(as_bytes(value, "type"), "type"):
                if kind == 1:
                    for inner, part in fields(as_bytes(tensor, "tensor type"), "tensor type"):
                        if inner == 1:
                            element = as_integer(part, "element type")
    return name, element


def _read_tensor(message: memoryview) -> tuple[str, Constant]:
    name, element = "", 0
    shape: list[int] = []
    listed: list[int] = []
    floats = bytearray()
    raw: memoryview | None = None
    for number, value in fields(message, "tensor"):
        if number == 1:
            shape += as_integers(value, "tensor data")
        elif number == 2:
            element = as_integer(value, "tensor type")
        elif number == 4:
            floats += as_bytes(value, "tensor data")
        elif number in {5, 7} and np.prod(shape, dtype=np.int64) <= _KEEP_VALUES:
            listed += as_integers(value, "tensor data")
        elif number == 8:
            name = as_text(value, "tensor name")
        elif number == 9:
            raw = as_bytes(value, "tensor data")
    return name, Constant(element, tuple(shape), _values(element, shape, raw, bytes(floats), listed))


def _values(
    element: int, shape: list[int], raw: memoryview | None, floats: bytes, listed: list[int]
) -> NDArray[np.generic] | None:
    kind = _NUMPY.get(element)
    count = int(np.prod(shape, dtype=np.int64))
    if kind is None or count > _KEEP_VALUES:
        return None
    if raw is not None:
        return np.frombuffer(raw, kind) if len(raw) == count * np.dtype(kind).itemsize else None
    if floats:
        return np.frombuffer(floats, "<f4") if len(floats) == 4 * count else None
    if element == FLOAT16:  # stored as the bits of each number
        return np.frombuffer(struct.pack(f"<{len(listed)}H", *(bits & 0xFFFF for bits in listed)), "<f2")
    return np.array(listed, np.int64) if len(listed) == count else None
