"""What each fusion pass is worth: the same graph with one pass undone, all variants interleaved in one run.

    python benchmarks/fusions.py --write
    python benchmarks/fusions.py --size 128 --rounds 1 --block 1 --threads 1

Passes are undone in the written graph, in float and behind Q/DQ alike; times do not depend on what the weights are, so their
values are left as they fall. A pass is worth keeping for a backend where undoing it costs time there.
"""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from against_anomalib import pictures, random_detector
from engines import measure
from onnx import ModelProto, helper, numpy_helper

from edge.engine.machine import available_cores, this_machine
from edge.engine.proof import percentiles_of
from edge.errors import OnbeltError
from export.passes import passes_of
from export.run_graph import build_engine

DOC = Path("docs/bench/fusions.md")
BACKENDS = ("openvino", "onnxruntime")


class Surgery:
    """A graph that is being changed."""

    def __init__(self, model: ModelProto) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.nodes = {node.name: node for node in self.model.graph.node}
        self.weights = {tensor.name: tensor for tensor in self.model.graph.initializer}

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a weight."""
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def before(self, place: str, *nodes: onnx.NodeProto) -> None:
        """Insert nodes in front of the one called `place`."""
        at = next(i for i, node in enumerate(self.model.graph.node) if node.name == place)
        for offset, node in enumerate(nodes):
            self.model.graph.node.insert(at + offset, node)

    def values(self, name: str) -> np.ndarray[Any, Any]:
        """A weight."""
        return numpy_helper.to_array(self.weights[name])

    def held_weight(self, conv: onnx.NodeProto) -> tuple[str, onnx.NodeProto | None]:
        """The initializer a convolution's weight is kept in, and the DequantizeLinear between, if any."""
        maker = self.nodes.get(conv.input[1])
        return (conv.input[1], None) if maker is None else (maker.input[0], maker)

    def cells(self) -> int:
        """Side of the maps."""
        return int(self.model.graph.output[1].type.tensor_type.shape.dim[0].dim_value)


def normalization(graph: Surgery) -> None:
    """Mean and standard deviation in front of the trunks instead of in their weights."""
    crop = graph.nodes["pixels.cropped"]
    scale = graph.constant("undone.scale", np.full((1, 3, 1, 1), 1.0, np.float32))
    offset = graph.constant("undone.offset", np.zeros((1, 3, 1, 1), np.float32))
    graph.before(
        crop.name,
        helper.make_node("Mul", [crop.input[0], scale], ["undone.scaled"], name="undone.scaled"),
        helper.make_node("Add", ["undone.scaled", offset], ["undone.normalized"], name="undone.normalized"),
    )
    crop.input[0] = "undone.normalized"


def crop(graph: Surgery) -> None:
    """The trunks see all pixels again; their maps keep the same number of cells."""
    slice_ = graph.nodes["pixels.cropped"]
    for node in graph.model.graph.node:
        for i, name in enumerate(node.input):
            if name == slice_.output[0]:
                node.input[i] = slice_.input[0]
    graph.model.graph.node.remove(slice_)


def difference(branch: str) -> Callable[[Surgery], None]:
    """Two convolutions and a subtraction instead of one over both hidden maps."""

    def undo(graph: Surgery) -> None:
        joined, conv = graph.nodes[f"{branch}.hidden"], graph.nodes[f"{branch}.difference"]
        held, dequantize = graph.held_weight(conv)
        values = graph.values(held)
        # The student's hidden map, stacked last, has as many channels as its last convolution has outputs.
        student = next(node for node in graph.model.graph.node if node.name.startswith("student.2") and node.op_type == "Conv")
        split = values.shape[1] - len(graph.values(graph.held_weight(student)[0]))
        parts = []
        for i, (source, part) in enumerate(zip(joined.input, (values[:, :split], values[:, split:]), strict=True)):
            name = f"undone.{branch}.{i}"
            made = graph.constant(f"{name}.held", part)
            nodes = []
            if dequantize is not None:
                made = f"{name}.dq"
                nodes.append(
                    helper.make_node("DequantizeLinear", [f"{name}.held", *dequantize.input[1:]], [made], name=made, axis=0)
                )
            bias = [conv.input[2]] if i == 0 else []
            same = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
            nodes.append(helper.make_node("Conv", [source, made, *bias], [name], name=name, **same))
            graph.before(conv.name, *nodes)
            parts.append(name)
        graph.before(conv.name, helper.make_node("Sub", parts, [conv.output[0]], name=f"undone.{branch}"))
        graph.model.graph.node.remove(conv)
        graph.model.graph.node.remove(joined)

    return undo


