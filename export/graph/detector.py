"""The whole detector as one graph, after the contract of `edge.engine.base`.

    frame uint8 NHWC -> pixel - 128 -> teacher trunk -> h_T ┐
                                    -> student trunk -> h_S ┼ [h_T; h_S] -> T - S -> squares -> map_st -> st
                                    -> auto-encoder  -> h_A ┘ [h_A; h_S] -> A - S -> squares -> map_ae -> ae
                                       h_T window means -> head -> global          st, ae, global -> raw

Activation points, where Q/DQ may stand: the input, behind every ReLU (before pooling too, so that the largest map is never
written in float), behind every pooling, and the stacked hidden maps. None behind the last convolution of a branch.
"""

import numpy as np
from onnx import ModelProto, TensorProto

from edge.engine.base import INPUT_NAME
from export.fuse.crop import seen_side
from export.fuse.difference import HIDDEN_PADDING
from export.fuse.layers import Conv
from export.fuse.maps import MapScale
from export.fuse.network import FusedAutoencoder, FusedNetwork
from export.fuse.normalization import PIXEL_OFFSET
from export.graph.builder import GraphBuilder
from export.graph.contract import finish_detector, write_scores

INPUT_POINT, AE_HIDDEN = "input", "ae.hidden"
ST_DIFFERENCE, AE_DIFFERENCE, POOLED = "st.difference", "ae.difference", "head.pooled"
"""Tensors behind the last biases: (1, k, n, n), (1, k, n, n) with k the directions kept, and (1, 384)."""


def write_graph(network: FusedNetwork, g: GraphBuilder | None = None, *, taps: bool = False) -> ModelProto:
    """Write the graph.

    Args:
        network: fused weights.
        g: a fresh builder, with or without a quantization; None writes a float graph.
        taps: add every activation point as a further output.
    """
    g = g or GraphBuilder()
    size, cells = network.size, network.cells
    g.node("Cast", [INPUT_NAME], "pixels.float", to=TensorProto.FLOAT)
    g.node("Transpose", ["pixels.float"], "pixels.nchw", perm=[0, 3, 1, 2])
    centred = g.node("Sub", ["pixels.nchw", g.constant("pixels.offset", np.float32(PIXEL_OFFSET))], "pixels.centred")
    x = g.activation(_cropped(g, centred, seen_side(network.teacher, network.st, cells)), INPUT_POINT)

    h_t = _trunk(g, x, network.teacher, "teacher")
    h_s = _trunk(g, x, network.student, "student")
    h_a = _autoencoder(g, centred, network.autoencoder, cells, None if network.student_ae is not None else AE_HIDDEN)

    map_st = _map(g, _stacked(g, h_t, h_s, network.st, "st"), network.map_st, "st")
    if network.student_ae is None:
        apart = _stacked(g, g.activation(_padded(g, h_a), AE_HIDDEN), h_s, network.ae, "ae")
    else:
        other = g.conv(h_s, network.student_ae, "student.ae", "student.hidden")
        mine = g.conv(g.activation(h_a, AE_HIDDEN), network.ae, "autoencoder.output", AE_HIDDEN)
        apart = g.node("Sub", [mine, other], AE_DIFFERENCE)
    map_ae = _map(g, apart, network.map_ae, "ae")
    distance = _head(g, h_t if network.head.branch == "teacher" else h_s, network, cells)
    write_scores(g, map_st, map_ae, distance, network.fusion)
    return finish_detector(g, size, cells, taps=taps)


def _cropped(g: GraphBuilder, x: str, side: int) -> str:
    """The upper left corner that the trunks see: (1, 3, side, side)."""
    start, end, axes = (np.array(v, np.int64) for v in ([0, 0], [side, side], [2, 3]))
    bounds = [g.constant(f"pixels.crop_{name}", v) for name, v in (("from", start), ("to", end), ("axes", axes))]
    return g.node("Slice", [x, *bounds], "pixels.cropped")


