"""Take out what quantization adds on average: the last biases are set so that INT8 and float agree in the mean.

Rounding through three layers leaves an offset in every channel of a difference, which the squares then count as an anomaly
everywhere, and in the pooled features, which the global head weighs by how little good parts vary. Both offsets are constant, so
they are measured on pictures and taken off the last biases.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from edge.engine.base import INPUT_NAME
from export.fuse.layers import Array, Conv
from export.fuse.network import FusedNetwork
from export.graph.builder import GraphBuilder
from export.graph.detector import AE_DIFFERENCE, POOLED, ST_DIFFERENCE, write_graph
from export.quantize.scheme import Scheme

_WATCHED = (ST_DIFFERENCE, AE_DIFFERENCE, POOLED)


def correct_biases(network: FusedNetwork, scheme: Scheme, frames: NDArray[np.uint8]) -> FusedNetwork:
    """Correct the biases of the differences and of the pooled features.

    Args:
        network: weights in integer units.
        scheme: how it is quantized.
        frames: (N, size, size, 3) uint8, good and damaged.

    Raises:
        ValueError: no frames.
    """
    if not len(frames):
        raise ValueError("expected pictures to correct biases on, got none")
    wanted = channel_means(write_graph(network), _WATCHED, frames)
    got = channel_means(write_graph(network, GraphBuilder(scheme)), _WATCHED, frames)
    st, ae, pooled = (want - have for want, have in zip(wanted, got, strict=True))
    return replace(
        network,
        st=_moved(network.st, st),
        ae=_moved(network.ae, ae),
        head=replace(network.head, conv=_moved(network.head.conv, pooled)),
    )


def channel_means(model: ModelProto, tensors: Sequence[str], frames: NDArray[np.uint8]) -> list[Array]:
    """Mean of each channel (axis 1) of some tensors over frames and positions, by ONNX Runtime."""
    watched = ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in tensors if t not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums = [np.zeros(1)] * len(tensors)
    for frame in frames:
        for i, value in enumerate(session.run(list(tensors), {INPUT_NAME: frame[None]})):
            sums[i] = sums[i] + value[0].reshape(value.shape[1], -1).mean(axis=1, dtype=np.float64)
    return [total / len(frames) for total in sums]


def _moved(conv: Conv, by: Array) -> Conv:
    return replace(conv, bias=conv.bias + by)
