"""What every detector's graph ends with: the fused scores and the declaration of inputs and outputs (`edge.engine.base`)."""

import numpy as np
from onnx import ModelProto, TensorProto, helper

from edge.engine.base import INPUT_NAME
from export.fuse.layers import Array
from export.graph.builder import GraphBuilder
from training.networks.detector import QUIET_Z


def write_scores(g: GraphBuilder, map_st: str, map_ae: str, z_global: str, fusion: Array) -> None:
    """Fuse as `training.networks.detector.Fusion` says."""
    one = g.constant("scores.one", np.array([1], np.int64))
    k, quiet = fusion.astype(np.float32), np.float32(QUIET_Z)
    branches = []
    for name, value in (("st", map_st), ("ae", map_ae)):
        branches.append(
            g.node("Reshape", [g.node("ReduceMax", [value], f"scores.{name}_peak", keepdims=0), one], f"scores.{name}")
        )
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