def _trunk(g: GraphBuilder, x: str, convs: tuple[Conv, ...], name: str) -> str:
    """Teacher's or student's layers up to the hidden map, behind its Q/DQ."""
    reads = INPUT_POINT
    for i, conv in enumerate(convs):
        writes = f"{name}.{i}.relu" if conv.pool else _hidden_point(name, i, len(convs))
        x = g.activation(g.conv(x, conv, f"{name}.{i}", reads, writes), writes)
        if conv.pool:
            x = g.node("AveragePool", [x], f"{name}.{i}.pool", kernel_shape=[2, 2], strides=[2, 2])
            writes = _hidden_point(name, i, len(convs))
            x = g.activation(x, writes)
        reads = writes
    return x


def quantized_convs(network: FusedNetwork) -> dict[str, tuple[str, Conv]]:
    """The convolutions that may be quantized: by name, the activation point each reads and its weights."""
    convs: dict[str, tuple[str, Conv]] = {}
    for name, trunk in (("teacher", network.teacher), ("student", network.student)):
        reads = INPUT_POINT
        for i, conv in enumerate(trunk):
            convs[f"{name}.{i}"] = (reads, conv)
            reads = _hidden_point(name, i, len(trunk))
    convs[ST_DIFFERENCE] = ("st.stacked", network.st)
    if network.student_ae is None:
        convs[AE_DIFFERENCE] = ("ae.stacked", network.ae)
    else:
        convs["student.ae"] = ("student.hidden", network.student_ae)
    return convs


def _hidden_point(name: str, i: int, layers: int) -> str:
    return f"{name}.hidden" if i == layers - 1 else f"{name}.{i}.out"


def _stacked(g: GraphBuilder, first: str, second: str, conv: Conv, name: str) -> str:
    """Both hidden maps as one input, and the convolution that gives their difference."""
    both = g.node("Concat", [first, second], f"{name}.hidden", axis=1)
    point = f"{name}.stacked"
    g.points[point] = both  # both halves are behind their own Q/DQ already, of one step
    return g.conv(both, conv, f"{name}.difference", point)


