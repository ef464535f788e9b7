"""Build a bundle's TensorRT engine ahead of time, prove it, time it and show where its time goes.

onbelt engine bottle.onbelt
onbelt engine bottle.onbelt --frames 10000 --profile 200 --pause 60 --json
onbelt engine bottle.onbelt --only-look

A build takes minutes on a Jetson; built ahead, the daemon starts at once: the engine is kept under a key of everything it
depends on (docs/jetson.md). Settings are those of /etc/onbelt/tensorrt.toml, for this command and the daemon alike.
Exit status: 0 it is built and its golden frames hold, 1 it cannot be built or run here, 2 usage, 3 the bundle is not to be used
or a golden frame does not hold.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.commands._bundle import positive
from edge.engine.base import LayerTime
from edge.engine.onnx_file import check_contract
from edge.engine.profile import profile_lines, profile_report
from edge.engine.proof import measure_inference, replay_golden
from edge.engine.tensorrt import opening
from edge.engine.tensorrt.quantization import Convolutions, check_quantization
from edge.engine.tensorrt.settings import SETTINGS, load_settings
from edge.errors import BundleError

EXIT_FAILED = 3
_SHOWN_LAYERS = 20
_GPU_RUNS = 51  # a median of these


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the model file, NAME.onbelt")
    parser.add_argument(
        "--trust", type=Path, action="append", metavar="DIR", help="folder of trusted keys (*.pub), instead of the usual ones"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help=f"another file than {SETTINGS}; the daemon reads that one and no other"
    )
    parser.add_argument("--rebuild", action="store_true", help="build even where a kept engine would do")
    parser.add_argument(
        "--only-look", action="store_true", help="say what TensorRT would compute in INT8, and stop: needs no GPU and no TensorRT"
    )
    parser.add_argument("--frames", type=positive, default=1000, metavar="N", help="inferences to time (default: %(default)s)")
    parser.add_argument("--profile", type=positive, metavar="N", help="time every layer too, averaged over N runs")
    parser.add_argument(
        "--pause", type=positive, metavar="SECONDS", help="wait so long and time the first frame after it: what a pause costs"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Build and report."""
    trust = TrustStore.from_folders(args.trust) if args.trust else default_trust()
    bundle = open_bundle(args.bundle, trust)
    if args.only_look:
        found = {"bundle": str(bundle.path), **_quantized(check_quantization(bundle.model))}
        holds = True
    else:
        found, holds = measure(bundle, args)
    if args.json:
        print(json.dumps(found, allow_nan=False))
    else:
        _show(found)
    return 0 if holds else EXIT_FAILED


def measure(bundle: Bundle, args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Open the engine, replay the golden frames, time it.

    Returns:
        The report, and whether the golden frames hold.

    Raises:
        EngineError: no GPU, no TensorRT, or it cannot build or run the model.
        BundleError: the model breaks the graph contract, or a golden picture cannot be decoded.
    """
    manifest = bundle.manifest
    try:
        graph = check_contract(bundle.model, manifest.size, manifest.precision)
    except BundleError as exc:
        raise BundleError(f"{bundle.path}: {exc}", member=exc.member) from exc
    opened = opening.open_tensorrt(
        bundle.model,
        graph,
        load_settings(args.settings),
        rebuild=args.rebuild,
        report=None if args.json else _progress,
    )
    with opened.engine as engine:
        golden = replay_golden(bundle, engine)
        frames = [bundle.picture(one.picture) for one in bundle.golden]
        times = measure_inference(engine, frames, args.frames)
        found: dict[str, Any] = {
            "bundle": str(bundle.path),
            "engine": engine.name,
            "gpu": asdict(opened.gpu),
            "power_mode": opening.power_mode(),
            "built_s": round(opened.built_s, 1),
            "plan_bytes": opened.plan_bytes,
            "cache": str(opened.cache),
            "cuda_graph": engine.is_graph,
            **_quantized(opened.convolutions),
            "golden": {
                "ok": all(one.holds for one in golden),
                "frames": len(golden),
                "largest_difference": max(one.difference for one in golden),
                "agreement": manifest.agreement,
            },
            "infer_ms": asdict(times),
            "gpu_ms": round(float(np.median([engine.gpu_ms() for _ in range(_GPU_RUNS)])), 4),
            "budget_ms": manifest.budget_ms,
        }
        if args.pause:
            time.sleep(args.pause)
            begin = time.perf_counter_ns()
            engine.infer(frames[0])
            found["after_pause_ms"] = (time.perf_counter_ns() - begin) / 1e6
        if args.profile:
            found["layers"] = profile_report(engine.profile(frames[0], args.profile))
    return found, bool(found["golden"]["ok"])


def _quantized(convolutions: Convolutions) -> dict[str, Any]:
    return {"int8": list(convolutions.integer), "float": convolutions.floating}


def _progress(phase: str, step: int, steps: int) -> bool:
    if sys.stderr.isatty():
        print(f"\r{phase[:60]:60} {step} of {steps} ", end="", file=sys.stderr, flush=True)
    return True


def _show(found: dict[str, Any]) -> None:
    print(f"{found['bundle']}: {len(found['int8'])} convolutions in INT8, {len(found['float'])} in float")
    for name, why in found["float"].items():
        print(f"  {name} stays in float: {why}")
    if "engine" not in found:
        return
    gpu, golden, times = found["gpu"], found["golden"], found["infer_ms"]
    compute = ".".join(map(str, gpu["compute"]))
    print(f"  engine   {found['engine']}, SM {compute}, {gpu['multiprocessors']} multiprocessors{_mode(found['power_mode'])}")
    how = f"built in {found['built_s']} s" if found["built_s"] else "kept from before"
    print(f"  plan     {how}, {found['plan_bytes']} bytes, {found['cache']}")
    print(
        f"  golden   {'ok' if golden['ok'] else 'FAILED'}, {golden['frames']} frames, largest difference "
        f"{golden['largest_difference']:.2g} of the limit, allowed {golden['agreement']:.2g}"
    )
    print(
        f"  time     p50 {times['p50']:.3f} ms, p99 {times['p99']:.3f}, p99.9 {times['p999']:.3f} (n {times['n']}); on the GPU "
        f"{found['gpu_ms']:.3f}; {'one CUDA graph' if found['cuda_graph'] else 'kernel by kernel'}; "
        f"budget {found['budget_ms']:g} ms"
    )
    if "after_pause_ms" in found:
        print(f"  pause    first frame after it {found['after_pause_ms']:.3f} ms")
    layers = [LayerTime(one["name"], one["mean_ms"], one["precision"]) for one in found.get("layers", [])]
    for line in profile_lines(layers, _SHOWN_LAYERS):
        print(f"  {line}")


def _mode(mode: str) -> str:
    return f", power mode {mode}" if mode else ""
