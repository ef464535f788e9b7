"""Which pass turns a trained detector into graphs: the one place of the exporter that knows what kinds of detector there are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from export.fuse.network import FusedNetwork, fuse
from export.graph.builder import GraphBuilder
from export.graph.detector import write_graph
from export.lgfdr.passes import LgfdrPasses
from export.quantize.covariance import collect_covariances
from export.quantize.plan import make_scheme
from export.quantize.ranges import collect_ranges
from export.quantize.units import to_integer_units
from training.lgfdr.detector import LgfdrDetector

if TYPE_CHECKING:
    from training.run import AnyDetector


class Passes(Protocol):
    """Writes the graphs of one detector."""

    def float_graph(self) -> ModelProto:
        """The graph in float, equal to the detector."""
        ...

    def int8_graph(self, shown: NDArray[np.uint8], weight_levels: int) -> ModelProto:
        """The graph with Q/DQ.

        Args:
            shown: (N, size, size, 3) uint8, good and damaged pictures: what ranges are measured on.
            weight_levels: largest integer of a weight.
        """
        ...


@dataclass(frozen=True, slots=True)
class EfficientAdPasses:
    """Passes of the EfficientAD family."""

    network: FusedNetwork

    def float_graph(self) -> ModelProto:
        """See `Passes`."""
        return write_graph(self.network)

    def int8_graph(self, shown: NDArray[np.uint8], weight_levels: int) -> ModelProto:
        """See `Passes`."""
        units, seen = to_integer_units(self.network, collect_ranges(self.network, shown))
        return write_graph(units, GraphBuilder(make_scheme(units, seen, collect_covariances(units, shown), weight_levels)))


def passes_of(detector: "AnyDetector") -> Passes:
    """Choose the passes of a detector.

    Raises:
        ValueError: a pass does not apply; its message says why.
    """
    if isinstance(detector, LgfdrDetector):
        return LgfdrPasses(detector)
    return EfficientAdPasses(fuse(detector))
