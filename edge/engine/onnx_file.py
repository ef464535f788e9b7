"""Look into an ONNX file before any engine does, and refuse what a model of ours never holds.

An engine that loads ONNX follows file names in it (external data), looks up plug-ins (custom domains), runs loops and
functions. A bundle's model needs none of that, and an engine would act on it while loading, before its own parsed model could
be asked. So this walks the protobuf itself, some hundred lines instead of the `onnx` package on the box, and checks the graph
contract of `edge.engine.base` on the way. Weights are skipped, not copied.

Source: onnx.proto3 of ONNX 1.23 (field numbers), protobuf encoding guide (wire types).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from edge.engine.base import INPUT_NAME, OUTPUT_NAMES
from edge.engine.protobuf import as_bytes, as_integer, as_integers, as_text, broken, fields

_UINT8, _INT8, _FLOAT = 2, 3, 1  # TensorProto.DataType
_TYPE_NAMES = {
    _UINT8: "uint8",
    _FLOAT: "float32",
    _INT8: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    16: "bfloat16",
}
_MAX_NODES = 20_000  # EfficientAD with Q/DQ has about 400

_Value = tuple[int, tuple[int | str, ...]]  # element type, dimensions (a string where a dimension is not fixed)


@dataclass(frozen=True, slots=True)
class Graph:
    """What the file holds, as far as the engines and people care.

    Attributes:
        size: side of the square input in pixels. cells: side of the maps.
        precision: "int8", "fp16" or "fp32", as the manifest says.
        opset: version of the standard operator set.
        weight_peak: largest |value| of an int8 weight, 0 without any; above 64 some CPUs' INT8 products saturate.
    """

    size: int
    cells: int
    precision: str
    opset: int
    weight_peak: int


def check_contract(model: bytes, size: int, precision: str) -> Graph:
    """Refuse a model that breaks the graph contract.

    Args:
        model: the ONNX file.
        size: side of the input in pixels, as the manifest says.
        precision: as the manifest says; "int8" needs quantized nodes, "fp32" and "fp16" must have none.

    Raises:
        BundleError: not ONNX, external data, another domain than ONNX's own, functions, control flow, or other inputs, outputs
            or shapes than agreed.
    """
    opset, graph = _read_model(memoryview(model))
    inputs: dict[str, _Value] = {}
    outputs: dict[str, _Value] = {}
    operators: Counter[str] = Counter()
    weight_peak = 0
    for number, value in fields(graph, "graph"):
        if number == 1:
            operator, peak = _check_node(as_bytes(value, "node"))
            operators[operator] += 1
            weight_peak = max(weight_peak, peak)
        elif number == 5:
            weight_peak = max(weight_peak, _check_tensor(as_bytes(value, "initializer")))
        elif number in {11, 12}:
            name, kind = _read_value(as_bytes(value, "input or output"))
            values = inputs if number == 11 else outputs
            if name in values:
                raise broken(f"two inputs or outputs are called {name!r}")
            values[name] = kind
        elif number == 15:
            raise broken("expected dense weights, found a sparse initializer")
    if sum(operators.values()) > _MAX_NODES:
        raise broken(f"expected at most {_MAX_NODES} nodes, got {sum(operators.values())}")
    cells = size // 4 - 8
    _compare("input", inputs, {INPUT_NAME: (_UINT8, (1, size, size, 3))})
    scores, *maps = OUTPUT_NAMES
    _compare("output", outputs, {scores: (_FLOAT, (4,)), **dict.fromkeys(maps, (_FLOAT, (cells, cells)))})
    quantized = operators["DequantizeLinear"]
    if (precision == "int8") != (quantized > 0):
        raise broken(f"the manifest says {precision}, but the graph has {quantized} DequantizeLinear nodes")
    return Graph(size, cells, precision, opset, weight_peak)


def _read_model(model: memoryview) -> tuple[int, memoryview]:
    graph: memoryview | None = None
    opset = 0
    for number, value in fields(model, "model"):
        if number == 7:
            if graph is not None:
                raise broken("expected one graph, found two")
            graph = as_bytes(value, "graph")
        elif number == 8:
            domain, version = "", 0
            for inner, content in fields(as_bytes(value, "opset"), "opset"):
                if inner == 1:
                    domain = as_text(content, "opset domain")
                elif inner == 2:
                    version = as_integer(content, "opset version")
            _check_domain(domain, "the operator sets")
            opset = max(opset, version)
        elif number in {20, 25}:
            raise broken(f"expected a plain graph, found {'training information' if number == 20 else 'functions'}")
    if graph is None or not opset:
        raise broken("it has no graph or no operator set; this is no ONNX model")
    return opset, graph


def _check_node(node: memoryview) -> tuple[str, int]:
    """Check one node; return its operator and the largest |value| of int8 tensors it carries."""
    operator = ""
    peak = 0
    for number, value in fields(node, "node"):
        if number == 4:
            operator = as_text(value, "operator")
        elif number == 7:
            _check_domain(as_text(value, "node domain"), f"a node ({operator or 'unnamed'})")
        elif number == 5:
            for inner, content in fields(as_bytes(value, "attribute"), "attribute"):
                if inner in {5, 10}:
                    peak = max(peak, _check_tensor(as_bytes(content, "attribute tensor")))
                elif inner in {6, 11}:
                    raise broken(
                        f"expected no control flow (its run time has no bound), found a graph inside {operator or 'a node'}"
                    )
                elif inner in {22, 23}:
                    raise broken("expected dense tensors, found a sparse attribute")
    return operator, peak


def _check_tensor(tensor: memoryview) -> int:
    """Check one tensor and return the largest |value| in it if it is int8, else 0."""
    name = "?"
    external = False
    element = 0
    raw = memoryview(b"")
    listed: list[int] = []
    for number, value in fields(tensor, "tensor"):
        if number == 2:
            element = as_integer(value, "tensor type")
        elif number == 8:
            name = as_text(value, "tensor name")
        elif number == 9:
            raw = as_bytes(value, "tensor data")
        elif number == 5:
            listed += as_integers(value, "tensor data")
        elif number == 13 or (number == 14 and value != 0):
            external = True
    if external:
        raise broken(f"expected all weights inside the file, found external data in tensor {name!r}; save the model as one file")
    if element != _INT8:
        return 0
    values = np.frombuffer(raw, np.int8).astype(np.int16)
    return max(int(np.abs(values).max(initial=0)), max(map(abs, listed), default=0))


def _check_domain(domain: str, where: str) -> None:
    if domain not in {"", "ai.onnx"}:
        raise broken(f"expected ONNX's own operators only, found domain {domain!r} in {where}; export without custom operators")


def _read_value(value: memoryview) -> tuple[str, _Value]:
    """Name, element type and dimensions of a ValueInfoProto."""
    name, element = "", 0
    dimensions: list[int | str] = []
    for number, content in fields(value, "value"):
        if number == 1:
            name = as_text(content, "value name")
        elif number == 2:
            for kind, tensor in fields(as_bytes(content, "type"), "type"):
                if kind != 1:
                    continue  # a denotation; another kind than tensor leaves element type 0, which no contract has
                for inner, part in fields(as_bytes(tensor, "tensor type"), "tensor type"):
                    if inner == 1:
                        element = as_integer(part, "element type")
                    elif inner == 2:
                        dimensions += [
                            _dimension(as_bytes(one, "dim")) for key, one in fields(as_bytes(part, "shape"), "shape") if key == 1
                        ]
    return name, (element, tuple(dimensions))


def _dimension(dimension: memoryview) -> int | str:
    for number, value in fields(dimension, "dimension"):
        if number == 1:
            return as_integer(value, "dimension")
        if number == 2:
            return as_text(value, "dimension")
    return "?"


def _compare(what: str, got: dict[str, _Value], expected: dict[str, _Value]) -> None:
    if got != expected:
        raise broken(f"expected {what}s {_show(expected)}, got {_show(got)}; export the bundle again")


def _show(values: dict[str, _Value]) -> str:
    parts = (
        f"{name[:40]} {_TYPE_NAMES.get(element, f'type {element}')} ({', '.join(str(side)[:20] for side in dimensions)})"
        for name, (element, dimensions) in list(values.items())[:6]
    )
    return "; ".join(parts) or "none"
