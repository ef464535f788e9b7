"""Token layers and gates as plain ONNX operators: what stays in float whatever the precision."""

from typing import TYPE_CHECKING, cast

import numpy as np

from export.fuse.layers import array
from export.graph.builder import GraphBuilder
from training.lgfdr.gates import SIMAM_LAMBDA, EcaGate, SeGate, SelectiveHead, SimamGate

if TYPE_CHECKING:
    from torch import nn

    from training.lgfdr.towers import TokenLayer


def write_linear(g: GraphBuilder, module: "nn.Linear | nn.LayerNorm", x: str, name: str) -> str:
    """A full connection (MatMul, Add) or a layer normalization over the last axis."""
    if type(module).__name__ == "LayerNorm":
        norm = cast("nn.LayerNorm", module)
        inputs = [x, g.weight(f"{name}.scale", array(norm.weight)), g.weight(f"{name}.offset", array(norm.bias))]
        return g.node("LayerNormalization", inputs, name, axis=-1, epsilon=norm.eps)
    linear = cast("nn.Linear", module)
    product = g.node("MatMul", [x, g.weight(f"{name}.weight", array(linear.weight).T)], f"{name}.product")
    return g.node("Add", [product, g.constant(f"{name}.bias", array(linear.bias).astype(np.float32))], name)


def write_tokens(
    g: GraphBuilder, layer: "TokenLayer", x: str, name: str, tokens: int, memory: str | None, hidden: str | None
) -> str:
    """One transformer layer over (T, E); memory and what is hidden as in `training.lgfdr.towers.TokenLayer`."""
    heads, width = layer.heads, layer.mixed.in_features
    each = width // heads
    normed = write_linear(g, layer.before_attention, x, f"{name}.before_attention")
    asked = write_linear(g, layer.query, normed, f"{name}.asked")
    rows = g.node(
        "Reshape", [asked, g.constant(f"{name}.rows", np.array([tokens, heads, each], np.int64))], f"{name}.asked_heads"
    )
    query = g.node("Transpose", [rows], f"{name}.query", perm=[1, 0, 2])
    pairs = write_linear(g, layer.key_value, memory or normed, f"{name}.pairs")
    shape = g.constant(f"{name}.heads", np.array([tokens, 2, heads, each], np.int64))
    turned = g.node("Transpose", [g.node("Reshape", [pairs, shape], f"{name}.split")], f"{name}.turned", perm=[1, 2, 0, 3])
    key, value = (
        g.node("Gather", [turned, g.constant(f"{name}.{what}_at", np.int64(i))], f"{name}.{what}", axis=0)
        for i, what in enumerate(("key", "value"))
    )
    across = g.node("Transpose", [key], f"{name}.key_turned", perm=[0, 2, 1])
    products = g.node("MatMul", [query, across], f"{name}.products")
    logits = g.node("Mul", [products, g.constant(f"{name}.scale", np.float32(each**-0.5))], f"{name}.scaled")
    logits = logits if hidden is None else g.node("Add", [logits, hidden], f"{name}.shown")
    weights = g.node("Softmax", [logits], f"{name}.weights", axis=-1)
    mixed = g.node("Transpose", [g.node("MatMul", [weights, value], f"{name}.taken")], f"{name}.taken_turned", perm=[1, 0, 2])
    flat = g.node("Reshape", [mixed, g.constant(f"{name}.flat", np.array([tokens, width], np.int64))], f"{name}.taken_flat")
    x = g.node("Add", [x, write_linear(g, layer.mixed, flat, f"{name}.mixed")], f"{name}.attended")
    normed = write_linear(g, layer.before_mlp, x, f"{name}.before_mlp")
    wide = g.node("Relu", [write_linear(g, layer.wide, normed, f"{name}.wide")], f"{name}.wide_relu")
    return g.node("Add", [x, write_linear(g, layer.narrow, wide, f"{name}.narrow")], name)


