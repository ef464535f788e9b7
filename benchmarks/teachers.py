"""What of its backbone a teacher passes on: nearest neighbours among the features of good parts, before any student.

    python benchmarks/teachers.py data/real/* scenes/tray --report docs/teacher.md
    python benchmarks/teachers.py data/real/metal_nut scenes/tray --teachers old.safetensors new.safetensors

For each data set the image AUROC of a memory of vectors of good parts (`training.baselines.MemoryBank`): the backbone's, those of
each teacher, and of an untrained PDN. Where a set tells kinds of defects apart, its structural ones: logical ones are not for
features of 33 px.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.page import replace_block
from edge.engine.machine import this_machine
from training.baselines import MemoryBank, backbone_vectors
from training.commands.train import SHIPPED_TEACHER
from training.datasets import Dataset, open_dataset
from training.datasets.frames import load_frames
from training.datasets.items import GOOD
from training.metrics.ranking import auroc
from training.networks.pdn import Pdn, PdnSize
from training.teacher.backbones import load_backbone
from training.teacher.store import hash_file, load_teacher

if TYPE_CHECKING:
    from training.baselines import Describe

BACKBONE = "efficientnet-lite2"
STRUCTURAL = "structural_anomalies"
BEGIN, END = "<!-- measured: benchmarks/teachers.py -->", "<!-- end of measured teachers -->"


def features_of(teachers: list[Path], seed: int) -> dict[str, Describe]:
    """Name of a row -> the network it is made of."""
    torch.manual_seed(seed)
    untrained = Pdn(PdnSize.SMALL).eval().requires_grad_(requires_grad=False)
    made: dict[str, Describe] = {BACKBONE: backbone_vectors(load_backbone(BACKBONE, torch.device("cpu")))}
    made |= {f"{path.name}, sha256 {hash_file(path)[:8]}": load_teacher(path)[0] for path in teachers}
    return made | {"an untrained PDN-S": untrained}


def area(describe: Describe, dataset: Dataset, size: int, seed: int) -> float | None:
    """Image AUROC of the memory: of structural defects where the set has them apart, else of all; None without test pictures."""
    chosen = [item for item in dataset.test if item.type in {GOOD, STRUCTURAL}]
    shown = chosen if STRUCTURAL in dataset.types else dataset.test
    scores = MemoryBank(describe, load_frames(dataset.train, size), seed).score(load_frames(shown, size))
    return auroc(scores, [item.type != GOOD for item in shown])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, metavar="DATA", help="data sets with test pictures")
    parser.add_argument("--teachers", nargs="+", type=Path, default=[SHIPPED_TEACHER], metavar="FILE", help="default: what ships")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="side of the pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the vectors kept and of the untrained PDN")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="page whose table is replaced")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    datasets = [open_dataset(path) for path in args.sets]
    heads = [f"{one.name}{', structural' if STRUCTURAL in one.types else ''}" for one in datasets]
    lines = [f"| features | {' | '.join(heads)} |", f"|{'---|' * (len(heads) + 1)}"]
    for name, describe in features_of(args.teachers, args.seed).items():
        found = [area(describe, one, args.size, args.seed) for one in datasets]
        lines.append(f"| {name} | {' | '.join('-' if value is None else f'{value:.3f}' for value in found)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    day = datetime.now(timezone.utc).date()
    text = "\n".join([f"{this_machine()}, torch {torch.__version__}, {day}, {args.size} px, seed {args.seed}.", "", *lines, ""])
    print(text)
    if args.report:
        replace_block(args.report, BEGIN, END, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
