"""What each part of LGFDR costs in time: float graphs of its variants, and of EfficientAD-S, interleaved in one run.

    python benchmarks/lgfdr_latency.py
    python benchmarks/lgfdr_latency.py --threads 2 --rounds 12 --out build/lgfdr-variants.json

The networks are as they stand before their first step, on the pyramid's real features: what a graph costs does not hang on what
its weights have learnt. Variants that differ in their training alone (noise, damage, steps) are the whole detector's graph and
are not timed again. `benchmarks/lgfdr.py` puts these milliseconds beside the variants' figures.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np
import torch
from onnx import ModelProto

from benchmarks.engines import measure
from benchmarks.lgfdr import FULL, LATENCY, VARIANTS
from edge.engine.machine import this_machine
from export.passes import passes_of
from export.run_graph import build_engine
from training.commands.train import SHIPPED_TEACHER
from training.families import Sources, family_of
from training.recipe import LGFDR, RunConfig, make_config

SAME_GRAPH = ("noise", "damage_share", "cosine", "muon_rate", "least_parts")
"""Knobs of the training alone."""
BACKEND = "openvino"


def configurations(size: int) -> dict[str, RunConfig]:
    """Label -> what is timed: the variants whose graphs differ, and the other family."""
    changed = {
        label: changes for label, changes in VARIANTS.items() if not all(change.startswith(SAME_GRAPH) for change in changes)
    }
    made = {label: make_config(LGFDR, size=size, changes=changes) for label, changes in {FULL: [], **changed}.items()}
    made["efficientad-s, half a student"] = make_config("efficientad-s", size=size)
    made["efficientad-s, the paper's student"] = make_config("efficientad-s", size=size, changes=["student_width=1"])
    return made


def graph_of(config: RunConfig) -> ModelProto:
    """The float graph of a detector before its training."""
    family = family_of(config)
    frames = np.random.default_rng(0).integers(0, 256, (2, config.size, config.size, 3), dtype=np.uint8)
    pretrained = family.pretrained(config, Sources(SHIPPED_TEACHER))
    detector = family.assemble(config, pretrained, frames, torch.device("cpu"))
    return passes_of(detector.eval().requires_grad_(requires_grad=False)).float_graph()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="side of the pictures (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of an engine (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="blocks of each graph (default: %(default)s)")
    parser.add_argument("--block", type=int, default=8, metavar="N", help="timed frames in a block (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=LATENCY, metavar="FILE", help="figures (default: %(default)s)")
    args = parser.parse_args(argv)
    frames = list(np.random.default_rng(1).integers(0, 256, (8, args.size, args.size, 3), dtype=np.uint8))
    with ExitStack() as stack:
        engines = {
            label: stack.enter_context(build_engine(graph_of(config), args.size, "fp32", BACKEND, args.threads))
            for label, config in configurations(args.size).items()
        }
        times = measure(engines, dict.fromkeys(engines, frames), args.rounds, args.block)
    found = {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}", "machine": str(this_machine()), "backend": BACKEND,
        "threads": args.threads, "size": args.size, "frames": args.rounds * args.block,
        "ms": {label: round(median(values) / 1e6, 2) for label, values in times.items()},
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    for label, ms in found["ms"].items():
        print(f"{ms:8.2f} ms  {label}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
