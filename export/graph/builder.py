"""Writes ONNX nodes, and puts Q/DQ where a scheme says so.

Opset 20, IR 10: what TensorRT 10.3 reads. Every quantized tensor is symmetric signed INT8 with zero point 0; activations have
one scale, weights one per output channel, biases stay float (TensorRT refuses int32 biases and asymmetric INT8). Both inputs
of a quantized convolution carry Q/DQ, or neither does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edge import __version__
from export.fuse.layers import Array, Conv
from export.quantize.scheme import Form, IntegerConv, Scheme, quantize_twofold

OPSET = 20
IR_VERSION = 10


@dataclass(slots=True)
class GraphBuilder:
    """Collects nodes and weights.

    Attributes:
        scheme: None writes a float graph.
        half: an INT8 graph stores what stays in float in half precision.
        points: activation point -> tensor that carries it, in the order written: what range collection taps.
    """

    scheme: Scheme | None = None
    half: bool = True
    points: dict[str, str] = field(default_factory=dict)
    _nodes: list[NodeProto] = field(default_factory=list)
    _weights: dict[str, TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: object) -> str:
        """Add a weight under a name of its own."""
        if name in self._weights:
            raise ValueError(f"expected a new name, {name!r} is taken")
        self._weights[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def weight(self, name: str, value: Array) -> str:
        """Add a weight that stays in float: float32, or half precision widened on loading."""
        if self.scheme is None or not self.half:
            return self.constant(name, value.astype(np.float32))
        return self.node("Cast", [self.constant(f"{name}_fp16", value.astype(np.float16))], name, to=TensorProto.FLOAT)

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.nodes(operator, inputs, [output], **attributes)[0]

    def nodes(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node with several outputs, named after the first, and return the outputs' names."""
        self._nodes.append(helper.make_node(operator, list(inputs), list(outputs), name=outputs[0], **attributes))
        return outputs

    def shift(self, point: str) -> float:
        """What is taken off the tensor at a point, 0.0 where nothing is."""
        if self.scheme is None or point not in self.scheme.points:
            return 0.0
        return float(self.scheme.points[point].shift.max(initial=0.0))

    def mean(self, point: str, channels: int) -> Array:
        """(channels,) mean of the activations at a point before any shift, zeros where it was not measured."""
        if self.scheme is None or point not in self.scheme.points:
            return np.zeros(channels)
        return self.scheme.points[point].mean

    def activation(self, tensor: str, point: str) -> str:
        """Mark a tensor that may be quantized; return the tensor to read from."""
        self.points[point] = tensor
        if self.scheme is None or point not in self.scheme.points:
            return tensor
        scale = self.constant(f"{point}.scale", np.float32(self.scheme.points[point].step))
        zero = self.constant(f"{point}.zero", np.int8(0))
        quantized = self.node("QuantizeLinear", [tensor, scale, zero], f"{point}.q")
        return self.node("DequantizeLinear", [quantized, scale, zero], f"{point}.dq")

    def conv(self, tensor: str, conv: Conv, name: str, reads: str, writes: str | None = None) -> str:
        """Add a convolution with its ReLU; its weight is quantized when its input is, in the form the scheme says.

        Args:
            tensor: input, already behind its Q/DQ.
            conv: weights.
            name: of the nodes.
            reads: the activation point of the input.
            writes: the activation point of the output, when one follows at once: if it is shifted, the shift goes into the bias
                and the quantizer's lower end is the ReLU.
        """
        point = None if self.scheme is None else self.scheme.points.get(reads)
        form = Form.FLOAT if self.scheme is None or point is None else self.scheme.form(name)
        conv = replace(conv, bias=conv.bias - (self.shift(writes) if writes is not None else 0.0))
        bare = not conv.relu or (writes is not None and self.shift(writes) > 0.0)
        out = name if bare else f"{name}.linear"
        if self.scheme is None or point is None or form is Form.FLOAT:
            if point is not None:  # unpadded, so the shift of its input is a constant of its output
                conv = replace(conv, bias=conv.bias + conv.weight.sum(axis=(2, 3)) @ point.shift)
            self._conv([tensor, self.weight(f"{name}.weight", conv.weight)], conv, conv.bias, name, out)
        elif form is Form.TWOFOLD:
            coarse, fine = quantize_twofold(conv, point, self.scheme.weight_levels)
            parts = [
                self._conv([tensor, self._integers(f"{name}.coarse", coarse)], conv, None, f"{name}.coarse", f"{name}.coarse"),
                self._conv([tensor, self._integers(f"{name}.fine", fine)], conv, fine.bias, f"{name}.fine", f"{name}.fine"),
            ]
            self.node("Add", parts, out)
        else:
            integers = self.scheme.integers(name, conv, point)
            self._conv([tensor, self._integers(name, integers)], conv, integers.bias, name, out)
        return out if bare else self.node("Relu", [out], name)

    def _integers(self, name: str, integers: IntegerConv) -> str:
        """Add an integer weight behind its DequantizeLinear."""
        inputs = [
            self.constant(f"{name}.weight", integers.weight),
            self.constant(f"{name}.weight_scale", integers.scale),
            self.constant(f"{name}.weight_zero", np.zeros(integers.scale.shape, np.int8)),
        ]
        return self.node("DequantizeLinear", inputs, f"{name}.weight_dq", axis=0)

    def _conv(self, inputs: list[str], conv: Conv, bias: Array | None, name: str, output: str) -> str:
        """Add the node."""
        stored = [] if bias is None else [self.constant(f"{name}.bias", bias.astype(np.float32))]
        strides = [conv.stride, conv.stride]
        return self.node("Conv", [*inputs, *stored], output, pads=list(conv.padding), strides=strides)

    def finish(self, name: str, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto], *, taps: bool = False) -> ModelProto:
        """Make the model; `taps` adds every activation point as a further output."""
        tapped = dict.fromkeys(self.points.values()) if taps else {}
        extra = [helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in tapped]
        graph = helper.make_graph(self._nodes, name, inputs, [*outputs, *extra], list(self._weights.values()))
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="onbelt",
            producer_version=__version__,
        )
