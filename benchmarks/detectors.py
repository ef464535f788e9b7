"""The detectors side by side on the same data sets, beside what much simpler methods reach: a table for docs/results.md.

    python benchmarks/detectors.py data/real/commutator data/real/screws4 --out build/detectors --seeds 0 1 2
    python benchmarks/detectors.py data/real/* --out build/detectors --seeds 0 --natural PHOTOGRAPHS --write

Each set is trained on its own good parts with every detector's recipe of the package, its test pictures are only ever judged,
by the float network in torch. Beside them, at the same side: each map alone; the same networks with the global head in the score,
on the teacher and on the student, and by the published score (no comparison cell by cell, no branch kept quiet: EfficientAD's
Algorithm 2); nearest neighbours among the backbone's own vectors (`MemoryBank`); an untrained random network with a pooled head.
docs/bench/detectors.jsonl has a line a detector, side, seed and set; what is there is not run again (`--results FILE` begins
anew), an interrupted training goes on.
`--write` puts the table of all sides into docs/results.md, `--only-read` trains nothing. LGFDR's other seeds are those that
`benchmarks/lgfdr.py` has trained by the same recipe.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.page import replace_block
from benchmarks.resumable import Row, made_when, origin_of, run_missing
from benchmarks.structural import structural_figures
from training.baselines import MemoryBank, backbone_vectors
from training.calibrate import Q_A, Q_B, fit_detector, measure
from training.commands.train import SHIPPED_TEACHER
from training.datasets import Dataset, open_dataset
from training.datasets.frames import load_frames
from training.datasets.items import GOOD
from training.evaluate import evaluate, to_json
from training.evaluate.baseline import untrained_auroc
from training.families import Sources
from training.loop import TrainRequest, train
from training.metrics.ranking import auroc
from training.networks.detector import QUIET_Z, Detector, HeadInput
from training.recipe import LGFDR, make_config
from training.run import RECORD_NAME, Run, load_run
from training.split import shaping_count
from training.teacher.backbones import load_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DETECTORS = ("efficientad-s", "dfsc-efficientad-s", LGFDR)
BANK = "memory bank on the backbone"
STUDENT_HEAD = "with a head on the student"
COLUMNS = (
    "image", "logical", "structural", "st", "ae",
    "pixel_ap", "au_pro", "structural_ap", "structural_pro", "st_ap", "st_pro",
)  # fmt: skip
KINDS = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
DOCS = Path(__file__).resolve().parents[1] / "docs"
DOC = DOCS / "results.md"
VARIANTS = DOCS / "bench" / "lgfdr.jsonl"
BEGIN, END = "<!-- measured: benchmarks/detectors.py -->", "<!-- end of measured detectors -->"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, metavar="DATA", help="data sets with test pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of runs")
    parser.add_argument(
        "--results", type=Path, default=DOCS / "bench" / "detectors.jsonl", metavar="FILE", help="figures (default: %(default)s)"
    )
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS), metavar="NAME", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="S", help="default: 0 1 2")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="side of the pictures (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each run (default: the recipe's)")
    parser.add_argument("--knob", action="append", default=[], metavar="NAME=VALUE", help="a knob of EfficientAD (repeatable)")
    parser.add_argument(
        "--teacher", type=Path, default=SHIPPED_TEACHER, metavar="FILE", help="EfficientAD's (default: the one that ships)"
    )
    parser.add_argument("--label", default="", metavar="WORDS", help="what to call rows of another --knob, --steps or --teacher")
    parser.add_argument("--natural", type=Path, metavar="DIR", help="photographs (default: generated pictures)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--only-read", action="store_true", help="make the table of what is there")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOC.name}")
    return parser.parse_args(argv)


def folder_of(args: argparse.Namespace) -> Path:
    """Where runs and results of one side lie: another side is another training."""
    return Path(args.out) / f"{args.size}px"


def run_detector(args: argparse.Namespace, data: Path, model: str, seed: int) -> list[dict[str, Any]]:
    """Train where that is not done yet, and evaluate: by its own score, and by the others its networks allow."""
    name = f"{model}, {args.label}" if args.label else model
    out = folder_of(args) / "runs" / f"{data.name}-{name.replace(', ', '-').replace(' ', '_')}-{seed}"
    if not (out / RECORD_NAME).exists():
        changes = () if model == LGFDR else args.knob
        config = make_config(model, size=args.size, seed=seed, steps=args.steps, changes=changes)
        dataset = open_dataset(data, seed)
        resume = (out / "checkpoint.pt").exists()
        train(TrainRequest(dataset, config, Sources(args.teacher), out, args.natural, torch.device("cpu"), resume=resume))
    trained = load_run(out)
    record = trained.record
    evaluation = evaluate(out, data)
    found = to_json(evaluation)
    types = [one.item.type for one in evaluation.judged]
    plain = {"data": data.name, "seed": seed, "size": record.config.size, "steps": 0, "wall_s": 0}
    rows = [
        {
            **plain, "method": name, "steps": record.steps, "wall_s": round(record.wall_s),
            **areas([one.scores.raw for one in evaluation.judged], types),
            "low": found["image_auroc_interval"][0], "high": found["image_auroc_interval"][1],
            "st": found["branches"]["st"], "ae": found["branches"]["ae"], "good": found["good"], "bad": found["bad"],
            "pixel_ap": found["pixel_ap"], "au_pro": found["au_pro_0.3"],
            **structural_figures(evaluation, open_dataset(data, seed)), **origin_of(record),
        }
    ]  # fmt: skip
    if isinstance(trained.detector, Detector):
        # The head stays out of the fast recipe's score, so its term, as loud as the others on good parts, is what is missing.
        heads = np.array([one.scores.global_ for one in evaluation.judged])
        louder = np.logaddexp(0, heads - QUIET_Z) / record.figures["global_loudness"]
        with_head = np.array([one.scores.raw for one in evaluation.judged]) + louder
        published = published_scores(trained.detector, open_dataset(data, seed))
        rows += [
            {**plain, "method": f"{name}, with the head", **areas(with_head, types)},
            {**plain, "method": f"{name}, published score", **areas(published, types)},
            {**plain, "method": f"{name}, {STUDENT_HEAD}", **areas(student_head_scores(trained, data), types)},
        ]
    return rows


def areas(scores: Sequence[float] | NDArray[np.float64], types: Sequence[str]) -> dict[str, float | None]:
    """AUROC of all defects, and of logical and structural ones where the set tells them apart."""
    values = np.asarray(scores, np.float64)
    found = {"image": auroc(values, [kind != GOOD for kind in types])}
    for name, folder in KINDS.items():
        chosen = [i for i, kind in enumerate(types) if kind in {GOOD, folder}]
        if folder in types:
            found[name] = auroc(values[chosen], [types[i] != GOOD for i in chosen])
    return found


def published_scores(detector: Detector, dataset: Dataset) -> NDArray[np.float64]:
    """Test pictures by EfficientAD's Algorithm 2: half of each map between its quantiles over held-out parts; the largest cell.

    Both maps keep the directions they keep here, and are not enlarged (`training.networks.detector`, second and third point).
    """
    cpu = torch.device("cpu")
    held_out = measure(detector, load_frames(dataset.validation, detector.size), cpu)
    shown = measure(detector, load_frames(dataset.test, detector.size), cpu)
    combined = np.zeros_like(shown[0])
    for usual, values in zip(held_out[:2], shown[:2], strict=True):
        low, high = np.quantile(usual, [Q_A, Q_B])
        combined += 0.5 * 0.1 * (values - low) / (high - low)
    return np.asarray(combined.max((1, 2)), np.float64)


def student_head_scores(trained: Run, data: Path) -> NDArray[np.float64]:
    """Test pictures by the same networks with a global head on the student in the score, as `--head student` fits it."""
    cpu = torch.device("cpu")
    dataset, detector = open_dataset(data, trained.config.seed), copy.deepcopy(trained.detector)
    assert isinstance(detector, Detector)
    detector.head_input = HeadInput.STUDENT
    held_out = load_frames(dataset.validation, detector.size)
    fit_detector(detector, load_frames(dataset.train, detector.size), held_out[: shaping_count(len(held_out))], cpu, 1.0)
    with torch.no_grad():
        shown = load_frames(dataset.test, detector.size)
        return np.array([detector(torch.from_numpy(frame[None]))[0].view(-1)[0].item() for frame in shown])


def run_baselines(data: Path, size: int) -> list[dict[str, Any]]:
    """Nearest neighbours of the backbone's vectors, and an untrained network."""
    dataset = open_dataset(data)
    bank = MemoryBank(
        backbone_vectors(load_backbone("efficientnet-lite2", torch.device("cpu"))), load_frames(dataset.train, size)
    )
    neighbours = areas(bank.score(load_frames(dataset.test, size)), [item.type for item in dataset.test])
    kinds = untrained_auroc(dataset, size)
    counts = [sum(item.type == kind for item in dataset.test) for kind in kinds]
    untrained = float(np.average(list(kinds.values()), weights=counts))
    known = {name: kinds[folder] for name, folder in KINDS.items() if folder in kinds}
    plain = {"data": data.name, "seed": 0, "size": size, "steps": 0, "wall_s": 0}
    return [
        {**plain, "method": BANK, **neighbours},
        {**plain, "method": "untrained PDN, pooled", "image": untrained, **known},
    ]


