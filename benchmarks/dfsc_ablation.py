"""DFSC's quantile and margin: what each setting does to the auto-encoder's map, as in the paper's Fig. 4.

    python benchmarks/dfsc_ablation.py products/scenes/harness products/scenes/vials --out build/dfsc-ablation.jsonl --write
    python benchmarks/dfsc_ablation.py products/scenes/harness --seeds 0 1 2 --out build/dfsc-ablation.jsonl --write

DFSC begins at 70 % of the auto-encoder's steps (`DfscKnobs.start`), and until there all settings are one and the same training,
bit for bit: it is run once, and every setting goes on from its state. Measured is |T - A|^2 cell by cell against what held-out
good parts show there, its largest cell as the picture's score: what the student's second half learns to stand in for. What is in
the file already is not run again.
"""

import argparse
import copy
import sys
from datetime import datetime, timezone
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.page import replace_block
from benchmarks.resumable import Row, run_missing
from edge.engine.machine import this_machine
from edge.errors import DataError
from training.calibrate import cell_statistics
from training.commands.train import SHIPPED_TEACHER
from training.datasets import load_frames, open_dataset
from training.datasets.items import GOOD, Item
from training.families import Sources, family_of
from training.features import to_input
from training.losses import DfscKnobs
from training.metrics.ranking import auroc
from training.networks.detector import Detector
from training.recipe import FastKnobs, RunConfig, make_config
from training.trainers import FastTrainer

DOC = Path(__file__).resolve().parents[1] / "docs" / "results.md"
FIGURE = DOC.with_name("dfsc-ablation.svg")
BEGIN, END = "<!-- measured: benchmarks/dfsc_ablation.py -->", "<!-- end of measured DFSC ablation -->"
OFF = "without DFSC"
KINDS = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
QUANTILES = (0.99, 0.995, 0.999)
MARGINS = (1.1, 1.5, 3.0)

CPU = torch.device("cpu")


def settings() -> dict[str, DfscKnobs | None]:
    """What is compared: a cross through the recipe's own values, ten times its strength, a margin not tied to tau'."""
    usual = DfscKnobs()
    made: dict[str, DfscKnobs | None] = {OFF: None}
    for quantile, margin in [(q, usual.margin) for q in QUANTILES] + [(usual.quantile, m) for m in MARGINS]:
        made[_label(quantile, margin)] = msgspec.structs.replace(usual, quantile=quantile, margin=margin)
    strong = 10 * usual.weight
    made[f"{_label(usual.quantile, usual.margin)}, lambda {strong:g}"] = msgspec.structs.replace(usual, weight=strong)
    made[f"q {usual.quantile}, m 2"] = msgspec.structs.replace(usual, margin=2.0, margin_of_tau=False)
    return made


def _label(quantile: float, margin: float) -> str:
    return f"q {quantile}, m {margin} tau'"


