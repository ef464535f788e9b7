"""How the inputs of each quantized convolution vary together: what `rounding` weighs errors with.

The patches that a convolution multiplies are taken from random places of the float graph's activations, on good and damaged
pictures. Wide convolutions are split into groups of channels, so that no matrix is larger than 2304 x 2304.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import ModelProto

from export.fuse.layers import Conv
from export.fuse.network import FusedNetwork
from export.graph.builder import GraphBuilder
from export.graph.detector import quantized_convs, write_graph
from export.quantize.ranges import open_session, run_frame
from export.quantize.rounding import Covariance

MAX_INPUTS = 2304
"""A 3x3 kernel over 256 channels, or 4x4 over 144: larger matrices cost minutes and gain little."""

SAMPLES = 6000
"""Patches for each convolution: more than two for each input of the widest group."""


_FLUSH = 1000  # patches kept before they are multiplied: few large products instead of many small ones


@dataclass(slots=True)
class _Sum:
    """Running sums of one group, channels first to last - 1, and the patches (k, d) not added yet."""

    first: int
    last: int
    mean: NDArray[np.float64]
    products: NDArray[np.float64]
    waiting: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, patches: NDArray[np.float32]) -> None:
        """Take patches in, (k, d)."""
        self.waiting.append(patches)
        if len(self.waiting) * len(patches) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Multiply what waits."""
        if self.waiting:
            patches = np.concatenate(self.waiting)
            self.mean += patches.sum(axis=0, dtype=np.float64)
            self.products += patches.T @ patches
            self.waiting.clear()

    def finish(self, taken: int) -> Covariance:
        """The covariance of all `taken` patches."""
        self.flush()
        mean = self.mean / taken
        return Covariance(self.first, self.last, (self.products / taken - np.outer(mean, mean)).astype(np.float32))


def collect_covariances(network: FusedNetwork, frames: NDArray[np.uint8], seed: int = 0) -> dict[str, tuple[Covariance, ...]]:
    """Measure the covariances of all convolutions that a scheme quantizes.

    Args:
        network: weights in integer units.
        frames: (N, size, size, 3) uint8, good and damaged.
        seed: of the places.

    Returns:
        By name of the convolution, groups of input channels in order.
    """
    builder = GraphBuilder()
    model = write_graph(network, builder, taps=True)
    return measure_covariances(model, builder.points, quantized_convs(network), frames, seed)


def measure_covariances(
    model: ModelProto,
    tensors: Mapping[str, str],
    convs: Mapping[str, tuple[str, Conv]],
    frames: NDArray[np.uint8],
    seed: int = 0,
) -> dict[str, tuple[Covariance, ...]]:
    """Measure the covariances at the inputs of convolutions of a float graph with taps.

    Args:
        model: the graph.
        tensors: activation point -> tensor that carries it, among the graph's outputs.
        convs: name -> (activation point it reads, weights).
        frames: (N, size, size, 3) uint8, good and damaged.
        seed: of the places.
    """
    session = open_session(model)
    sums = {name: _groups(conv) for name, (_, conv) in convs.items()}
    rng = np.random.default_rng(seed)
    count = -(-SAMPLES // len(frames))
    taken = count * len(frames)
    points = {point: tensors[point] for point, _ in convs.values()}
    for frame in frames:
        values = dict(zip(points, run_frame(session, list(points.values()), frame), strict=True))
        for name, (point, conv) in convs.items():
            _add(sums[name], values[point][0], conv.weight.shape[2], count, rng)
    return {name: tuple(one.finish(taken) for one in groups) for name, groups in sums.items()}


def _groups(conv: Conv) -> list[_Sum]:
    channels, taps = conv.weight.shape[1], conv.weight.shape[2] * conv.weight.shape[3]
    wide = max(1, MAX_INPUTS // taps)
    return [
        _Sum(first, last, np.zeros((last - first) * taps), np.zeros(((last - first) * taps,) * 2))
        for first in range(0, channels, wide)
        for last in (min(first + wide, channels),)
    ]


def _add(groups: list[_Sum], value: NDArray[np.float32], kernel: int, count: int, rng: np.random.Generator) -> None:
    """Add the patches at random places of one activation (C, h, w)."""
    windows = sliding_window_view(value, (kernel, kernel), axis=(1, 2))
    rows, columns = (rng.integers(0, side, count) for side in windows.shape[1:3])
    patches = windows[:, rows, columns].transpose(1, 0, 2, 3)
    for group in groups:
        group.add(patches[:, group.first : group.last].reshape(count, -1))
