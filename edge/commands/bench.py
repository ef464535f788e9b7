"""Measure this machine's latency with a bundle, stage by stage.

onbelt bench bottle.onbelt
onbelt bench bottle.onbelt --frames 20 --threads 1 --engine onnxruntime --json
onbelt bench bottle.onbelt --frames 10000 --pause 60
onbelt bench bottle.onbelt --profile 50

Stages of each camera frame (default 1920x1200, made from the bundle's golden pictures): fit (resize to the model's input),
infer (the engine), judge (verdict, p-value, regions). frame_to_verdict is their sum as it was measured, frame by frame.
Percentiles are nearest-rank; p99.9 of fewer than 1000 frames is the largest time seen. Memory is what the process holds more
after the last frame than after the first hundred; with --pause the first frame after a silence is timed too.
--profile shows the slowest layers by the engine's own counters: mean time, share of all layers, the numbers the kernel takes in
(int8, float, - where the engine does not tell) and name. Counting costs time, and so is done after all else, on a second copy of
the model.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edge.bundle.reader import Bundle
from edge.commands._bundle import add_bundle_arguments, open_from, positive
from edge.engine import Engine, LayerTime, open_engine
from edge.engine.machine import this_machine
from edge.engine.profile import profile_lines, profile_report
from edge.engine.proof import WARM_UP_FRAMES, Percentiles, percentiles_of
from edge.judge import Judge
from edge.preprocess import Frame8, fit

SETTLED_FRAMES = 100  # by then every buffer has been made
SHOWN_LAYERS = 12
STAGES = ("fit", "infer", "judge", "frame_to_verdict")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_bundle_arguments(parser)
    parser.add_argument("--frames", type=positive, default=300, metavar="N", help="frames to time (default: %(default)s)")
    parser.add_argument(
        "--width", type=positive, default=1920, metavar="PX", help="width of the camera's frame (default: %(default)s)"
    )
    parser.add_argument(
        "--height", type=positive, default=1200, metavar="PX", help="height of the camera's frame (default: %(default)s)"
    )
    parser.add_argument(
        "--pause", type=positive, default=0, metavar="S", help="seconds of silence before one more frame is timed (default: none)"
    )
    parser.add_argument(
        "--profile",
        type=positive,
        default=0,
        metavar="N",
        help="time every layer too, averaged over N runs (default: no profile)",
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured.

    Attributes:
        engine: its name. stages: times of each of STAGES. grown_kib: memory the process holds more than after 100 frames.
        after_pause_ms: frame to verdict of the first frame after the pause, None without one.
        layers: of the profile, in the order they run; empty without one.
    """

    engine: str
    stages: dict[str, Percentiles]
    grown_kib: int
    after_pause_ms: float | None
    layers: tuple[LayerTime, ...]


def run(args: argparse.Namespace) -> int:
    """Measure and report."""
    bundle = open_from(args)
    found = measure(bundle, args.engine, args.threads, args.frames, (args.width, args.height), args.pause, args.profile)
    if args.json:
        keys = ("p50", "p99", "p999")
        report = {f"{stage}_ms": {key: getattr(times, key) for key in keys} for stage, times in found.stages.items()}
        about = {"bundle": str(bundle.path), "model": bundle.manifest.model, "frame": [args.width, args.height]}
        steady = {"grown_kib": found.grown_kib, "pause_s": args.pause, "after_pause_ms": found.after_pause_ms}
        profile = {"layers": profile_report(found.layers)} if args.profile else {}
        print(
            json.dumps(
                {
                    "engine": found.engine,
                    **report,
                    "n": args.frames,
                    **steady,
                    **profile,
                    **about,
                    "machine": asdict(this_machine()),
                }
            )
        )
        return 0
    print(f"{bundle.manifest.name} on {found.engine}, {args.frames} frames of {args.width}x{args.height}, {this_machine()}")
    print(f"{'ms':18}{'p50':>10}{'p99':>10}{'p99.9':>10}{'p99/p50':>10}")
    for stage, times in found.stages.items():
        print(f"{stage:18}{times.p50:10.3f}{times.p99:10.3f}{times.p999:10.3f}{times.p99 / times.p50:10.2f}")
    if found.after_pause_ms is not None:
        ratio = found.after_pause_ms / found.stages["frame_to_verdict"].p50
        print(f"first frame after {args.pause} s: {found.after_pause_ms:.3f} ms, {ratio:.2f} times the median")
    print(f"memory grown by {found.grown_kib} KiB")
    if args.profile:
        _print_profile(found.layers, args.profile)
    return 0


def _print_profile(layers: Sequence[LayerTime], runs: int) -> None:
    print(f"layers, mean of {runs} runs with counters, {sum(layer.mean_ms for layer in layers):.3f} ms in all:")
    for line in profile_lines(layers, SHOWN_LAYERS):
        print(line)


def measure(
    bundle: Bundle,
    backend: str,
    threads: int | None,
    n: int,
    frame_px: tuple[int, int],
    pause_s: float = 0.0,
    profile_runs: int = 0,
) -> Measured:
    """Time every stage.

    Args:
        bundle: a verified bundle.
        backend: engine, as `open_engine` takes it.
        threads: CPU threads, as `open_engine` takes them.
        n: frames to time.
        frame_px: width and height of the camera's frame.
        pause_s: silence before one more frame; 0 for none.
        profile_runs: runs the layers are averaged over; 0 for no profile.

    Raises:
        EngineError: the engine cannot be built or fails.
    """
    judge = Judge(bundle.manifest)
    frames = _camera_frames(bundle, frame_px)
    stamps = np.empty((n, len(STAGES)), np.int64)
    settled_kib, after_pause_ms = 0, None
    with open_engine(bundle, backend, threads) as engine:
        for turn in range(-WARM_UP_FRAMES, n):
            taken = _stages(engine, judge, frames[turn % len(frames)])
            if turn >= 0:
                stamps[turn] = taken
            if turn == min(SETTLED_FRAMES, n) - 1:
                settled_kib = _resident_kib()
        grown_kib = _resident_kib() - settled_kib
        if pause_s:
            time.sleep(pause_s)
            after_pause_ms = _stages(engine, judge, frames[0])[-1] / 1e6
        stages = {stage: percentiles_of(stamps[:, column]) for column, stage in enumerate(STAGES)}
        layers = engine.profile(fit(frames[0], engine.size), profile_runs) if profile_runs else ()
        return Measured(engine.name, stages, grown_kib, after_pause_ms, layers)


def _stages(engine: Engine, judge: Judge, frame: Frame8) -> tuple[int, int, int, int]:
    """Nanoseconds of each of STAGES for one frame."""
    start = time.perf_counter_ns()
    fitted = fit(frame, engine.size)
    after_fit = time.perf_counter_ns()
    scores = engine.infer(fitted)
    after_infer = time.perf_counter_ns()
    judge.judge(scores)
    end = time.perf_counter_ns()
    return after_fit - start, after_infer - after_fit, end - after_infer, end - start


def _resident_kib() -> int:
    """Memory this process holds (proc(5), statm: the second number counts pages)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def _camera_frames(bundle: Bundle, frame_px: tuple[int, int]) -> list[Frame8]:
    pictures = [bundle.picture(golden.picture) for golden in bundle.golden[:8]]  # eight are enough variety, and 55 MB
    return [np.asarray(Image.fromarray(one).resize(frame_px, Image.Resampling.BILINEAR)) for one in pictures]
