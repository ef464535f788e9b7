"""Our engine beside anomalib's export of the very same network, interleaved in one run.

    python benchmarks/against_anomalib.py --write
    python benchmarks/against_anomalib.py --rounds 2 --block 2 --threads 1 --out /tmp/bench.json

EfficientAD-S at 256 px, batch 1, weights of He's scale: no time depends on their values. First the float scores of both sides are
compared (they must agree to 1e-3; so must anomalib's graph in both runtimes), then all engines run in turn as in `engines.py`.
Three ratios are the aim: the exactly fused INT8 graph against anomalib's INT8 (0.90), the recipe's own form (maps of 64
directions, a student of half the width) against the same (0.60), and against anomalib's default fp32 export (0.10). Maps of 64
directions alone, what a certificate may ask for besides, the differences in twofold INT8, and anomalib's ONNX file under ONNX
Runtime are rows of their own. On a processor with bfloat16 OpenVINO runs a float file in it unless told otherwise: that is a row
there, too, and anomalib's INT8 is left to OpenVINO's choice; "fp32" is computed in float32 on both sides. A percentile is told
only of as many frames as it takes (p99 of 100, p99.9 of 1,000); of fewer it is the largest time, and called so.
"""

import argparse
import json
import logging
import platform
import sys
import tempfile
import warnings
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib_graph import Compiled, InOnnxRuntime, anomalib_version, model_of, to_onnx, to_openvino
from engines import measure

from calibration.damage import damaged_frames
from edge import __version__
from edge.engine.machine import available_cores, this_machine
from edge.engine.proof import percentiles_of
from edge.errors import EngineError, OnbeltError
from edge.preprocess import Frame8
from export.graph.detector import AE_DIFFERENCE, ST_DIFFERENCE
from export.passes import passes_of
from export.quantize.scheme import Form
from export.run_graph import build_engine
from training.networks.detector import Detector
from training.networks.pdn import FULL_WIDTH, TEACHER_CHANNELS, PdnSize
from training.recipe import FAST_DIRECTIONS, FAST_STUDENT_WIDTH

SIZE = 256
SHOWN = 4
ORT = "anomalib fp32, ONNX Runtime"
UNASKED = "anomalib fp32 as OpenVINO runs it unasked: bf16"
AIMS = (
    ("exactly fused INT8 / anomalib INT8", "onbelt int8 exact", "anomalib int8", 0.90),
    ("INT8, 64 directions, half the student / anomalib INT8", "onbelt int8 64 directions, half student", "anomalib int8", 0.60),
    ("exactly fused INT8 / anomalib fp32", "onbelt int8 exact", "anomalib fp32", 0.10),
    ("INT8, 64 directions, half the student / anomalib fp32", "onbelt int8 64 directions, half student", "anomalib fp32", 0.10),
    ("exactly fused INT8 / anomalib fp32, run unasked", "onbelt int8 exact", UNASKED, 0.10),
    (
        "INT8, 64 directions, half the student / anomalib fp32, run unasked",
        "onbelt int8 64 directions, half student",
        UNASKED,
        0.10,
    ),
)
PERCENTILES = (("p99", "p99", 100), ("p999", "p99.9", 1000))  # key, name, frames it takes
DOC = Path("docs/bench/anomalib.md")


def random_detector(directions: int, student_width: float = FULL_WIDTH, seed: int = 0, size: int = SIZE) -> Detector:
    """A detector with weights of He's scale; of one width, the same networks for every number of directions."""
    torch.manual_seed(seed)
    detector = Detector(PdnSize.SMALL, size, map_directions=directions, student_width=student_width)
    detector.eval().requires_grad_(requires_grad=False)
    for module in detector.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    constants = {"teacher_std": torch.rand(384) + 0.5, "q_st": torch.tensor([2.0, 9.0]), "q_ae": torch.tensor([1.0, 4.0])}
    for name, value in constants.items():
        getattr(detector, name).copy_(value)
    return detector


def pictures(count: int, size: int = SIZE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth pictures and damaged ones, (2 count, size, size, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 17, 17, 3)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse).permute(0, 3, 1, 2), (size, size), mode="bilinear")
    good = smooth.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    return np.concatenate([good, damaged_frames(good, count, seed=0)])


