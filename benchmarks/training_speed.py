"""How fast a training step is, beside the setting anomalib trains EfficientAD-S in; all interleaved in one run.

    python benchmarks/training_speed.py --report docs/training-speed.md
    python benchmarks/training_speed.py --rounds 2 --block 1
    python benchmarks/training_speed.py --tried shop/tray/train/good --size 128 --threads 1

anomalib's default is the paper's step (Algorithm 1: one picture, one natural picture, five passes) in fp32, NCHW, each network
called by itself. It is timed as that setting of our own step to the paper's letter, not with anomalib's code, whose import needs
torchvision. Ours beside it: the same step with channels last, both phases of the short recipe, and its student's phase with the
paper's width. Pictures are generated; what is on them costs no time. A block of steps of each, in turn, so that other work on
the machine hits all alike; medians of the rounds.

With --tried the short recipe's student alone, as it is and in the two ways torch offers to make a step faster: bf16 autocast of
its network, and torch.compile (docs/adr/0012). All start from one state and take the same steps on the same pictures.
"""

import argparse
import copy
import statistics
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.page import replace_block
from edge.engine.machine import this_machine
from edge.preprocess import fit
from training.features import teacher_statistics
from training.networks.detector import Detector
from training.networks.pdn import Pdn, PdnSize
from training.recipe import FastKnobs, RunConfig, make_config
from training.teacher.textures import generate_texture
from training.trainers.fast import FastTrainer
from training.trainers.paper import PaperTrainer

PICTURES = 24
"""Enough for three batches of the auto-encoder; what they show costs no time."""

PAPER_STEPS = 70_000

BEGIN, END = "<!-- measured: make training-speed -->", "<!-- end of measured training speed -->"


