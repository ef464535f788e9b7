"""LGFDR's graphs: float, and INT8 where a convolution bears it.

A mix (`export.search`) gives each convolution a form of its own, for they err very differently (docs/lgfdr.md has the
figures): most by the discriminator's first one, whose input reaches far, and little by the local tower's two large ones, which
are a third of all multiplications. What stays in float keeps 32 bits: in half precision it moved the score near the limit, and
there two changed verdicts of 4,000 may be too many.

Every quantized activation is symmetric without a shift: most convolutions pad, and padding must stay zero. Features are compared
with what is rebuilt of them, so the pyramid's own rounding, which is in both, counts less than its size; the pooled head listens
to it directly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from export.fuse.layers import Array
from export.graph.builder import GraphBuilder
from export.lgfdr.graph import LgfdrWriter
from export.quantize.covariance import measure_covariances
from export.quantize.ranges import Activation, reach, watch_points
from export.quantize.scheme import HIGHEST, Form, Forms, Point, Scheme
from training.teacher.levels import BACKBONE_SCALE

if TYPE_CHECKING:
    from training.lgfdr.detector import LgfdrDetector

MOST_FACTOR = 1000.0


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
        plain = LgfdrWriter(self.detector)
        factors = even_factors(watch_points(plain.write(taps=True), plain.g.points, shown))
        writer = LgfdrWriter(self.detector, factors=factors)
        tapped = writer.write(taps=True)
        seen = watch_points(tapped, writer.g.points, shown)
        covariances = measure_covariances(tapped, writer.g.points, writer.convs, shown)
        points = {
            point: Point(reach(seen, point) / HIGHEST, np.zeros(seen[point].mean.shape), seen[point].mean, seen[point].variance)
            for point, _ in writer.convs.values()
        }
        readers = {name: point for name, (point, _) in writer.convs.items()}
        weights = {name: conv.weight.size for name, (_, conv) in writer.convs.items()}
        macs = macs_of(self.detector, weights)
        return LgfdrQuantizer(self.detector, Scheme(points, covariances, weight_levels), factors, readers, macs)


def even_factors(seen: Mapping[str, Activation]) -> dict[str, Array]:
    """What brings every channel of a point to the reach of its largest, so that each uses all integers.

    Channels that hardly spoke are brought up by `MOST_FACTOR` at most. After Nagel et al., "Data-free quantization through
    weight equalization and bias correction" (ICCV 2019, section 4.1), in full on the activations' side: half of it (the
    factors' roots) left the discriminator as it was. What it brings each part: docs/lgfdr.md, "In the graph".
    """
    return {
        point: (activation.amax or 1.0) / np.maximum(activation.peaks, (activation.amax or 1.0) / MOST_FACTOR)
        for point, activation in seen.items()
    }


def macs_of(detector: "LgfdrDetector", weights: Mapping[str, int]) -> dict[str, float]:
    """Multiply-accumulates of the convolutions that may be quantized, by name.

    Args:
        detector: its pyramid says where cells lie.
        weights: how many weights each of these convolutions has.
    """
    grid, tower = detector.pyramid.grid, detector.whole
    tokens = 0 if tower is None else grid // tower.cells
    sides = {"global.embed": tokens, "global.unfold": tokens}
    for i, stride_px in enumerate(detector.pyramid.plan.layer_strides_px):
        sides[f"pyramid.{i}"] = BACKBONE_SCALE * detector.size // stride_px
    return {name: float(count * sides.get(name, grid) ** 2) for name, count in weights.items()}


@dataclass(frozen=True, slots=True)
class LgfdrQuantizer:
    """Mixes of LGFDR; see `export.passes.Quantizer`.

    Attributes:
        detector: trained. scheme: measured; every mix shares its rounded weights. factors: see `even_factors`.
        readers: convolution -> activation point it reads.
        macs: see `macs_of`.
    """

    detector: "LgfdrDetector"
    scheme: Scheme
    factors: Mapping[str, Array]
    readers: Mapping[str, str]
    macs: Mapping[str, float]

    def graph(self, forms: Forms | None = None) -> ModelProto:
        """See `export.passes.Quantizer`."""
        each = {name: (forms or {}).get(name, Form.INT8) for name in self.readers}
        points = {
            name: point
            for name, point in self.scheme.points.items()
            if any(each[conv] is not Form.FLOAT for conv, read in self.readers.items() if read == name)
        }
        builder = GraphBuilder(replace(self.scheme, points=points, forms=each), half=False)
        return LgfdrWriter(self.detector, builder, factors={name: self.factors[name] for name in points}).write()