def _padded(g: GraphBuilder, h_a: str) -> str:
    """The auto-encoder's hidden map with a rim of zeros, in front of its Q/DQ: a Pad behind it would keep TensorRT from INT8.

    Where the map is shifted, zero is -shift.
    """
    (top, left, bottom, right) = HIDDEN_PADDING
    pads = g.constant("ae.hidden_pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    return g.node("Pad", [h_a, pads, g.constant("ae.hidden_zero", np.float32(-g.shift(AE_HIDDEN)))], "ae.hidden_padded")


def _autoencoder(g: GraphBuilder, centred: str, network: FusedAutoencoder, cells: int, writes: str | None) -> str:
    """Up to the last hidden map (1, 64, n, n), before its Q/DQ.

    Args:
        g: the builder.
        centred: pixel - 128.
        network: weights.
        cells: n.
        writes: the activation point of the result, when Q/DQ follow with nothing but a Pad between: see `GraphBuilder.conv`.
    """
    scale = g.constant("autoencoder.pixel_scale", network.pixel_scale.astype(np.float32).reshape(1, 3, 1, 1))
    offset = g.constant("autoencoder.pixel_offset", network.pixel_offset.astype(np.float32).reshape(1, 3, 1, 1))
    x = g.node("Add", [g.node("Mul", [centred, scale], "autoencoder.scaled"), offset], "autoencoder.normalized")
    for i, conv in enumerate(network.encoder):
        point = f"autoencoder.encoder.{i}.in"
        x = g.conv(g.activation(x, point), conv, f"autoencoder.encoder.{i}", point)
    side = 1
    for i, (wanted, conv) in enumerate((*network.decoder, (cells, network.last_hidden))):
        x = _resize(g, x, wanted, f"autoencoder.resize.{i}") if wanted != side else x
        point = f"autoencoder.decoder.{i}.in"
        last = conv is network.last_hidden
        x = g.conv(g.activation(x, point), conv, f"autoencoder.decoder.{i}", point, writes if last else None)
        side = wanted + sum(conv.padding[::2]) - conv.weight.shape[2] + 1
    return x


def _resize(g: GraphBuilder, x: str, side: int, name: str) -> str:
    """Bilinear, as torch's interpolate with align_corners=False."""
    sizes = g.constant(f"{name}.sizes", np.array([1, 64, side, side], np.int64))
    return g.node("Resize", [x, "", "", sizes], name, mode="linear", coordinate_transformation_mode="half_pixel")


def _map(g: GraphBuilder, apart: str, scale: MapScale, name: str) -> str:
    """Sum of squares over channels, normalized cell by cell: (1, k, n, n) -> (n, n)."""
    axes = g.constant(f"map_{name}.axes", np.array([0, 1], np.int64))
    squares = g.node("Mul", [apart, apart], f"map_{name}.squares")
    total = g.node("ReduceSum", [squares, axes], f"map_{name}.sum", keepdims=0)
    scaled = g.node("Mul", [total, g.constant(f"map_{name}.scale", scale.scale.astype(np.float32))], f"map_{name}.scaled")
    return g.node("Add", [scaled, g.constant(f"map_{name}.offset", scale.offset.astype(np.float32))], f"map_{name}")


def _head(g: GraphBuilder, hidden: str, network: FusedNetwork, cells: int) -> str:
    """(1,) z-scored Mahalanobis distance.

    Window means are two products with a matrix of ones: OpenVINO 2026.4 gives the average pooling of an INT8 map in INT8, rounded
    (off by 0.5 where the head needs four digits). They are taken relative to what the map is on average, so that neither the
    shift nor the rounding of the matrix touches the small differences that count.
    """
    head = network.head
    point = f"{head.branch}.hidden"
    centre = g.mean(point, head.conv.weight.shape[1])
    channels, kernel = head.conv.weight.shape[1:3]
    means = np.array(
        [[1.0 / cells if 0 <= column - row < cells else 0.0 for column in range(cells + kernel - 1)] for row in range(kernel)]
    )
    shifted = g.node(
        "Sub", [hidden, g.constant("head.usual", (centre - g.shift(point)).astype(np.float32)[:, None, None])], "head.relative"
    )
    rows = g.node("MatMul", [g.constant("head.rows", means.astype(np.float32)), shifted], "head.row_means")
    windows = g.node("MatMul", [rows, g.constant("head.columns", means.T.astype(np.float32))], "head.windows")
    flat = g.node("Reshape", [windows, g.constant("head.flat_shape", np.array([channels * kernel**2, 1], np.int64))], "head.flat")
    matrix = g.weight("head.matrix", head.conv.weight.reshape(len(head.conv.weight), -1))
    product = g.node("MatMul", [matrix, flat], "head.product")
    row = g.node("Reshape", [product, g.constant("head.row_shape", np.array([1, -1], np.int64))], "head.row")
    bias = head.conv.bias + head.conv.weight.sum(axis=(2, 3)) @ centre
    v = g.node("Add", [row, g.constant("head.bias", bias.astype(np.float32)[None, :])], POOLED)
    weighted = g.node("MatMul", [v, g.constant("head.precision", head.precision.astype(np.float32))], "head.weighted")
    axes = g.constant("head.axes", np.array([1], np.int64))
    square = g.node("ReduceSum", [g.node("Mul", [weighted, v], "head.products"), axes], "head.square", keepdims=0)
    distance = g.node("Sqrt", [g.node("Relu", [square], "head.square_positive")], "head.distance")
    shifted = g.node("Sub", [distance, g.constant("head.center", np.array([head.center], np.float32))], "head.shifted")
    return g.node("Div", [shifted, g.constant("head.scale", np.array([head.scale], np.float32))], "head.z")