class Ground:
    """One training up to where DFSC begins, and the pictures every setting is measured on."""

    def __init__(self, data: Path, seed: int, steps: int) -> None:
        dataset = open_dataset(data, seed)
        self.seed, self.steps = seed, steps
        self._frames = load_frames(dataset.train, 128)
        self._held_out = load_frames(dataset.validation, 128)
        self._test: list[Item] = dataset.test
        self._pictures = load_frames(dataset.test, 128)
        self.config = make_config("dfsc-efficientad-s", size=128, seed=seed, changes=[f"autoencoder_steps={steps}"])
        family = family_of(self.config)
        self._detector = family.assemble(self.config, family.pretrained(self.config, Sources(SHIPPED_TEACHER)), self._frames, CPU)
        self._trainer = self._trainer_of(self.config, self._detector)
        begin = int(DfscKnobs().start * steps)
        for step in range(begin):
            self._report(self._trainer.step().figures, step, "the part all settings share")
        self._state = copy.deepcopy(self._trainer.state())

    def finish(self, label: str, knobs: DfscKnobs | None) -> Row:
        """Goes on with one setting to the end, and measures."""
        config = msgspec.structs.replace(self.config, dfsc=knobs)
        trainer = self._trainer_of(config, self._detector)
        trainer.restore(copy.deepcopy(self._state))
        figures: dict[str, float] = {}
        most_active = 0.0
        for step in range(trainer.step_number, self.steps):
            figures = trainer.step().figures
            most_active = max(most_active, figures.get("hinge_active", 0.0))
            self._report(figures, step, label)
        trainer.finish()
        good = self._maps(self._held_out)
        cell = cell_statistics(good).double().numpy()
        scores = ((self._maps(self._pictures) - cell[0]) / cell[1]).max((1, 2))
        row = {"d_ta": figures["d_ta"], "hinge_active_most": most_active, "held_out": float(good.mean())}
        for kind, folder in KINDS.items():
            chosen = [i for i, item in enumerate(self._test) if item.type in {GOOD, folder}]
            area = auroc(scores[chosen], [self._test[i].type != GOOD for i in chosen])
            if area is None:
                raise DataError(
                    f"expected good test pictures and some in test/{folder}, found {len(chosen)}; use a belt's scenes"
                )
            row[kind] = area
        return row

    def _trainer_of(self, config: RunConfig, detector: Detector) -> FastTrainer:
        assert isinstance(config.knobs, FastKnobs)
        torch.manual_seed(self.seed)
        return FastTrainer(config, detector, self._frames, _no_photographs, CPU)

    @torch.no_grad()
    def _maps(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, S, S, 3) uint8 -> (N, n, n): mean over the channels of (T - A)^2."""
        detector = self._detector
        maps = []
        for start in range(0, len(frames), 8):
            x = to_input(frames[start : start + 8], CPU)
            maps.append((detector.normalized_teacher(x) - detector.autoencoder(x)).square().mean(1).double().numpy())
        return np.concatenate(maps)

    def _report(self, figures: dict[str, float], step: int, label: str) -> None:
        if step % 20 == 19:
            print(
                f"\r{label}: step {step + 1} of {self.steps}, d_ta {figures['d_ta']:.3f}   ", end="", file=sys.stderr, flush=True
            )


def _no_photographs(rng: np.random.Generator) -> NDArray[np.uint8]:
    raise AssertionError(f"the auto-encoder's phase draws no pictures of other things, asked with {rng}")


def run(sets: list[Path], seeds: list[int], steps: int, out: Path) -> list[Row]:
    """Runs what is missing; all rows of the file."""
    grounds: dict[tuple[Path, int], Ground] = {}

    def one(data: Path, label: str, seed: int, _: list[Row]) -> list[Row]:
        if (data, seed) not in grounds:
            grounds.clear()  # it holds the vectors of every picture, and nobody comes back to it
            grounds[data, seed] = Ground(data, seed, steps)
        found = grounds[data, seed].finish(label, settings()[label])
        print(f"\r{label}: logical {found['logical']:.4f}, structural {found['structural']:.4f}", file=sys.stderr)
        return [{"data": data.name, "seed": seed, "setting": label, "steps": steps, **found}]

    wanted = [(data, label, seed) for seed in seeds for data in sets for label in settings()]
    return run_missing(out, wanted, "setting", one)


def page(rows: list[Row]) -> str:
    """The table below the figure; what several seeds gave as their mean."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {this_machine()}, seeds {', '.join(map(str, seeds))}, {rows[0]['steps']} "
        "steps of the auto-encoder, 128 px; AUROC of |T - A|, logical / structural; in brackets the largest share of novel "
        "elements that the hinge acted on.",
        "",
        "| setting | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for label in settings():
        cells = []
        for name in names:
            some = [row for row in rows if row["data"] == name and row["setting"] == label]
            mean = (
                {key: np.mean([row[key] for row in some]) for key in ("logical", "structural", "hinge_active_most")}
                if some
                else None
            )
            cells.append(
                "-" if mean is None else f"{mean['logical']:.4f} / {mean['structural']:.4f} ({mean['hinge_active_most']:.2f})"
            )
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"![Logical AUROC over quantile and margin]({FIGURE.name})", ""])


def draw(rows: list[Row], path: Path) -> None:
    """Logical AUROC over the quantile and over the margin, a line a data set, dotted: without DFSC."""
    mpl.rcParams.update({"svg.hashsalt": "onbelt", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    usual = DfscKnobs()
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for number, name in enumerate(dict.fromkeys(row["data"] for row in rows)):
        found = {
            label: [row["logical"] for row in rows if row["data"] == name and row["setting"] == label] for label in settings()
        }
        crossed = [[(q, usual.margin, q) for q in QUANTILES], [(usual.quantile, m, m) for m in MARGINS]]
        for axis, places in zip(axes, crossed, strict=True):
            axis.axhline(float(np.mean(found[OFF])), color=f"C{number}", linestyle=":", linewidth=1)
            values = [np.mean(found[_label(quantile, margin)]) for quantile, margin, _ in places]
            axis.plot(range(len(places)), values, "o-", color=f"C{number}", label=name)
            axis.set_xticks(range(len(places)), [str(place) for *_, place in places])
    axes[0].set_xlabel("quantile q of tau' (margin 1.5 tau')")
    axes[1].set_xlabel("margin, in tau' (q 0.995)")
    axes[0].set_ylabel("logical AUROC of |T - A|")
    axes[1].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, metavar="DATA", help="data sets with logical and structural test pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="one line a setting, seed and set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="S", help="default: 0")
    parser.add_argument("--steps", type=int, default=FastKnobs().autoencoder_steps, metavar="N", help="default: the recipe's")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--write", action="store_true", help=f"put figure and table into {DOC.name}")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = run(args.sets, args.seeds, args.steps, args.out)
    text = page(rows)
    print(text)
    if args.write:
        draw(rows, FIGURE)
        replace_block(DOC, BEGIN, END, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
