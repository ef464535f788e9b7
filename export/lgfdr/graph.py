"""LGFDR as one ONNX graph, after the contract of `edge.engine.base`.

    frame uint8 NHWC -> normalized -> enlarged -> pyramid -> levels read onto one grid -> F ┬ local tower  -> L ┐
                                                                                           ├ global tower -> G ┼ gate -> R
                                                                                           └ mean -> head -> global
    F - R -> squares -> mean -> root, times softplus(discriminator) -> normalized -> rim folded -> map_st -> st
    F - G -> squares -> mean -> smoothed -> normalized -> rim folded -> map_ae -> ae

Convolutions whose every output sees all input channels may be quantized; each has its activation point right before it. Grouped
convolutions, the three-channel first one, everything of the attention and the gate stay in float.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from onnx import ModelProto, TensorProto

from edge.engine.base import INPUT_NAME
from export.fuse.layers import Array, Conv, array, read_conv
from export.fuse.maps import fold_map
from export.graph.builder import GraphBuilder
from export.graph.contract import finish_detector, write_scores
from export.lgfdr.attention import write_gate, write_linear, write_tokens
from training.networks.normalize import IMAGENET_MEAN, IMAGENET_STD
from training.networks.pdn import BORDER_CELLS
from training.teacher.levels import BACKBONE_SCALE

if TYPE_CHECKING:
    from torch import nn

    from training.lgfdr.detector import LgfdrDetector
    from training.lgfdr.plans import Layer
    from training.lgfdr.towers import TokenLayer

FEATURES_POINT = "towers.in"


@dataclass(slots=True)
class LgfdrWriter:
    """Writes one graph.

    Attributes:
        detector: trained. g: a fresh builder, with or without a quantization.
        convs: filled while writing: the convolutions that may be quantized, name -> (activation point it reads, weights).
        factors: (C,) a point: what its channels are multiplied by before rounding, and the weights behind it divided by.
        limits: filled while writing: ReLU6's.
    """

    detector: "LgfdrDetector"
    g: GraphBuilder = field(default_factory=GraphBuilder)
    convs: dict[str, tuple[str, Conv]] = field(default_factory=dict)
    factors: Mapping[str, Array] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    def write(self, *, taps: bool = False) -> ModelProto:
        """Write the graph; `taps` adds every activation point as a further output."""
        g, detector = self.g, self.detector
        features = self._features()
        rebuilt: dict[str, str] = {}
        if detector.local is not None or detector.whole is not None:
            seen = self._activation(features, FEATURES_POINT)
            if detector.local is not None:
                rebuilt["local"] = self._local(seen)
            if detector.whole is not None:
                rebuilt["global"] = self._global(seen)
        if len(rebuilt) == 2:
            rebuilt["fused"] = write_gate(g, detector.gate, rebuilt["local"], rebuilt["global"], detector.pyramid.grid**2)
        error_st = (self._structural if detector.discriminator is None else self._discriminated)(features, rebuilt)
        map_st = self._map(error_st, "st", array(detector.cell_st), array(detector.q_st))
        error_ae = self._error(features, rebuilt["global"], "ae") if "global" in rebuilt else None
        map_ae = self._map(error_ae, "ae", array(detector.cell_ae), array(detector.q_ae))
        knobs = detector.knobs
        loudest = (knobs.loudest_st, knobs.loudest_ae)
        write_scores(g, map_st, map_ae, self._head(features), array(detector.fusion), loudest)
        return finish_detector(g, detector.size, detector.side, taps=taps)

    def _conv(self, x: str, conv: Conv, name: str, point: str) -> str:
        """A convolution that may be quantized; x is behind its point already."""
        if point in self.factors:
            conv = replace(conv, weight=conv.weight / self.factors[point][None, :, None, None])
        self.convs[name] = (point, conv)
        return self.g.conv(x, conv, name, point)

    def _read(self, x: str, conv: Conv, name: str) -> str:
        """The same with an activation point of its own before it."""
        return self._conv(self._activation(x, f"{name}.in"), conv, name, f"{name}.in")

    def _activation(self, x: str, point: str) -> str:
        """A point, its channels brought to one reach."""
        g = self.g
        if point in self.factors:
            factors = g.constant(f"{point}.factors", self.factors[point].astype(np.float32)[:, None, None])
            x = g.node("Mul", [x, factors], f"{point}.even")
        return g.activation(x, point)

    def _features(self) -> str:
        """(1, C, g, g) normalized features."""
        g, pyramid = self.g, self.detector.pyramid
        mean, std = (np.asarray(v, np.float64).reshape(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        g.node("Cast", [INPUT_NAME], "pixels.float", to=TensorProto.FLOAT)
        g.node("Transpose", ["pixels.float"], "pixels.nchw", perm=[0, 3, 1, 2])
        x = g.node("Mul", ["pixels.nchw", g.constant("pixels.scale", (1 / (255 * std)).astype(np.float32))], "pixels.scaled")
        x = g.node("Sub", [x, g.constant("pixels.offset", (mean / std).astype(np.float32))], "pixels.normalized")
        side = BACKBONE_SCALE * pyramid.size
        sizes = g.constant("pixels.sizes", np.array([1, 3, side, side], np.int64))
        x = g.node(
            "Resize", [x, "", "", sizes], "pixels.enlarged", mode="linear", coordinate_transformation_mode="half_pixel"
        )  # fmt: skip
        kept = x
        levels: list[str] = []
        for i, (layer, module) in enumerate(zip(pyramid.plan.layers, pyramid.convs, strict=True)):
            name, conv = f"pyramid.{i}", cast("nn.Conv2d", module)
            kept = x if layer.remember else kept
            before, after = layer.pads
            whole = Conv(
                array(conv.weight), array(conv.bias), stride=layer.stride, padding=(before, before, after, after)  # type: ignore[arg-type]
            )  # fmt: skip
            seen = kept if layer.shortcut else x
            quantizable = layer.groups == 1 and layer.inputs != 3
            made = self._read(seen, whole, name) if quantizable else self._float_conv(seen, whole, name, layer.groups)
            if layer.shortcut:
                kept = made
                continue
            x = g.node("Add", [made, kept], f"{name}.sum") if layer.add else made
            x = self._followed(x, layer, name)
            if layer.level:
                levels.append(self._level(x, len(levels)))
        stack = g.node("Concat", levels, "features.stack", axis=1)
        mean_c, scale = array(self.detector.feature_mean), array(self.detector.feature_scale)
        centred = g.node(
            "Sub", [stack, g.constant("features.mean", mean_c.astype(np.float32)[:, None, None])], "features.centred"
        )
        return g.node("Mul", [centred, g.constant("features.scale", scale.astype(np.float32)[:, None, None])], "features.scaled")

    def _followed(self, x: str, layer: "Layer", name: str) -> str:
        """Activation and maximum behind a layer of the pyramid."""
        g = self.g
        if layer.activation == "relu6":
            if not self.limits:
                self.limits += [g.constant("pyramid.least", np.float32(0)), g.constant("pyramid.most", np.float32(6))]
            x = g.node("Clip", [x, *self.limits], f"{name}.relu6")
        elif layer.activation == "relu":
            x = g.node("Relu", [x], f"{name}.relu")
        if layer.pool:
            x = g.node("MaxPool", [x], f"{name}.most", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        return x

    def _float_conv(self, x: str, conv: Conv, name: str, groups: int) -> str:
        g = self.g
        inputs = [x, g.weight(f"{name}.weight", conv.weight), g.constant(f"{name}.bias", conv.bias.astype(np.float32))]
        return g.node("Conv", inputs, name, pads=list(conv.padding), strides=[conv.stride] * 2, group=groups)

    def _level(self, x: str, level: int) -> str:
        """Read a level onto the grid: a product with a constant matrix from either side."""
        g = self.g
        matrix = self.detector.pyramid.reading(level).cpu().numpy()
        rows = g.node("MatMul", [g.constant(f"reading.{level}.rows", matrix), x], f"reading.{level}.by_rows")
        return g.node("MatMul", [rows, g.constant(f"reading.{level}.columns", matrix.T)], f"reading.{level}")

    def _local(self, seen: str) -> str:
        tower = self.detector.local
        assert tower is not None
        x = self._conv(seen, replace(read_conv(tower.squeeze), relu=True), "local.squeeze", FEATURES_POINT)
        for i, conv in enumerate(tower.hidden):
            x = self._read(x, replace(read_conv(conv), relu=True), f"local.{i}")
        return self._read(x, read_conv(tower.output), "local.output")

    def _global(self, seen: str) -> str:
        g, tower = self.g, self.detector.whole
        assert tower is not None
        embedded = self._conv(seen, read_conv(tower.embed), "global.embed", FEATURES_POINT)
        width, tokens = tower.embed.out_channels, tower.position.shape[0]
        side = self.detector.pyramid.grid // tower.cells
        flat = g.node("Reshape", [embedded, g.constant("global.flat", np.array([width, tokens], np.int64))], "global.columns")
        x = g.node("Transpose", [flat], "global.rows", perm=[1, 0])
        x = g.node("Add", [x, g.weight("global.position", array(tower.position))], "global.placed")
        memory = hidden = None
        if tower.memory_norm is not None:
            memory, x = write_linear(g, tower.memory_norm, x, "global.memory"), "global.position"
            hidden = g.constant("global.hidden_pairs", tower.hidden_pairs.cpu().numpy())
        for i, layer in enumerate(tower.layers):
            x = write_tokens(g, cast("TokenLayer", layer), x, f"global.{i}", tokens, memory, hidden)
        x = write_linear(g, tower.last_norm, x, "global.norm")
        x = g.node("Transpose", [x], "global.columns_again", perm=[1, 0])
        shape = g.constant("global.square", np.array([1, width, side, side], np.int64))
        x = self._read(g.node("Reshape", [x, shape], "global.laid"), read_conv(tower.unfold), "global.unfold")
        x = g.node("DepthToSpace", [x], "global.cells", blocksize=tower.cells, mode="CRD")
        x = self._read(g.node("Relu", [x], "global.cells_relu"), replace(read_conv(tower.hidden), relu=True), "global.hidden")
        return self._read(x, read_conv(tower.output), "global.output")

    def _structural(self, features: str, rebuilt: dict[str, str]) -> str | None:
        """(1, g, g) error of the fused or the local reconstruction; None without either."""
        chosen = "fused" if self.detector.knobs.maps == "fused" and "fused" in rebuilt else "local"
        return self._error(features, rebuilt[chosen], "st") if chosen in rebuilt else None

    def _discriminated(self, features: str, rebuilt: dict[str, str]) -> str:
        """(1, g, g) error weighed by how much it looks like damage; the one number a cell is not worth quantizing."""
        g, discriminator = self.g, self.detector.discriminator
        assert discriminator is not None
        fused = rebuilt["fused"] if "fused" in rebuilt else next(iter(rebuilt.values()))
        residual = g.node("Sub", [features, fused], "discriminator.residual")
        x = g.node("Concat", [features, residual], "discriminator.seen", axis=1)
        x = self._read(x, replace(read_conv(discriminator.squeeze), relu=True), "discriminator.squeeze")
        x = self._read(x, replace(read_conv(discriminator.hidden), relu=True), "discriminator.hidden")
        logits = self._float_conv(x, read_conv(discriminator.output), "discriminator.output", 1)
        if self.detector.knobs.weighed_error == "root":
            error = g.node("Sqrt", [self._mean_square(features, fused, "st")], "st.root")
        else:
            error = self._error(features, fused, "st")
        return g.node("Mul", [g.node("Softplus", [logits], "discriminator.damage"), error], "st.weighed")

    def _mean_square(self, features: str, rebuilt: str, name: str) -> str:
        """(1, g, g) channel mean of the squared difference."""
        g = self.g
        apart = g.node("Sub", [features, rebuilt], f"{name}.difference")
        square = g.node("Mul", [apart, apart], f"map_{name}.squares")
        return g.node("ReduceMean", [square, g.constant(f"map_{name}.axes", np.array([1], np.int64))], f"map_{name}.mean")

    def _error(self, features: str, rebuilt: str, name: str) -> str:
        """The same, smoothed."""
        g, side = self.g, self.detector.knobs.smooth_cells
        x = self._mean_square(features, rebuilt, name)
        if side == 1:
            return x
        return g.node(
            "AveragePool", [x], f"map_{name}.smooth",
            kernel_shape=[side, side], strides=[1, 1], pads=[side // 2] * 4, count_include_pad=0,
        )  # fmt: skip

    def _map(self, error: str | None, name: str, cell: Array, quantiles: Array) -> str:
        """(n, n) under the output's name."""
        g, detector = self.g, self.detector
        if error is None:
            zeros = g.constant(f"map_{name}.off", np.zeros((detector.side, detector.side), np.float32))
            return g.node("Identity", [zeros], f"map_{name}")
        grid = detector.pyramid.grid
        x = g.node("Reshape", [error, g.constant(f"map_{name}.shape", np.array([grid, grid], np.int64))], f"map_{name}.cells")
        scale = fold_map(cell, quantiles, 1)
        x = g.node("Mul", [x, g.constant(f"map_{name}.scale", scale.scale.astype(np.float32))], f"map_{name}.by_scale")
        x = g.node("Add", [x, g.constant(f"map_{name}.offset", scale.offset.astype(np.float32))], f"map_{name}.usual")
        for axis, out in ((0, f"map_{name}.folded"), (1, f"map_{name}")):
            x = self._folded(x, axis, out)
        return x

    def _folded(self, x: str, axis: int, out: str) -> str:
        """`training.lgfdr.detector.fold_rim` along one axis."""
        g, grid, parts = self.g, self.detector.pyramid.grid, []
        axes = g.constant(f"{out}.axis", np.array([axis], np.int64))
        cuts = (("first", 0, BORDER_CELLS + 1), ("middle", BORDER_CELLS + 1, grid - BORDER_CELLS - 1),
                ("last", grid - BORDER_CELLS - 1, grid))  # fmt: skip
        for name, start, end in cuts:
            bounds = [g.constant(f"{out}.{name}_{what}", np.array([v], np.int64)) for what, v in (("from", start), ("to", end))]
            part = g.node("Slice", [x, *bounds, axes], f"{out}.{name}")
            parts.append(part if name == "middle" else g.node("ReduceMax", [part, axes], f"{out}.{name}_most"))
        return g.node("Concat", parts, out, axis=axis)

    def _head(self, features: str) -> str:
        """(1,) z-scored Mahalanobis distance of the pooled features."""
        g, detector = self.g, self.detector
        center, scale = array(detector.head_z)
        axes = g.constant("head.cells", np.array([2, 3], np.int64))
        pooled = g.node("ReduceMean", [features, axes], "head.pooled", keepdims=0)
        v = g.node("Sub", [pooled, g.constant("head.mean", array(detector.head_mean).astype(np.float32))], "head.apart")
        precision = array(detector.head_precision)
        weighted = g.node("MatMul", [v, g.constant("head.precision", precision.astype(np.float32))], "head.weighted")
        one = g.constant("head.axes", np.array([1], np.int64))
        square = g.node("ReduceSum", [g.node("Mul", [weighted, v], "head.products"), one], "head.square", keepdims=0)
        distance = g.node("Sqrt", [g.node("Relu", [square], "head.square_positive")], "head.distance")
        shifted = g.node("Sub", [distance, g.constant("head.center", np.array([center], np.float32))], "head.shifted")
        return g.node("Div", [shifted, g.constant("head.scale", np.array([scale], np.float32))], "head.z")
