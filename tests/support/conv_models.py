"""Small convolutional graphs that honour the engine contract, in float and in INT8, for tests of arithmetic."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS = (32, 64, 64, 96)
KERNELS = (4, 4, 3, 4)


class _Graph:
    """Collects nodes and weights of one graph with the contract's inputs and outputs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, value: object) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def qdq(self, x: str, scale: float) -> str:
        """Quantize and dequantize an activation, symmetric int8."""
        pair = self.constant(np.float32(scale)), self.constant(np.int8(0))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *pair), *pair)

    def int8_weight(self, values: np.ndarray, scale: np.ndarray) -> str:
        """Weights stored as int8, one scale for each output channel."""
        zero = self.constant(np.zeros(len(scale), np.int8))
        return self.node("DequantizeLinear", self.constant(values.astype(np.int8)), self.constant(scale), zero, axis=0)

    def finish(self, map_st: str, map_ae: str) -> bytes:
        """Cut both (1, 1, n, n) tensors to (n, n), take the maxima as scores, and serialize."""
        cells = self.size // 4 - 8
        shape, one = self.constant(np.array([cells, cells], np.int64)), self.constant(np.array([1], np.int64))
        peaks = []
        for source, name in ((map_st, "map_st"), (map_ae, "map_ae")):
            self.node("Reshape", source, shape, output=name)
            peaks.append(self.node("Reshape", self.node("ReduceMax", name, keepdims=0), one))
        mean = self.node("Reshape", self.node("ReduceMean", "map_st", keepdims=0), one)
        self.node("Concat", self.node("Max", *peaks), *peaks, mean, output="scores", axis=0)
        graph = helper.make_graph(
            self.nodes,
            "convolutions",
            [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, self.size, self.size, 3])],
            [
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, [4]),
                helper.make_tensor_value_info("map_st", TensorProto.FLOAT, [cells, cells]),
                helper.make_tensor_value_info("map_ae", TensorProto.FLOAT, [cells, cells]),
            ],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return bytes(model.SerializeToString())


def pdn_model(
    size: int = 64,
    *,
    int8: bool = False,
    weight_peak: int = 63,
    seed: int = 0,
    channels: tuple[int, int, int, int] = CHANNELS,
) -> bytes:
    """A patch description network of few channels with random weights: four convolutions, two poolings, two maps.

    Args:
        size: side of the input in pixels.
        int8: quantize weights (per output channel) and activations (per tensor), symmetric.
        weight_peak: integer the largest weight of a channel becomes; 63 is 7 bits, 127 is 8.
        seed: of the weights.
        channels: of the four convolutions; (128, 256, 256, 384) is a PDN-S of full width.
    """
    rng = np.random.default_rng(seed)
    graph = _Graph(size)
    x = graph.node("Cast", "frame", to=TensorProto.FLOAT)
    x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.node("Div", graph.node("Sub", x, graph.constant(np.float32(128))), graph.constant(np.float32(64)))
    inputs = 3
    for layer, (outputs, kernel) in enumerate(zip(channels, KERNELS, strict=True)):
        gain = np.sqrt(2 / (inputs * kernel * kernel))
        weight = rng.normal(0, gain, (outputs, inputs, kernel, kernel)).astype(np.float32)
        bias = graph.constant(rng.normal(0, 0.1, outputs).astype(np.float32))
        if int8:
            scale = (np.abs(weight).max(axis=(1, 2, 3)) / weight_peak).astype(np.float32)
            x = graph.qdq(x, (2.0 if layer == 0 else 8.0) / 127)
            kernels = graph.int8_weight(np.round(weight / scale[:, None, None, None]), scale)
        else:
            kernels = graph.constant(weight)
        x = graph.node("Conv", x, kernels, bias)
        if layer < 3:
            x = graph.node("Relu", x)
        if layer < 2:
            x = graph.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        inputs = outputs
    square = graph.node("Mul", x, x)
    halves = [graph.constant(np.arange(begin, begin + channels[-1] // 2)) for begin in (0, channels[-1] // 2)]
    axis = graph.constant(np.array([1], np.int64))
    maps = [graph.node("ReduceMean", graph.node("Gather", square, half, axis=1), axis, keepdims=1) for half in halves]
    return graph.finish(*maps)


def saturating_model(weight: int, size: int = 48) -> bytes:
    """One INT8 convolution (3x3, 64 channels, every weight the same) over 64 copies of the red channel minus 128.

    A white frame makes every product as large as it gets: the maps are 64 * 9 * 127 * weight. The result is quantized again,
    with that value as its step 100, so that engines fuse the whole into one integer operation.
    """
    graph = _Graph(size)
    x = graph.node("Transpose", graph.node("Cast", "frame", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = graph.node(
        "Gather", graph.node("Sub", x, graph.constant(np.float32(128))), graph.constant(np.zeros(64, np.int64)), axis=1
    )
    kernels = graph.int8_weight(np.full((64, 64, 3, 3), weight), np.ones(64, np.float32))
    x = graph.node("Conv", graph.qdq(x, 1.0), kernels, pads=[1, 1, 1, 1])
    x = graph.qdq(x, saturating_value(weight) / 100)
    cells, begin = size // 4 - 8, size // 2
    bounds = [graph.constant(np.array(v, np.int64)) for v in ([0, begin, begin], [1, begin + cells, begin + cells], [1, 2, 3])]
    one = graph.node("Slice", x, *bounds)
    return graph.finish(one, one)


def saturating_value(weight: int) -> float:
    """What every cell of `saturating_model`'s maps is on a white frame."""
    return 64.0 * 9 * 127 * weight