def agree(detector: Detector, other: torch.nn.Module, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    """Largest relative difference of both sides' scores in float.

    Raises:
        EngineError: more than 1e-3: it is not the same network, and the comparison means nothing.
    """
    worst = 0.0
    for frame in frames:
        x = torch.from_numpy(frame[None]).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            _, map_st, map_ae = detector(torch.from_numpy(frame[None]))
            # anomalib pads and enlarges before it normalizes; zeros of the raw maps are offsets of ours.
            rims = [float(-0.1 * q[0] / (q[1] - q[0])) for q in (detector.q_st, detector.q_ae)]
            padded = [
                torch.nn.functional.pad(m[None, None], (4, 4, 4, 4), value=rim)
                for m, rim in zip((map_st, map_ae), rims, strict=True)
            ]
            mine = torch.nn.functional.interpolate(0.5 * (padded[0] + padded[1]), (SIZE, SIZE), mode="bilinear").max()
            theirs = other(x)[0].max()
        worst = max(worst, float(abs(mine - theirs) / abs(theirs)))
    if worst > 1e-3:
        raise EngineError(f"expected both sides to give the same scores, they differ by {worst:.2g} of the score")
    return worst


def quantized(detector: Detector, shown: np.ndarray[Any, np.dtype[np.uint8]], *more: str) -> Any:
    """Our INT8 graph; the convolutions in `more` twofold."""
    return passes_of(detector).quantizer(shown, 63).graph(dict.fromkeys(more, Form.TWOFOLD))


def compare(threads: list[int], rounds: int, block: int) -> dict[str, Any]:
    """Build everything, then time it.

    Args:
        threads: thread counts to compare.
        rounds: see `engines.measure`.
        block: likewise.
    """
    torch.set_num_threads(max(threads))
    exact, few, narrow = (
        random_detector(TEACHER_CHANNELS),
        random_detector(FAST_DIRECTIONS),
        random_detector(FAST_DIRECTIONS, FAST_STUDENT_WIDTH),
    )
    shown = pictures(SHOWN)
    other = model_of(exact)
    worst = agree(exact, other, shown)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        onnx = Path(folder) / "anomalib.onnx"
        to_onnx(other, onnx, SIZE)
        theirs = {"anomalib fp32": to_openvino(onnx, None), "anomalib int8": to_openvino(onnx, shown)}
        mine = {
            "onbelt int8 exact": ("int8", quantized(exact, shown)),
            "onbelt int8 64 directions": ("int8", quantized(few, shown)),
            "onbelt int8 64 directions, half student": ("int8", quantized(narrow, shown)),
            "onbelt int8 64 directions, differences twofold": ("int8", quantized(few, shown, ST_DIFFERENCE, AE_DIFFERENCE)),
            "onbelt fp32": ("fp32", passes_of(exact).float_graph()),
        }
        tables = {}
        for count in threads:
            engines: dict[str, Any] = {
                name: stack.enter_context(build_engine(model, SIZE, precision, "openvino", count))
                for name, (precision, model) in mine.items()
            }
            engines |= {
                "anomalib fp32": Compiled(theirs["anomalib fp32"], "anomalib fp32", count, "f32"),
                "anomalib int8": Compiled(theirs["anomalib int8"], "anomalib int8", count),
            }
            unasked = Compiled(theirs["anomalib fp32"], UNASKED, count)
            if unasked.precision != "f32":
                engines[UNASKED] = unasked
            engines[ORT] = InOnnxRuntime(onnx, ORT, count)
            worst = max(worst, same_scores(engines["anomalib fp32"], engines[ORT], list(shown)))
            times = measure(engines, list(shown), rounds, block)
            tables[str(count)] = {name: row_of(taken) for name, taken in times.items()}
    return {
        "schema": 1,
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "onbelt": __version__,
        "anomalib": anomalib_version(),
        "python": platform.python_version(),
        "machine": asdict(this_machine()),
        "scores_apart": worst,
        "milliseconds": tables,
    }


def row_of(taken_ns: list[int]) -> dict[str, float]:
    """Times in ms of one engine: the median, the percentiles that so many frames carry, the fastest and the largest."""
    found = percentiles_of(np.array(taken_ns, np.int64))
    row = {"p50": found.p50, "largest": max(taken_ns) / 1e6, "fastest": min(taken_ns) / 1e6, "n": found.n}
    return row | {key: getattr(found, key) for key, _, least in PERCENTILES if found.n >= least}


def same_scores(one: Any, other: Any, frames: list[Frame8]) -> float:
    """Largest relative difference of two engines' scores.

    Raises:
        EngineError: more than 1e-3: they do not run the same network, and the comparison means nothing.
    """
    worst = max(abs(one.infer(frame) - other.infer(frame)) / abs(one.infer(frame)) for frame in frames)
    if not worst <= 1e-3:
        raise EngineError(
            f"expected {one.name} and {other.name} to give the same scores, they differ by {worst:.2g} of the score"
        )
    return float(worst)


def ratios(table: dict[str, dict[str, float]]) -> list[tuple[str, float, float]]:
    """(what, ratio of the medians, the aim) of the engines that ran."""
    return [(what, table[mine]["p50"] / table[theirs]["p50"], aim) for what, mine, theirs, aim in AIMS if theirs in table]


def columns_of(table: dict[str, dict[str, float]]) -> list[tuple[str, str]]:
    """(key, name) of the times to show: of percentiles those that every row carries, and the largest where one is missing."""
    carried = [(key, shown) for key, shown, _ in PERCENTILES if all(key in row for row in table.values())]
    missing = [] if len(carried) == len(PERCENTILES) else [("largest", "largest")]
    return [("p50", "p50"), *carried, *missing, ("fastest", "fastest")]


def page(found: dict[str, Any], command: str) -> str:
    """The findings as Markdown."""
    lines = [
        "# Beside anomalib",
        "EfficientAD-S at 256 px, batch 1, the same weights on both sides, but for the half student, a network of its own; "
        "OpenVINO on the CPU where a row does not say otherwise, all engines in turn in one run. "
        "Ours takes uint8 pixels; anomalib's input is converted beforehand, untimed. anomalib's own model class "
        f"({found['anomalib']}), exported by its steps; scores in float agree to {found['scores_apart']:.1g} of the score.",
        f"`{command}`, {this_machine()}, {found['date_utc']}, seed 0.",
    ]
    for count, table in found["milliseconds"].items():
        columns = columns_of(table)
        lines += [
            "",
            f"## {count} thread{'s' if count != '1' else ''}",
            f"| engine | {' | '.join(f'{shown} ms' for _, shown in columns)} | n |",
            "|---" * (len(columns) + 2) + "|",
        ]
        lines += [
            f"| {name} | {' | '.join(f'{row[key]:.1f}' for key, _ in columns)} | {row['n']} |"
            for name, row in sorted(table.items(), key=lambda one: float(one[1]["p50"]))
        ]
        lines += ["", "| ratio of medians | measured | aim | |", "|---|---|---|---|"]
        lines += [
            f"| {what} | {ratio:.3f} | {aim:.2f} | {'reached' if ratio <= aim else 'missed'} |"
            for what, ratio, aim in ratios(table)
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="blocks for each engine (default: %(default)s)")
    parser.add_argument("--block", type=int, default=8, help="timed frames in a block (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts (default: 1 2, as far as there are cores)")
    parser.add_argument("--out", type=Path, default=DOC.with_suffix(".json"), help="JSON to write (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write {DOC} too")
    args = parser.parse_args()
    if args.rounds < 1 or args.block < 1:
        parser.error(f"expected --rounds and --block of at least 1, got {args.rounds} and {args.block}")
    threads = args.threads or [count for count in (1, 2) if count <= available_cores()]
    logging.getLogger("nncf").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # of the exporters on the other side
    try:
        found = compare(threads, args.rounds, args.block)
    except OnbeltError as error:
        print(f"against_anomalib: {error}", file=sys.stderr)
        return error.exit_code
    text = page(found, "python benchmarks/against_anomalib.py " + " ".join(sys.argv[1:]))
    print(text)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    if args.write:
        DOC.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
