"""How large activations get, and what they are on average: measured on the float graph, on good AND damaged pictures.

Good parts alone would clip exactly the activations by which a defect is seen. The maximum is taken, not a percentile, for the
same reason, and stretched by a headroom.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray

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
        amax: largest |value|, without headroom. mean, variance: (C,) of each channel.
    """

    amax: float
    mean: Array
    variance: Array

    def scaled(self, factor: float) -> "Activation":
        """What would have been seen had every value been `factor` times as large."""
        return replace(self, amax=self.amax * factor, mean=self.mean * factor, variance=self.variance * factor**2)


def collect_ranges(network: FusedNetwork, frames: NDArray[np.uint8]) -> dict[str, Activation]:
    """Run the float graph and watch every activation point.

    Args:
        network: fused weights.
        frames: (N, size, size, 3) uint8, good and damaged.

    Raises:
        ValueError: no frames.
    """
    if not len(frames):
        raise ValueError("expected pictures to measure activation ranges on, got none")
    builder = GraphBuilder()
    model = write_graph(network, builder, taps=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    tensors = list(dict.fromkeys(builder.points.values()))
    seen = dict.fromkeys(tensors, (0.0, np.zeros(0), np.zeros(0)))
    for frame in frames:
        for name, value in zip(tensors, session.run(tensors, {INPUT_NAME: frame[None]}), strict=True):
            peak, first, second = seen[name]
            channels = value[0].reshape(value.shape[1], -1).astype(np.float64)
            moments = channels.mean(axis=1), (channels * channels).mean(axis=1)
            seen[name] = (
                max(peak, float(np.abs(channels).max())),
                first + moments[0] if first.size else moments[0],
                second + moments[1] if second.size else moments[1],
            )
    activations = {}
    for point, name in builder.points.items():
        peak, first, second = seen[name]
        mean = first / len(frames)
        activations[point] = Activation(peak, mean, np.maximum(second / len(frames) - mean**2, 0.0))
    return activations


def reach(activations: Mapping[str, Activation], point: str) -> float:
    """Largest |value| to be provided for, headroom included; 1 where nothing was ever above 0."""
    return activations[point].amax * HEADROOM or 1.0