def small_maps(graph: Surgery) -> None:
    """Maps enlarged to the picture's side before their maximum, as the paper does, instead of the maximum of the small map."""
    size = graph.model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    for branch in ("st", "ae"):
        peak = graph.nodes[f"scores.{branch}_peak"]
        name = f"undone.map_{branch}"
        shape = graph.constant(f"{name}.shape", np.array([1, 1, graph.cells(), graph.cells()], np.int64))
        pads = graph.constant(f"{name}.pads", np.array([0, 0, 4, 4, 0, 0, 4, 4], np.int64))
        sizes = graph.constant(f"{name}.sizes", np.array([1, 1, size, size], np.int64))
        graph.before(
            peak.name,
            helper.make_node("Reshape", [peak.input[0], shape], [f"{name}.four"], name=f"{name}.four"),
            helper.make_node("Pad", [f"{name}.four", pads], [f"{name}.padded"], name=f"{name}.padded"),
            helper.make_node(
                "Resize",
                [f"{name}.padded", "", "", sizes],
                [f"{name}.large"],
                name=f"{name}.large",
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
        )
        peak.input[0] = f"{name}.large"


PASSES: dict[str, Callable[[Surgery], None]] = {
    "normalization into the first convolutions": normalization,
    "crop of pixels no cell sees": crop,
    "teacher minus student as one convolution": difference("st"),
    "auto-encoder minus student as one convolution": difference("ae"),
    "maximum of the small maps, not of enlarged ones": small_maps,
}


def variants(model: ModelProto) -> dict[str, ModelProto]:
    """The graph, and the graph with each pass undone."""
    made = {"all passes": model}
    for name, undo in PASSES.items():
        graph = Surgery(model)
        undo(graph)
        made[name] = graph.model
    return made


def compare(size: int, threads: int, rounds: int, block: int) -> dict[str, Any]:
    """Time every variant.

    Args:
        size: side of the input, pixels.
        threads: CPU threads.
        rounds: see `engines.measure`.
        block: likewise.
    """
    passes = passes_of(random_detector(64, size=size))
    shown = pictures(2, size)
    graphs = {"fp32": passes.float_graph(), "int8": passes.quantizer(shown, 63).graph()}
    tables: dict[str, dict[str, float]] = {}
    for precision, model in graphs.items():
        for backend in BACKENDS:
            with ExitStack() as stack:
                engines = {
                    name: stack.enter_context(build_engine(variant, size, precision, backend, threads))
                    for name, variant in variants(model).items()
                }
                times = measure(engines, list(shown), rounds, block)
            tables[f"{backend} {precision}"] = {
                name: percentiles_of(np.array(taken, np.int64)).p50 for name, taken in times.items()
            }
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"schema": 1, "date_utc": date, "machine": asdict(this_machine()), "size": size, "threads": threads, "p50_ms": tables}


def page(found: dict[str, Any], command: str) -> str:
    """The findings as Markdown."""
    tables = found["p50_ms"]
    lines = [
        "# What each fusion is worth",
        f"`{command}`, {found['size']} px, 64 directions, {found['threads']} threads, {this_machine()}, {found['date_utc']}.",
        "Medians in milliseconds with all passes, and what undoing one adds. All passes are shipped on every backend: one file.",
        "",
        "| pass | " + " | ".join(tables) + " |",
        "|---|" + "---|" * len(tables),
        "| all passes, ms | " + " | ".join(f"{table['all passes']:.2f}" for table in tables.values()) + " |",
    ]
    for name in PASSES:
        added = []
        for table in tables.values():
            whole = table["all passes"]
            added.append(f"{table[name] - whole:+.2f} ({table[name] / whole - 1:+.1%})")
        lines.append(f"| without: {name} | " + " | ".join(added) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the input, px (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="CPU threads (default: all cores)")
    parser.add_argument("--rounds", type=int, default=20, help="blocks for each variant (default: %(default)s)")
    parser.add_argument("--block", type=int, default=3, help="timed frames in a block (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=DOC.with_suffix(".json"), help="JSON to write (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write {DOC} too")
    args = parser.parse_args()
    if min(args.rounds, args.block, args.threads) < 1:
        parser.error("expected --rounds, --block and --threads of at least 1")
    try:
        found = compare(args.size, args.threads, args.rounds, args.block)
    except OnbeltError as error:
        print(f"fusions: {error}", file=sys.stderr)
        return error.exit_code
    text = page(found, "python benchmarks/fusions.py " + " ".join(sys.argv[1:]))
    print(text)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    if args.write:
        DOC.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
