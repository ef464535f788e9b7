"""What every detector's graph ends with: the fused scores and the declaration of inputs and outputs (`edge.engine.base`)."""

import numpy as np
from onnx import ModelProto, TensorProto, helper

from edge.engine.base import INPUT_NAME
from export.fuse.layers import Array
from export.graph.builder import GraphBuilder
from training.networks.detector import QUIET_Z


def write_scores(
    g: GraphBuilder, map_st: str, map_ae: str, z_global: str, fusion: Array, loudest: tuple[int, int] = (1, 1)
) -> None:
    """Fuse as `training.networks.detector.Fusion` says.

    Args:
        g: everything written so far.
        map_st: tensor of the map (n, n).
        map_ae: likewise.
        z_global: tensor of the head's z-score (1,).
        fusion: (7,) constants.
        loudest: the mean of how many cells (st, ae) are; 1 is the map's maximum.
    """
    one = g.constant("scores.one", np.array([1], np.int64))
    k, quiet = fusion.astype(np.float32), np.float32(QUIET_Z)
    branches = []
    for name, value, cells in (("st", map_st, loudest[0]), ("ae", map_ae, loudest[1])):
        peak = g.node("ReduceMax", [value], f"scores.{name}_peak", keepdims=0) if cells == 1 else _loudest(g, value, name, cells)
        branches.append(g.node("Reshape", [peak, one], f"scores.{name}"))
    st, ae = branches
    terms = []
    for name, value, center, scale, weight in (
        ("st", st, k[0] + quiet * k[1], k[1], k[2]),
        ("ae", ae, k[3] + quiet * k[4], k[4], k[5]),
        ("global", z_global, quiet, np.float32(1), k[6]),
    ):
        apart = g.node("Sub", [value, g.constant(f"fusion.{name}.center", np.float32(center))], f"fusion.{name}.shifted")
        z = g.node("Div", [apart, g.constant(f"fusion.{name}.scale", np.float32(scale))], f"fusion.{name}.z")
        soft = g.node("Softplus", [z], f"fusion.{name}.soft")
        terms.append(g.node("Mul", [soft, g.constant(f"fusion.{name}.weight", np.float32(weight))], f"fusion.{name}"))
    raw = g.node("Add", [g.node("Add", terms[:2], "fusion.maps"), terms[2]], "fusion.raw")
    g.node("Concat", [raw, st, ae, z_global], "scores", axis=0)


def _loudest(g: GraphBuilder, value: str, name: str, cells: int) -> str:
    """Mean of a map's largest cells."""
    flat = g.node("Reshape", [value, g.constant(f"scores.{name}_row", np.array([-1], np.int64))], f"scores.{name}_flat")
    values, places = f"scores.{name}_loudest", f"scores.{name}_places"
    g.nodes("TopK", [flat, g.constant(f"scores.{name}_cells", np.array([cells], np.int64))], [values, places])
    return g.node("ReduceMean", [values], f"scores.{name}_mean", keepdims=0)


def finish_detector(g: GraphBuilder, size: int, cells: int, *, taps: bool = False) -> ModelProto:
    """Make the model of a detector.

    Args:
        g: everything written; `scores`, `map_st` and `map_ae` among it.
        size: side of the input, pixels.
        cells: side of the maps.
        taps: add every activation point as a further output.
    """
    return g.finish(
        "detector",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [1, size, size, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [4]),
            helper.make_tensor_value_info("map_st", TensorProto.FLOAT, [cells, cells]),
            helper.make_tensor_value_info("map_ae", TensorProto.FLOAT, [cells, cells]),
        ],
        taps=taps,
    )
