"""Measure this machine's latency with a bundle, stage by stage.

onbelt bench bottle.onbelt
onbelt bench bottle.onbelt --frames 20 --threads 1 --engine onnxruntime --json

Stages of each camera frame (default 1920x1200, made from the bundle's golden pictures): fit (resize to the model's input),
infer (the engine), judge (verdict, p-value, regions). frame_to_verdict is their sum as it was measured, frame by frame.
Percentiles are nearest-rank; p99.9 of fewer than 1000 frames is the largest time seen.
"""

import argparse
import json
import time
from dataclasses import asdict

import numpy as np
from PIL import Image

from edge.bundle.reader import Bundle
from edge.commands._bundle import add_bundle_arguments, open_from, positive
from edge.engine import open_engine
from edge.engine.machine import this_machine
from edge.engine.proof import WARM_UP_FRAMES, Percentiles, percentiles_of
from edge.judge import Judge
from edge.preprocess import Frame8, fit

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


def run(args: argparse.Namespace) -> int:
    """Measure and report."""
    bundle = open_from(args)
    name, stages = measure(bundle, args.engine, args.threads, args.frames, (args.width, args.height))
    if args.json:
        report = {f"{stage}_ms": {key: getattr(times, key) for key in ("p50", "p99", "p999")} for stage, times in stages.items()}
        about = {"bundle": str(bundle.path), "model": bundle.manifest.model, "frame": [args.width, args.height]}
        print(json.dumps({"engine": name, **report, "n": args.frames, **about, "machine": asdict(this_machine())}))
        return 0
    print(f"{bundle.manifest.name} on {name}, {args.frames} frames of {args.width}x{args.height}, {this_machine()}")
    print(f"{'ms':18}{'p50':>10}{'p99':>10}{'p99.9':>10}")
    for stage, times in stages.items():
        print(f"{stage:18}{times.p50:10.3f}{times.p99:10.3f}{times.p999:10.3f}")
    return 0


def measure(
    bundle: Bundle, backend: str, threads: int | None, n: int, frame_px: tuple[int, int]
) -> tuple[str, dict[str, Percentiles]]:
    """Time every stage.

    Args:
        bundle: a verified bundle.
        backend: engine, as `open_engine` takes it.
        threads: CPU threads, as `open_engine` takes them.
        n: frames to time.
        frame_px: width and height of the camera's frame.

    Returns:
        The engine's name, and the times of each of STAGES.

    Raises:
        EngineError: the engine cannot be built or fails.
    """
    judge = Judge(bundle.manifest)
    frames = _camera_frames(bundle, frame_px)
    stamps = np.empty((n, len(STAGES)), np.int64)
    with open_engine(bundle, backend, threads) as engine:
        for turn in range(-WARM_UP_FRAMES, n):
            frame = frames[turn % len(frames)]
            start = time.perf_counter_ns()
            fitted = fit(frame, engine.size)
            after_fit = time.perf_counter_ns()
            scores = engine.infer(fitted)
            after_infer = time.perf_counter_ns()
            judge.judge(scores)
            end = time.perf_counter_ns()
            if turn >= 0:
                stamps[turn] = (after_fit - start, after_infer - after_fit, end - after_infer, end - start)
        return engine.name, {stage: percentiles_of(stamps[:, column]) for column, stage in enumerate(STAGES)}


def _camera_frames(bundle: Bundle, frame_px: tuple[int, int]) -> list[Frame8]:
    pictures = [bundle.picture(golden.picture) for golden in bundle.golden[:8]]  # eight are enough variety, and 55 MB
    return [np.asarray(Image.fromarray(one).resize(frame_px, Image.Resampling.BILINEAR)) for one in pictures]
