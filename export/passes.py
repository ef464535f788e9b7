"""Which pass turns a trained detector into graphs: the one place of the exporter that knows what kinds of detector there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from export.quantize.ranges import Activation, collect_ranges
from export.quantize.rounding import Covariance
from export.quantize.scheme import Forms, Rounded
from export.quantize.units import to_integer_units
from export.search import macs_of
from training.lgfdr.detector import LgfdrDetector

if TYPE_CHECKING:
    from training.run import AnyDetector


class Quantizer(Protocol):
    """Writes INT8 graphs of one detector, after what was measured once."""

    @property
    def macs(self) -> Mapping[str, float]:
        """Multiply-accumulates of the convolutions that may take other forms, by name; empty where there is no choice."""
        ...

    def graph(self, forms: Forms | None = None) -> ModelProto:
        """The graph with Q/DQ around every convolution that bears it, but for those of another form."""
        ...


class Passes(Protocol):
    """Writes the graphs of one detector."""

    def float_graph(self) -> ModelProto:
        """The graph in float, equal to the detector."""
        ...

    def quantizer(self, shown: NDArray[np.uint8], weight_levels: int) -> Quantizer:
        """Measure what a quantization needs.

        Args:
            shown: (N, size, size, 3) uint8, good and damaged pictures: what ranges are measured on.
            weight_levels: largest integer of a weight.
        """
        ...


@dataclass(frozen=True, slots=True)
class EfficientAdQuantizer:
    """Mixes of the EfficientAD family; see `Quantizer`.

    Attributes:
        units: weights in integer units. seen: activations of that network. covariances: of its convolutions' inputs.
        weight_levels: largest integer of a weight. rounded: weights rounded so far; every mix shares them.
    """

    units: FusedNetwork
    seen: Mapping[str, Activation]
    covariances: Mapping[str, tuple[Covariance, ...]]
    weight_levels: int
    rounded: dict[str, Rounded] = field(default_factory=dict)

    @property
    def macs(self) -> Mapping[str, float]:
        """See `Quantizer`."""
        return macs_of(self.units)

    def graph(self, forms: Forms | None = None) -> ModelProto:
        """See `Quantizer`."""
        scheme = make_scheme(self.units, self.seen, self.covariances, self.weight_levels, forms)
        return write_graph(self.units, GraphBuilder(replace(scheme, rounded=self.rounded)))


@dataclass(frozen=True, slots=True)
class EfficientAdPasses:
    """Passes of the EfficientAD family."""

    network: FusedNetwork

    def float_graph(self) -> ModelProto:
        """See `Passes`."""
        return write_graph(self.network)

    def quantizer(self, shown: NDArray[np.uint8], weight_levels: int) -> Quantizer:
        """See `Passes`."""
        units, seen = to_integer_units(self.network, collect_ranges(self.network, shown))
        return EfficientAdQuantizer(units, seen, collect_covariances(units, shown), weight_levels)


def passes_of(detector: "AnyDetector") -> Passes:
    """Choose the passes of a detector.

    Raises:
        ValueError: a pass does not apply; its message says why.
    """
    if isinstance(detector, LgfdrDetector):
        return LgfdrPasses(detector)
    return EfficientAdPasses(fuse(detector))
