"""What a Jetson module cannot be faster than on a model: arithmetic and memory traffic of its convolutions. A projection.

    python benchmarks/jetson_floor.py --bundle edge/data/demo.onbelt
    python benchmarks/jetson_floor.py --network small 256 --network medium 256

Compute: two operations for each multiply-accumulate of the convolutions, at the module's dense INT8 (or FP16) rate. Traffic:
every convolution reads its input and weight once and writes its output once, one byte each (INT8), at the memory's full
bandwidth; fused layers move less, poolings and the head move a little more. The larger of the two is the floor. Nothing here
was measured on a Jetson: `onbelt engine BUNDLE` on the box measures it.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import shape_inference

from edge.bundle.reader import open_bundle
from edge.bundle.signing import default_trust
from export.fuse.network import fuse
from export.graph.detector import write_graph
from training.networks.detector import Detector, HeadInput
from training.networks.pdn import PdnSize


class Module(NamedTuple):
    """Dense INT8 rate of the GPU in 10^12 operations a second (half of NVIDIA's figure with sparsity), bandwidth in 10^9 B/s."""

    name: str
    int8_tops: float
    bandwidth_gb: float


# NVIDIA's data sheets at the "Super" (MAXN) clocks; the GPU alone, without the DLAs.
MODULES = (
    Module("Orin Nano 8GB Super", 33.4, 102.0),
    Module("Orin NX 16GB Super", 38.4, 102.0),
    Module("AGX Orin 64GB", 85.2, 204.8),
)
USUAL_SHARE = 0.5  # of the peak that INT8 convolutions of this size reach on larger GPUs; a guess for these


class Work(NamedTuple):
    """Multiply-accumulates, and bytes moved at one byte a value."""

    macs: float
    bytes_moved: float


def work_of(model: onnx.ModelProto) -> Work:
    """Sum over the convolutions."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        shapes[value.name] = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
    macs = moved = 0.0
    for node in inferred.graph.node:
        if node.op_type == "Conv":
            source, weight, target = (_elements(shapes[name]) for name in (node.input[0], node.input[1], node.output[0]))
            macs += target * weight / shapes[node.input[1]][0]
            moved += source + weight + target
    return Work(macs, moved)


def untrained(size: str, side: int) -> onnx.ModelProto:
    """The fused graph of a network with the weights it begins with: its shapes are those of a trained one."""
    detector = Detector(PdnSize[size.upper()], side, HeadInput.TEACHER).eval().requires_grad_(requires_grad=False)
    return write_graph(fuse(detector))


def _elements(shape: tuple[int, ...]) -> float:
    product = 1.0
    for side in shape:
        product *= side
    return product


def table(name: str, work: Work) -> str:
    """A table in Markdown."""
    lines = [
        f"{name}: {work.macs / 1e9:.2f} GMAC in convolutions, {work.bytes_moved / 1e6:.1f} MB moved",
        "",
        "| module | INT8 compute | INT8 traffic | floor | expected | FP16 compute |",
        "|---|---|---|---|---|---|",
    ]
    for module in MODULES:
        compute = 2 * work.macs / (module.int8_tops * 1e12) * 1e3
        traffic = work.bytes_moved / (module.bandwidth_gb * 1e9) * 1e3
        floor = max(compute, traffic)
        lines.append(
            f"| {module.name} | {compute:.2f} ms | {traffic:.2f} ms | {floor:.2f} ms | {floor / USUAL_SHARE:.1f} ms "
            f"| {2 * compute:.2f} ms |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="a bundle; may be given more than once")
    parser.add_argument(
        "--network",
        nargs=2,
        action="append",
        default=[],
        metavar=("SIZE", "PX"),
        help="an untrained one: small or medium, and px",
    )
    args = parser.parse_args()
    for path in args.bundle:
        bundle = open_bundle(path, default_trust())
        print(table(f"`{path.name}` ({bundle.manifest.size} px)", work_of(onnx.load_from_string(bundle.model))), end="\n\n")
    for size, side in args.network:
        print(table(f"EfficientAD {size}, {side} px", work_of(untrained(size, int(side)))), end="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
