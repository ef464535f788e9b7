"""How large activations get, and what they are on average: measured on the float graph, on good AND damaged pictures.

Good parts alone would clip exactly the activations by which a defect is seen. The maximum is taken, not a percentile, for the
same reason, and stretched by a headroom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from edge.engine.base import INPUT_NAME
from export.fuse.layers import Array
from export.fuse.network import FusedNetwork
from export.graph.builder import GraphBuilder
from export.graph.detector import write_graph

HEADROOM = 1.1
"""Ranges are stretched by this: defects on the line may excite more than our damage does."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What was seen at one point.

    Attributes:
        peaks: (C,) largest |value| of each channel, without headroom. mean, variance: (C,) of each channel.
    """

    peaks: Array
    mean: Array
    variance: Array

    @property
    def amax(self) -> float:
        """Largest |value| of all channels, without headroom."""
        return float(self.peaks.max())

    def scaled(self, factors: Array) -> "Activation":
        """What would have been seen had every value been multiplied by its channel's factor; factors: (C,) or (1,), > 0."""
        return replace(self, peaks=self.peaks * factors, mean=self.mean * factors, variance=self.variance * factors**2)


def collect_ranges(network: FusedNetwork, frames: NDArray[np.uint8]) -> dict[str, Activation]:
    """Run the float graph and watch every activation point.

    Args:
        network: fused weights.
        frames: (N, size, size, 3) uint8, good and damaged.

    Raises:
        ValueError: no frames.
    """
    builder = GraphBuilder()
    return watch_points(write_graph(network, builder, taps=True), builder.points, frames)


def watch_points(model: ModelProto, points: Mapping[str, str], frames: NDArray[np.uint8]) -> dict[str, Activation]:
    """Run a float graph with taps and watch its activation points.

    Args:
        model: the graph.
        points: activation point -> tensor that carries it, among the graph's outputs.
        frames: (N, size, size, 3) uint8, good and damaged.

    Raises:
        ValueError: no frames.
    """
    if not len(frames):
        raise ValueError("expected pictures to measure activation ranges on, got none")
    session = open_session(model)
    tensors = list(dict.fromkeys(points.values()))
    seen = dict.fromkeys(tensors, (np.zeros(1), np.zeros(1), np.zeros(1)))
    for frame in frames:
        for name, value in zip(tensors, run_frame(session, tensors, frame), strict=True):
            peak, first, second = seen[name]
            channels = value[0].reshape(value.shape[1], -1)
            mean, square = channels.mean(axis=1, dtype=np.float64), np.square(channels).mean(axis=1, dtype=np.float64)
            seen[name] = np.maximum(peak, np.abs(channels).max(axis=1)), first + mean, second + square
    activations = {}
    for point, name in points.items():
        peak, first, second = seen[name]
        mean = first / len(frames)
        activations[point] = Activation(peak, mean, np.maximum(second / len(frames) - mean**2, 0.0))
    return activations


def reach(activations: Mapping[str, Activation], point: str) -> float:
    """Largest |value| to be provided for, headroom included; 1 where nothing was ever above 0."""
    return activations[point].amax * HEADROOM or 1.0


def open_session(model: ModelProto) -> onnxruntime.InferenceSession:
    """Load a graph of ours into ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_frame(
    session: onnxruntime.InferenceSession, tensors: Sequence[str], frame: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Run one frame, (size, size, 3) uint8, and return the tensors asked for."""
    values: list[NDArray[np.float32]] = session.run(list(tensors), {INPUT_NAME: frame[None]})
    return values
