"""Does a collapsing gap between teacher and auto-encoder warn that logical defects are missed? Trained runs, drifted pictures.

    python benchmarks/dfsc_gap.py --run products/runs/vials --data products/scenes/vials --out build/gap-vials.json
    python benchmarks/dfsc_gap.py --read build/gap-vials.json build/gap-harness.json --write

DFSC trains the auto-encoder to stay away from the teacher where a picture is novel, so d_TA = (T - A)^2 is what logical defects
are seen by. The hypothesis: when light or lens take that gap away, logical defects pass, and the gap on good parts says so before
anybody misses one. Good parts and parts with logical defects of the test set are drifted in the ten ways of
`benchmarks/drift_pictures.py`; the float networks of the run score them. Compared as warnings are, all on good parts alone and as
ratios to the undrifted ones: the gap (mean of d_TA, and tau', the quantile DFSC's hinge acts above), the mean of the map
|A - S|^2 (which a box has without any further output), its fall in the peak scores, and the fused score that alarms watch now.
"""

# ruff: noqa: E501 - some lines are those of the page

import argparse
import json
import math
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_pictures import DRIFTS, Drift

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import replace_block
from calibration.parts import list_pictures
from edge.engine.machine import this_machine
from edge.errors import DataError, OnbeltError
from edge.preprocess import Frame8, fit, read_picture

DOC = Path("docs/limits.md")
BEGIN, END = "<!-- measured: make dfsc-gap -->", "<!-- end of measured gap -->"
FALSE_REJECT = 0.02  # of the limit that misses are counted at: at 0.5 % most logical defects are missed without any drift
PERMUTATIONS = 10_000
MEASURES = {
    "gap": "mean of (T - A)^2",
    "tau": "tau' of (T - A)^2, quantile 0.995",
    "map_ae": "mean of (A - S)^2",
    "ae": "peak of map_ae",
    "raw": "fused score",
}

Floats = NDArray[np.float64]


def measure(run_path: Path, data: Path, parts: tuple[int, int], held_out: int, batch: int, out: Path) -> None:
    """Score good and logically defective parts under every drift, and write after each what is known; what is there is kept.

    Raises:
        DataError: the run has no auto-encoder, or the data set no such pictures.
    """
    import torch

    from training.networks.detector import Detector, mean_square
    from training.networks.normalize import normalize_frames
    from training.networks.pdn import TEACHER_CHANNELS
    from training.run import load_run

    torch.set_num_threads(1)
    run = load_run(run_path)
    detector = run.detector
    if not isinstance(detector, Detector):
        raise DataError(f"{run_path}: expected a run of an EfficientAD detector, got {type(detector).__name__}")
    knobs = run.record.config.knobs
    quantile = float(getattr(getattr(knobs, "dfsc", None), "quantile", 0.995))

    @torch.inference_mode()
    def score(frames: list[Frame8]) -> Floats:
        """(N, 5) in the order of MEASURES."""
        rows = []
        for first in range(0, len(frames), batch):
            x = normalize_frames(torch.from_numpy(np.stack(frames[first : first + batch])))
            teacher, student, autoencoder = detector.normalized_teacher(x), detector.student(x), detector.autoencoder(x)
            d_ta = (teacher - autoencoder).square().flatten(1)
            apart_st, apart_ae = teacher - student[:, :TEACHER_CHANNELS], autoencoder - student[:, TEACHER_CHANNELS:]
            map_st, map_ae = mean_square(apart_st, detector.basis_st), mean_square(apart_ae, detector.basis_ae)
            scores, _, _ = detector.scores(map_st, map_ae, teacher.mean((2, 3)))
            kept = d_ta.shape[1] - math.ceil(quantile * (d_ta.shape[1] - 1))
            tau = d_ta.topk(kept, dim=1, sorted=False).values.amin(1)
            rows.append(torch.stack([d_ta.mean(1), tau, map_ae.mean((1, 2)), scores[:, 2], scores[:, 0]], dim=1).numpy())
        return np.concatenate(rows).astype(np.float64)

    def read(folder: str, count: int, last: bool = False) -> list[Frame8]:
        paths = list_pictures([data / folder])
        # Of held-out parts the last ones: the first hundred shaped the score.
        chosen = paths[-count:] if last else [paths[int(i)] for i in np.linspace(0, len(paths) - 1, min(count, len(paths)))]
        return [fit(read_picture(path), detector.size) for path in chosen]

    began = time.monotonic()
    result: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    asked = {"product": run.record.product, "data_sha256": run.record.data_sha256, "good": parts[0], "logical": parts[1]}
    if any(result.get(key, value) != value for key, value in asked.items()):
        raise DataError(f"{out}: expected an answer begun with {asked}, it holds another; name another file")
    if not result:
        held = score(read("validation/good", held_out, last=True))[:, 4]
        limit = float(np.sort(held)[math.ceil((1.0 - FALSE_REJECT) * held.size) - 1])
        result = {**asked, "held_out": int(held.size), "limit": limit, "seed": run.record.config.seed, "cases": {}}
    good, logical = read("test/good", parts[0]), read("test/logical_anomalies", parts[1])
    for name, change, strength in _cases():
        if name in result["cases"]:
            continue
        frames = [
            [frame if change is None else change(frame, strength, i) for i, frame in enumerate(of)] for of in (good, logical)
        ]
        on_good, on_logical = score(frames[0]), score(frames[1])
        result["cases"][name] = {
            "missed": float((on_logical[:, 4] <= result["limit"]).mean()),
            "rejected": float((on_good[:, 4] > result["limit"]).mean()),
            "good": {key: float(np.median(on_good[:, i])) for i, key in enumerate(MEASURES)},
            "logical": {key: float(np.median(on_logical[:, i])) for i, key in enumerate(MEASURES)},
        }
        result |= {"machine": str(this_machine()), "date": datetime.now(timezone.utc).date().isoformat()}
        _write(out, result)
        print(
            f"{time.monotonic() - began:.0f} s  {name}: missed {result['cases'][name]['missed']:.0%}", file=sys.stderr, flush=True
        )


