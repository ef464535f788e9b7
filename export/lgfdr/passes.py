"""LGFDR's graphs: float, and INT8 where a convolution bears it.

Every quantized activation is symmetric without a shift: most convolutions pad, and padding must stay zero. Features are compared
with what is rebuilt of them, so the pyramid's own rounding, which is in both, counts less than its size; the pooled head listens
to it directly.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from export.graph.builder import GraphBuilder
from export.lgfdr.graph import LgfdrWriter
from export.quantize.covariance import measure_covariances
from export.quantize.ranges import reach, watch_points
from export.quantize.scheme import HIGHEST, Forms, Point, Scheme

if TYPE_CHECKING:
    from training.lgfdr.detector import LgfdrDetector


@dataclass(frozen=True, slots=True)
class LgfdrPasses:
    """Passes of LGFDR; see `export.passes.Passes`.

    Attributes:
        detector: trained.
    """

    detector: "LgfdrDetector"

    def float_graph(self) -> ModelProto:
        """See `Passes`."""
        return LgfdrWriter(self.detector).write()

    def quantizer(self, shown: NDArray[np.uint8], weight_levels: int) -> "LgfdrQuantizer":
        """See `export.passes.Passes`."""
        writer = LgfdrWriter(self.detector)
        tapped = writer.write(taps=True)
        seen = watch_points(tapped, writer.g.points, shown)
        covariances = measure_covariances(tapped, writer.g.points, writer.convs, shown)
        points = {
            point: Point(reach(seen, point) / HIGHEST, np.zeros(seen[point].mean.shape), seen[point].mean, seen[point].variance)
            for point, _ in writer.convs.values()
        }
        return LgfdrQuantizer(self.detector, Scheme(points, covariances, weight_levels))


@dataclass(frozen=True, slots=True)
class LgfdrQuantizer:
    """LGFDR's one INT8 graph; see `export.passes.Quantizer`.

    Attributes:
        detector: trained. scheme: measured.
    """

    detector: "LgfdrDetector"
    scheme: Scheme

    @property
    def macs(self) -> dict[str, float]:
        """See `export.passes.Quantizer`: which of its convolutions bear INT8 was decided once, for every product."""
        return {}

    def graph(self, forms: Forms | None = None) -> ModelProto:
        """See `export.passes.Quantizer`."""
        if forms:
            raise ValueError(f"expected every convolution in its one form, got {dict(forms)}")
        return LgfdrWriter(self.detector, GraphBuilder(self.scheme)).write()
