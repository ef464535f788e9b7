"""What each part of LGFDR is worth: every variant trained and evaluated on the same pictures, and a table of it for the docs.

    python benchmarks/lgfdr.py scenes/tray data/commutator --out build/lgfdr --seeds 0 1 2
    python benchmarks/lgfdr.py scenes/tray --out build/lgfdr --variants full no-noise --steps 60 --train 40

One line of docs/bench/lgfdr.jsonl a variant, side, seed and data set; what is there already is not run again (`--results FILE`
begins anew), so a stopped run goes on. `--write` puts the table of all of them into docs/lgfdr.md.
Figures are those of the float network in torch; milliseconds are those that `benchmarks/lgfdr_latency.py` has measured. Each set
is trained on its own good parts, test pictures are only ever judged.
"""

import argparse
import dataclasses
import json
import logging
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.page import replace_block
from benchmarks.resumable import Row, made_when, origin_of, run_missing
from benchmarks.structural import structural_figures
from training.datasets import open_dataset
from training.evaluate import evaluate, to_json
from training.families import Sources
from training.loop import TrainRequest, train
from training.recipe import LGFDR, make_config
from training.run import RECORD_NAME, load_run

FULL = "full"
VARIANTS: dict[str, list[str]] = {
    FULL: [],
    "local only": ["towers=local"],
    "global only": ["towers=global"],
    "both, mean instead of the head": ["gate=mean"],
    "SE gate": ["gate=se"],
    "ECA gate": ["gate=eca"],
    "SimAM gate": ["gate=simam"],
    "no noise": ["noise=0"],
    "noise 3": ["noise=3"],
    "noise 6": ["noise=6"],
    "noise 24": ["noise=24"],
    "without the discriminator": ["maps=fused"],
    "no damage for the towers": ["damage_share=0"],
    "neither noise nor damage": ["noise=0", "damage_share=0", "maps=fused"],
    "global tower sees itself": ["token_blind=-1"],
    "no cosine": ["cosine=0"],
    "AdamW alone": ["muon_rate=0"],
    "map_st of the local tower": ["maps=towers"],
    "with the pooled head": ["pooled_head=true"],
    "smoothed mean square weighed": ["weighed_error=square"],
    "one cell of each map": ["loudest_st=1", "loudest_ae=1"],
    "few parts as they are": ["least_parts=0"],
    "336 parts at least": ["least_parts=336"],
}
"""Label -> knobs that differ from the default."""