def write_gate(g: GraphBuilder, gate: "nn.Module | None", local: str, whole: str, cells: int) -> str:
    """Fuse two (1, C, g, g) reconstructions, cells = g * g, as `training.lgfdr.gates` does."""
    both = g.node("Add", [local, whole], "gate.sum")
    if gate is None:
        return g.node("Mul", [both, g.constant("gate.half", np.float32(0.5))], "fused")
    axes = g.constant("gate.cells", np.array([2, 3], np.int64))
    if isinstance(gate, SimamGate):
        return _simam(g, both, axes, cells)
    if isinstance(gate, EcaGate):
        pooled = g.node("ReduceMean", [both, axes], "gate.pooled", keepdims=1)
        # (1, C, 1, 1) -> (1, 1, C): the channels are what the kernel slides over.
        row = g.node("Reshape", [pooled, g.constant("gate.row", np.array([1, 1, -1], np.int64))], "gate.channels")
        weight = array(gate.across.weight)
        pads = [weight.shape[2] // 2] * 2
        mixed = g.node("Conv", [row, g.weight("gate.across", weight)], "gate.mixed", pads=pads)
        return _weighed(g, both, g.node("Sigmoid", [mixed], "gate.flat"), "fused")
    pooled = g.node("ReduceMean", [both, axes], "gate.pooled", keepdims=0)
    if isinstance(gate, SeGate):
        squeezed = g.node("Relu", [write_linear(g, gate.squeeze, pooled, "gate.squeeze")], "gate.squeezed")
        return _weighed(g, both, g.node("Sigmoid", [write_linear(g, gate.excite, squeezed, "gate.excite")], "gate.flat"), "fused")
    if not isinstance(gate, SelectiveHead):
        raise TypeError(f"expected a gate of training.lgfdr.gates, got {type(gate).__name__}")
    squeezed = g.node("Relu", [write_linear(g, gate.squeeze, pooled, "gate.squeeze")], "gate.squeezed")
    logits = write_linear(g, gate.branches, squeezed, "gate.branches")
    shape = g.constant("gate.two", np.array([1, 2, -1], np.int64))
    shares = g.node("Softmax", [g.node("Reshape", [logits, shape], "gate.logits")], "gate.shares", axis=1)
    taken = []
    for i, (name, branch) in enumerate((("local", local), ("global", whole))):
        share = g.node("Gather", [shares, g.constant(f"gate.{name}_at", np.int64(i))], f"gate.{name}_share", axis=1)
        taken.append(_weighed(g, branch, share, f"gate.{name}"))
    return g.node("Add", taken, "fused")


def _weighed(g: GraphBuilder, x: str, weights: str, name: str) -> str:
    """Multiply (1, C, g, g) by one number a channel."""
    shape = g.constant(f"{name}.channel_shape", np.array([1, -1, 1, 1], np.int64))
    return g.node("Mul", [x, g.node("Reshape", [weights, shape], f"{name}.channel_weights")], name)


def _simam(g: GraphBuilder, both: str, axes: str, cells: int) -> str:
    """sigmoid(square / (4 (variance + lambda))) * U; the variance divides by the cells less one."""
    mean = g.node("ReduceMean", [both, axes], "gate.mean", keepdims=1)
    apart = g.node("Sub", [both, mean], "gate.apart")
    square = g.node("Mul", [apart, apart], "gate.square")
    total = g.node("ReduceSum", [square, axes], "gate.total", keepdims=1)
    variance = g.node("Mul", [total, g.constant("gate.freedom", np.float32(1 / (cells - 1)))], "gate.variance")
    floor = g.node("Add", [variance, g.constant("gate.lambda", np.float32(SIMAM_LAMBDA))], "gate.variance_floor")
    four = g.node("Mul", [floor, g.constant("gate.four", np.float32(4))], "gate.denominator")
    return g.node("Mul", [g.node("Sigmoid", [g.node("Div", [square, four], "gate.energy")], "gate.weights"), both], "fused")
