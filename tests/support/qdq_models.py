"""Quantized graphs that are almost right: each differs in one thing from a model TensorRT computes as it was meant."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.conv_models import pdn_model


def _edited(edit: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(pdn_model(int8=True))
    edit(model)
    return bytes(model.SerializeToString())


def _replace(model: onnx.ModelProto, name: str, value: Any) -> None:
    tensor = next(one for one in model.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def _nodes(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def asymmetric() -> bytes:
    """The first activation has zero point 3."""
    return _edited(lambda model: _replace(model, _nodes(model, "QuantizeLinear")[0].input[2], np.int8(3)))


def asymmetric_weight() -> bytes:
    """One channel of the second weight has zero point -1."""

    def edit(model: onnx.ModelProto) -> None:
        zero = [node for node in _nodes(model, "DequantizeLinear") if len(node.attribute)][1].input[2]
        shape = next(one for one in model.graph.initializer if one.name == zero).dims
        value = np.zeros(tuple(shape), np.int8)
        value[5] = -1
        _replace(model, zero, value)

    return _edited(edit)


def unsigned() -> bytes:
    """Activations are uint8 with zero point 0."""

    def edit(model: onnx.ModelProto) -> None:
        for node in _nodes(model, "QuantizeLinear"):
            _replace(model, node.input[2], np.uint8(0))

    return _edited(edit)


def unsigned_by_default() -> bytes:
    """Activations have no zero point: uint8 then, by ONNX."""

    def edit(model: onnx.ModelProto) -> None:
        quantized = {output for node in _nodes(model, "QuantizeLinear") for output in node.output}
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and node.input[0] in quantized):
                del node.input[2]

    return _edited(edit)


def integer_bias() -> bytes:
    """The first bias is int32 behind a DequantizeLinear, as ONNX Runtime's own quantizer writes it."""

    def edit(model: onnx.ModelProto) -> None:
        conv = _nodes(model, "Conv")[0]
        count = next(one for one in model.graph.initializer if one.name == conv.input[2]).dims[0]
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.arange(count, dtype=np.int32), "bias_int"),
                numpy_helper.from_array(np.full(count, 1e-4, np.float32), "bias_scale"),
                numpy_helper.from_array(np.zeros(count, np.int32), "bias_zero"),
            ]
        )
        at = list(model.graph.node).index(conv)
        names = ["bias_int", "bias_scale", "bias_zero"]
        model.graph.node.insert(at, helper.make_node("DequantizeLinear", names, ["bias_float"], name="bias_dq", axis=0))
        conv.input[2] = "bias_float"

    return _edited(edit)


def mixed_types() -> bytes:
    """fp16 is added to fp32."""

    def edit(model: onnx.ModelProto) -> None:
        conv = _nodes(model, "Conv")[-1]
        made = conv.output[0]
        conv.output[0] = "plain"
        at = list(model.graph.node).index(conv)
        model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float16), "half"))
        model.graph.node.insert(at + 1, helper.make_node("Add", ["plain", "half"], [made], name="odd_add"))

    return _edited(edit)


def scaled_per_channel() -> bytes:
    """The second activation has one scale for each channel."""

    def edit(model: onnx.ModelProto) -> None:
        node = _nodes(model, "QuantizeLinear")[1]
        _replace(model, node.input[1], np.full(32, 0.06, np.float32))
        _replace(model, node.input[2], np.zeros(32, np.int8))

    return _edited(edit)


def weight_along_inputs() -> bytes:
    """The second weight has one scale for each input channel."""

    def edit(model: onnx.ModelProto) -> None:
        node = [one for one in _nodes(model, "DequantizeLinear") if len(one.attribute)][1]
        node.attribute[0].i = 1
        _replace(model, node.input[1], np.full(32, 0.01, np.float32))
        _replace(model, node.input[2], np.zeros(32, np.int8))

    return _edited(edit)


def computed_scale() -> bytes:
    """A scale is the result of a node."""

    def edit(model: onnx.ModelProto) -> None:
        node = _nodes(model, "QuantizeLinear")[0]
        model.graph.node.insert(0, helper.make_node("Sqrt", [node.input[1]], ["computed"], name="root"))
        node.input[1] = "computed"

    return _edited(edit)


def scale_of_zero() -> bytes:
    """A scale is 0."""
    return _edited(lambda model: _replace(model, _nodes(model, "QuantizeLinear")[0].input[1], np.float32(0)))


def operator_form() -> bytes:
    """An operator that names the integer arithmetic itself stands in the graph."""

    def edit(model: onnx.ModelProto) -> None:
        node = helper.make_node("DynamicQuantizeLinear", [_nodes(model, "Conv")[0].output[0]], ["a", "b", "c"], name="dynamic")
        model.graph.node.insert(list(model.graph.node).index(_nodes(model, "Conv")[0]) + 1, node)

    return _edited(edit)


def behind_pad() -> bytes:
    """A Pad stands between the second Q/DQ and its convolution."""

    def edit(model: onnx.ModelProto) -> None:
        conv = _nodes(model, "Conv")[1]
        pads = np.array([0, 0, 1, 1, 0, 0, -1, -1], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(pads, "pads"))
        node = helper.make_node("Pad", [conv.input[0], "pads"], ["padded"], name="pad")
        model.graph.node.insert(list(model.graph.node).index(conv), node)
        conv.input[0] = "padded"

    return _edited(edit)


def stacked(scales: tuple[float, float]) -> bytes:
    """The second convolution reads two halves of its input, quantized apart with these scales and concatenated."""

    def edit(model: onnx.ModelProto) -> None:
        conv = _nodes(model, "Conv")[1]
        dequantize = next(node for node in model.graph.node if conv.input[0] in node.output)
        quantize = next(node for node in model.graph.node if dequantize.input[0] in node.output)
        source = quantize.input[0]
        at = list(model.graph.node).index(quantize)
        model.graph.node.remove(quantize)
        model.graph.node.remove(dequantize)
        nodes = [helper.make_node("Split", [source], ["left", "right"], name="halves", axis=1, num_outputs=2)]
        for half, scale in zip(("left", "right"), scales, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), f"{half}_scale"))
            model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"{half}_zero"))
            pair = [f"{half}_scale", f"{half}_zero"]
            nodes.append(helper.make_node("QuantizeLinear", [half, *pair], [f"{half}_q"], name=f"{half}_q"))
            nodes.append(helper.make_node("DequantizeLinear", [f"{half}_q", *pair], [f"{half}_dq"], name=f"{half}_dq"))
        nodes.append(helper.make_node("Concat", ["left_dq", "right_dq"], ["both"], name="both", axis=1))
        for offset, node in enumerate(nodes):
            model.graph.node.insert(at + offset, node)
        conv.input[0] = "both"

    return _edited(edit)


def half_precision() -> bytes:
    """The right kind with fp16 in its float parts: scales, biases, constants; a Cast at each output."""

    def edit(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
        outputs = {port.name for port in model.graph.output}
        for node in model.graph.node:
            if node.op_type == "Cast":
                node.attribute[0].i = TensorProto.FLOAT16
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name in outputs:
                        names[index] = f"{name}_half"
        for name in sorted(outputs):
            model.graph.node.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))

    return _edited(edit)