def rows_of_lgfdr(rows: list[Row]) -> list[Row]:
    """Trainings of the whole LGFDR that its own benchmark has made and `rows` lacks."""
    known = {(row["data"], row["seed"], row["size"]) for row in rows if row["method"] == LGFDR}
    made = [json.loads(line) for line in VARIANTS.read_text().splitlines()]
    return [
        {**row, "method": LGFDR}
        for row in made
        if row["variant"] == "full" and (row["data"], row["seed"], row["size"]) not in known
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a mean over the seeds and the largest distance from it; with one seed the interval over the pictures."""
    lines = [
        "| set | method | side | seeds | image AUROC | logical | structural | map_st alone | map_ae alone | pixel AP | AU-PRO "
        "| structural AP | structural AU-PRO | structural AP of map_st | structural AU-PRO of map_st | steps | training |",
        f"|{'---|' * 17}",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == data]
        counts = next((f" ({row['good']} good, {row['bad']} bad)" for row in mine if "good" in row), "")
        for number, (method, size) in enumerate(dict.fromkeys((row["method"], row["size"]) for row in mine)):
            some = [row for row in mine if (row["method"], row["size"]) == (method, size)]
            cells = [_cell([row.get(name) for row in some]) for name in COLUMNS]
            if len(some) == 1 and some[0].get("low") is not None:
                cells[0] = f"{some[0]['image']:.3f} ({some[0]['low']:.3f}-{some[0]['high']:.3f})"
            minutes = statistics.fmean(row["wall_s"] for row in some) / 60
            steps = f"{some[0]['steps']:,}" if some[0]["steps"] else "-"
            name = f"{data}{counts}" if number == 0 else ""
            taken = f"{minutes:.0f} min" if some[0]["steps"] else "-"
            lines.append(f"| {name} | {method} | {size} | {len(some)} | {' | '.join(cells)} | {steps} | {taken} |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):  # a figure of some seeds beside one of all would be read as theirs
        return "-"
    mean = statistics.fmean(known)
    return f"{mean:.3f}" + (f" ±{max(abs(value - mean) for value in known):.3f}" if len(known) > 1 else "")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    named = f", {args.label}" if args.label else ""
    wanted = [(data, model + named, seed) for seed in args.seeds for data in args.sets for model in args.detectors]

    def run(data: Path, model: str, seed: int, rows: list[Row]) -> list[Row]:
        made = run_detector(args, data, model.removesuffix(named), seed)
        if not any((row["data"], row["method"], row["size"]) == (data.name, BANK, args.size) for row in rows):
            made += run_baselines(data, args.size)
        return made

    rows = run_missing(args.results, [] if args.only_read else wanted, "method", run, args.size)
    rows += rows_of_lgfdr(rows)
    names = [data.name for data in args.sets]
    shown = sorted((row for row in rows if row["data"] in names), key=lambda row: (names.index(row["data"]), row["size"]))
    text = f"{made_when(shown)}, torch {torch.__version__}, float networks.\n\n{table(shown)}"
    print(text)
    if args.write:
        replace_block(DOC, BEGIN, END, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