def _cases() -> list[tuple[str, Drift | None, float]]:
    """What is tried, the drifts of middle strength first: whoever ends it early has one of each kind."""
    tried: list[tuple[str, Drift | None, float]] = [("nothing", None, 0.0)]
    for place in (1, 2, 0):
        tried += [(f"{kind}|{strengths[place]:g}", drift, strengths[place]) for kind, (drift, strengths, _) in DRIFTS.items()]
    return tried


def _write(out: Path, result: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(out)


# --- reading the outcome --------------------------------------------------------------------------------------------------


def judge(result: dict[str, Any], seed: int = 0) -> dict[str, dict[str, float]]:
    """How well each measure's fall on good parts goes with logical defects becoming harder to see.

    Returns:
        By measure: `rho`, Spearman's rank correlation over all drifts of its fall on good parts with the fall of the score that
        parts with logical defects get (their median); `p`, one-sided, by permutation; `missed`, the same correlation with the rise
        in misses, NaN where no drift adds any.
    """
    cases = result["cases"]
    clean = cases["nothing"]
    drifts = [one for name, one in cases.items() if name != "nothing"]
    harder = np.array([-one["logical"]["raw"] for one in drifts])
    rise = np.array([one["missed"] - clean["missed"] for one in drifts])
    rng = np.random.default_rng(seed)
    found = {}
    for key in MEASURES:
        fall = np.array([-_ratio(one["good"][key], clean["good"][key]) for one in drifts])
        rho = _correlation(fall, harder)
        chance = np.array([_correlation(fall, rng.permutation(harder)) for _ in range(PERMUTATIONS)])
        p = (1 + int((chance >= rho).sum())) / (PERMUTATIONS + 1)
        found[key] = {"rho": rho, "p": p, "missed": _correlation(fall, rise) if np.ptp(rise) > 0 else math.nan}
    return found


def _correlation(first: Floats, second: Floats) -> float:
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ratio(value: float, clean: float) -> float:
    return value / clean if clean > 0 else math.nan


def _ranks(values: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    ranks = np.empty(values.size)
    ranks[order] = np.arange(values.size)
    for value in np.unique(values):
        ranks[values == value] = ranks[values == value].mean()
    return ranks


def text(results: list[dict[str, Any]]) -> str:
    """The measured block, Markdown."""
    lines = []
    for result in results:
        cases, found = result["cases"], judge(result)
        clean = cases["nothing"]
        names = [name for name in cases if name != "nothing"]
        lines += [
            f"### {result['product']}",
            f"{result['good']} good parts and {result['logical']} with logical defects under each of {len(names)} drifts, float networks; limit at 2 % false rejects of",
            f"{result['held_out']} held-out good parts; data sha256 {result['data_sha256'][:8]}, seed {result['seed']}, {result['machine']}, {result['date']}.",
            f"Undrifted {clean['missed']:.0%} of the logical defects pass, and the median logical defect scores {clean['logical']['raw'] / result['limit']:.1f} times the limit.",
            "",
            "| falls on good parts | rank correlation with the fall of logical scores | p (one-sided) | with the rise in misses |",
            "|---|---|---|---|",
        ]
        for key, said in MEASURES.items():
            one = found[key]
            missed = "no drift adds misses" if math.isnan(one["missed"]) else f"{one['missed']:+.2f}"
            lines.append(f"| {said} | {one['rho']:+.2f} | {one['p']:.2g} | {missed} |")
        lines += [
            "",
            "| drift | logical score | missed | on good parts: gap | tau' | mean of map_ae | peak of map_ae | fused score | rejected |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in sorted(names, key=lambda one: cases[one]["logical"]["raw"]):
            one = cases[name]
            ratios = " | ".join(f"{_ratio(one['good'][key], clean['good'][key]):.2f} x" for key in MEASURES)
            logical = _ratio(one["logical"]["raw"], clean["logical"]["raw"])
            lines.append(
                f"| {name.replace('|', ' ')} | {logical:.2f} x | {one['missed']:.0%} | {ratios} | {one['rejected']:.0%} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--run", type=Path, help="a finished run of onbelt train")
    arguments.add_argument("--data", type=Path, help="its data set, with test/logical_anomalies")
    arguments.add_argument("--good", type=int, default=60, help="good parts of each drift (default %(default)s)")
    arguments.add_argument("--logical", type=int, default=60, help="parts with a logical defect of each (default %(default)s)")
    arguments.add_argument("--held-out", type=int, default=200, help="good parts for the limit (default %(default)s)")
    arguments.add_argument("--batch", type=int, default=10, help="pictures at once (default %(default)s)")
    arguments.add_argument("--out", type=Path, help="JSON to write; where it is there already, what it lacks is added")
    arguments.add_argument("--read", type=Path, nargs="+", help="JSON files to make the page's block from")
    arguments.add_argument("--write", action="store_true", help=f"replace the block in {DOC}")
    args = arguments.parse_args()
    if args.read:
        block = text([json.loads(path.read_text()) for path in args.read])
        print(block)
        if args.write:
            replace_block(DOC, BEGIN, END, block)
        return 0
    if not (args.run and args.data and args.out):
        arguments.error("expected --run, --data and --out, or --read")
    try:
        measure(args.run, args.data, (args.good, args.logical), args.held_out, args.batch, args.out)
    except OnbeltError as error:
        print(f"dfsc_gap: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