def detector_for(config: RunConfig, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> Detector:
    """An untrained detector with the statistics of an untrained teacher: speed does not depend on what weights say."""
    torch.manual_seed(0)
    detector = Detector(config.pdn, config.size, map_directions=config.map_directions, student_width=config.student_width)
    detector.teacher.load_state_dict(Pdn(PdnSize.SMALL).state_dict())
    mean, std = teacher_statistics(detector.teacher, frames, torch.device("cpu"))
    detector.teacher_mean.copy_(mean)
    detector.teacher_std.copy_(std)
    return detector


def make_settings(size: int) -> dict[str, tuple[Any, int]]:
    """Name -> (trainer, pictures a step)."""
    rng = np.random.default_rng(0)
    frames = np.stack([generate_texture(rng, size) for _ in range(PICTURES)])
    cpu = torch.device("cpu")

    def natural(_rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.asarray(frames[int(_rng.integers(0, len(frames)))], np.uint8)

    paper = make_config("dfsc-efficientad-s", size=size, recipe="paper")
    fast = make_config("dfsc-efficientad-s", size=size)
    assert isinstance(fast.knobs, FastKnobs)
    plain = PaperTrainer(paper, detector_for(paper, frames), frames, natural, cpu)
    ours = PaperTrainer(paper, detector_for(paper, frames), frames, natural, cpu)
    for network in (plain._detector.student, plain._detector.autoencoder, plain._detector.teacher):  # noqa: SLF001
        as_nchw(network)
    first = FastTrainer(fast, detector_for(fast, frames), frames, natural, cpu)
    second = copy.deepcopy(first)
    wide = make_config("dfsc-efficientad-s", size=size, changes=["student_width=1"])
    third = FastTrainer(wide, detector_for(wide, frames), frames, natural, cpu)
    for trainer in (second, third):
        trainer.step_number = fast.knobs.autoencoder_steps
    return {
        "the paper's step as anomalib runs it (fp32, NCHW)": (plain, 1),
        "the paper's step, channels last": (ours, 1),
        "short recipe, student of the paper's width": (third, fast.knobs.student_batch),
        "short recipe, auto-encoder": (first, fast.knobs.autoencoder_batch),
        "short recipe, student": (second, fast.knobs.student_batch),
    }


def as_nchw(network: torch.nn.Module) -> None:
    """Let a network compute as torch does unasked: a picture with channels last would make it do so, whatever its weights."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.register_forward_pre_hook(
        lambda _network, args: tuple(arg.contiguous() if isinstance(arg, torch.Tensor) else arg for arg in args)
    )


def make_tried(folder: Path, size: int) -> dict[str, tuple[Any, int]]:
    """The student's step as it is and as it was tried: name -> (trainer, pictures a step).

    Args:
        folder: its first PICTURES pictures are trained on.
        size: side of the picture in pixels.
    """
    paths = sorted(folder.glob("*.png"))[:PICTURES]
    if not paths:
        raise SystemExit(f"training_speed: expected pictures in {folder}, found no *.png")
    frames = np.stack([fit(np.asarray(Image.open(path).convert("RGB")), size) for path in paths])

    def natural(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return generate_texture(rng, size)

    config = make_config("dfsc-efficientad-s", size=size)
    assert isinstance(config.knobs, FastKnobs)
    plain = FastTrainer(config, detector_for(config, frames), frames, natural, torch.device("cpu"))
    plain.step_number = config.knobs.autoencoder_steps
    plain.step()  # the auto-encoder's vectors are stored once, before the copies are made
    autocast, compiled, both = (copy.deepcopy(plain) for _ in range(3))
    for trainer in (autocast, both):
        _cast(student_of(trainer))
    for trainer in (compiled, both):
        student_of(trainer).compile()
    settings = {"as it is": plain, "bf16 autocast": autocast, "torch.compile": compiled, "both": both}
    return {name: (trainer, config.knobs.student_batch) for name, trainer in settings.items()}


def student_of(trainer: FastTrainer) -> torch.nn.Module:
    """The network that is trained."""
    return trainer._student  # noqa: SLF001


def _cast(network: torch.nn.Module) -> None:
    """Let a network compute in bfloat16 where torch deems it safe; its weights and what it gives stay float32."""
    plain = network.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out: torch.Tensor = plain(x)
        return out.float()

    network.forward = forward


def measure(settings: dict[str, tuple[Any, int]], rounds: int, block: int) -> dict[str, float]:
    """Median seconds a step of each setting."""
    for name, (trainer, _) in settings.items():
        start = time.perf_counter()
        trainer.step()  # what the first step alone does is no step's cost
        print(f"first step of {name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    times: dict[str, list[float]] = {name: [] for name in settings}
    for done in range(rounds):
        for name, (trainer, _) in settings.items():
            start = time.perf_counter()
            for _ in range(block):
                trainer.step()
            times[name].append((time.perf_counter() - start) / block)
        print(f"round {done + 1} of {rounds}", file=sys.stderr, flush=True)
    return {name: statistics.median(values) for name, values in times.items()}


def report(medians: dict[str, float], settings: dict[str, tuple[Any, int]], size: int, command: str) -> str:
    """The table, and what the recipes take in all at these rates."""
    base_name, *_ = medians
    base = medians[base_name]
    knobs = FastKnobs()
    *_, autoencoder, student = medians.values()
    whole = knobs.autoencoder_steps * autoencoder + knobs.steps * student
    times = (knobs.autoencoder_steps + knobs.steps) * base / whole
    rows = [
        "| step | s a step | steps/s | times anomalib's | pictures/s |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {seconds:.3f} | {1 / seconds:.2f} | {base / seconds:.1f} | {settings[name][1] / seconds:.2f} |"
            for name, seconds in medians.items()
        ),
    ]
    day = datetime.now(timezone.utc).date()
    return "\n".join(
        [
            f"`{command}`, {this_machine()}, torch {torch.__version__} with {torch.get_num_threads()} threads, {day}, {size} px.",
            "",
            *rows,
            "",
            f"The whole short recipe ({knobs.autoencoder_steps} + {knobs.steps} steps) takes {whole / 60:.0f} min at these "
            f"rates: {times:.1f} times anomalib's steps/s. {PAPER_STEPS:,} steps as anomalib runs them take "
            f"{PAPER_STEPS * base / 3600:.0f} h.",
            "",
        ]
    )


def report_tried(medians: dict[str, float], command: str) -> str:
    """The table of what was tried."""
    base, *_ = medians.values()
    day = datetime.now(timezone.utc).date()
    rows = [f"| {name} | {seconds:.3f} | {seconds / base:.2f} |" for name, seconds in medians.items()]
    machine = f"{this_machine()}, torch {torch.__version__} with {torch.get_num_threads()} threads"
    return "\n".join(
        [
            f"`{command}`, {machine}, {day}.",
            "",
            "| student's step | s a step | of the step as it is |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Measures, prints, and writes the report where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the picture in pixels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each setting (default: %(default)s)")
    parser.add_argument("--block", type=int, default=3, help="steps a block (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="put the table between the markers of this page, too")
    parser.add_argument("--tried", type=Path, metavar="FOLDER", help="time what was tried instead, on pictures of this folder")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's choice)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.tried:
        medians = measure(make_tried(args.tried, args.size), args.rounds, args.block)
        print(report_tried(medians, "python benchmarks/training_speed.py " + " ".join(sys.argv[1:])))
        return 0
    settings = make_settings(args.size)
    medians = measure(settings, args.rounds, args.block)
    text = report(medians, settings, args.size, f"make training-speed (rounds {args.rounds}, blocks of {args.block})")
    print(text)
    if args.report:
        replace_block(args.report, BEGIN, END, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