COLUMNS = {
    "image": "image", "logical": "logical", "structural": "structural", "pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AP",
    "au_pro": "AU-PRO", "structural_ap": "structural AP", "structural_pro": "structural AU-PRO",
    "st_ap": "structural AP of map_st", "st_pro": "structural AU-PRO of map_st", "cause": "cause right",
}  # fmt: skip
"""Key of a row -> title of its column."""
DOCS = Path(__file__).resolve().parents[1] / "docs"
DOC = DOCS / "lgfdr.md"
LATENCY = DOCS / "bench" / "lgfdr-variants.json"
BEGIN, END = "<!-- measured: benchmarks/lgfdr.py -->", "<!-- end of measured variants -->"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, metavar="DATA", help="data sets with test pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of runs")
    parser.add_argument(
        "--results", type=Path, default=DOCS / "bench" / "lgfdr.jsonl", metavar="FILE", help="figures (default: %(default)s)"
    )
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME", help="default: all"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="S", help="default: 0 1 2")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="side of the pictures (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each run (default: the recipe's)")
    parser.add_argument("--train", type=int, metavar="N", help="train on the first N good parts only (default: all)")
    parser.add_argument(
        "--natural", type=Path, metavar="DIR", help="photographs for painted damage (default: generated pictures)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--only-read", action="store_true", help="make the table of what is there")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOC.name}")
    return parser.parse_args(argv)


def run_folder(args: argparse.Namespace, data: str, variant: str, seed: int) -> Path:
    """Where a run lies."""
    return Path(args.out) / f"{args.size}px" / f"{data}-{variant.replace(' ', '_').replace(',', '')}-{seed}"


def run_one(args: argparse.Namespace, data: Path, variant: str, seed: int) -> dict[str, Any]:
    """Train one variant where it is not trained yet, and evaluate it."""
    config = make_config(LGFDR, size=args.size, seed=seed, steps=args.steps, changes=VARIANTS[variant])
    out = run_folder(args, data.name, variant, seed)
    if not (out / RECORD_NAME).exists():
        dataset = open_dataset(data)
        if args.train:
            dataset = dataclasses.replace(dataset, train=dataset.train[: args.train])
        resume = (out / "checkpoint.pt").exists()
        train(TrainRequest(dataset, config, Sources(Path()), out, args.natural, torch.device("cpu"), resume=resume))
    record = load_run(out).record
    evaluation = evaluate(out, data)
    found = to_json(evaluation)
    kinds = {kind: found["by_type"].get(f"{kind}_anomalies", {}) for kind in ("logical", "structural")}
    figures = {"image": found["image_auroc"], "au_pro": found["au_pro_0.3"]}
    figures |= {kind: of.get("image_auroc") for kind, of in kinds.items()}
    figures |= structural_figures(evaluation, open_dataset(data))
    figures |= {name: found[name] for name in ("pixel_auroc", "pixel_ap")}
    return {
        "data": data.name, "variant": variant, "size": args.size, "seed": seed, "steps": record.steps,
        "wall_s": round(record.wall_s),
        "left": {name: round(value, 4) for name, value in record.figures.items() if name.startswith("left_")},
        "cause": found["cause"] and found["cause"]["accuracy"], **figures, **origin_of(record),
    }  # fmt: skip


def latencies() -> tuple[dict[tuple[str, int], float], str]:
    """Median milliseconds of each variant's float graph at one side, and what they were measured with; empty before they are."""
    if not LATENCY.exists():
        return {}, ""
    found = json.loads(LATENCY.read_text())
    size, ms = found["size"], found["ms"]
    beside = ", ".join(f"{name} {ms[name]:.1f}" for name in ms if name not in VARIANTS)
    told = (
        f" ms: float graph on {found['backend']}, {found['threads']} thread, {size} px, {found['date']}, {found['machine']}, "
        f"medians of {found['frames']} frames, interleaved; beside them {beside}."
    )
    return {(variant, size): ms.get(variant, ms[FULL]) for variant in VARIANTS}, told


def table(rows: list[Row], milliseconds: dict[tuple[str, int], float]) -> str:
    """Markdown: mean over the seeds, and the largest distance of a seed from it."""
    lines = []
    for data in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == data]
        columns = [name for name in COLUMNS if any(row.get(name) is not None for row in mine)]
        titles = [COLUMNS[name] for name in columns] + (["ms"] if milliseconds else [])
        lines += [f"### {data}", "", f"| variant | side | seeds | {' | '.join(titles)} |", "|---" * (len(titles) + 3) + "|"]
        for variant, size in dict.fromkeys((row["variant"], row["size"]) for row in mine):
            some = [row for row in mine if (row["variant"], row["size"]) == (variant, size)]
            cells = [_cell([row[name] for row in some if row.get(name) is not None]) for name in columns]
            if milliseconds:
                ms = milliseconds.get((variant, size))
                cells.append("-" if ms is None else f"{ms:.1f}")
            lines.append(f"| {variant} | {size} | {len(some)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    mean = statistics.fmean(values)
    return f"{mean:.3f}" + (f" ±{max(abs(value - mean) for value in values):.3f}" if len(values) > 1 else "")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    wanted = [(data, variant, seed) for seed in args.seeds for data in args.sets for variant in args.variants]
    rows = run_missing(
        args.results, [] if args.only_read else wanted, "variant",
        lambda data, variant, seed, _: [run_one(args, data, variant, seed)], args.size,
    )  # fmt: skip
    names = [data.name for data in args.sets]
    shown = [row for row in rows if row["variant"] in args.variants and row["data"] in names]
    shown.sort(key=lambda row: (names.index(row["data"]), list(VARIANTS).index(row["variant"]), row["size"]))
    milliseconds, told = latencies()
    text = f"{made_when(shown)}.{told}\n\n{table(shown, milliseconds)}"
    print(text)
    if args.write:
        replace_block(DOC, BEGIN, END, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
