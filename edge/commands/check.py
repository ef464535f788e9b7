"""Prove a bundle on this machine: signature, hashes, golden frames, certificate and budget.

onbelt check bottle.onbelt
onbelt check bottle.onbelt --engine onnxruntime --frames 20 --json

Golden frames are judged again by the engine that would run here, and timed. Exit status: 0 everything holds, 1 the engine
cannot run here, 2 usage, 3 something does not hold.
"""

import argparse
import json
from dataclasses import asdict
from typing import Any

from edge.bundle.format import GOLDEN
from edge.bundle.reader import Bundle
from edge.commands._bundle import add_bundle_arguments, open_from, positive
from edge.engine import open_engine
from edge.engine.machine import this_machine
from edge.engine.proof import GoldenResult, Percentiles, measure_inference, replay_golden
from edge.errors import BundleError, EngineError

EXIT_FAILED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_bundle_arguments(parser)
    parser.add_argument(
        "--frames", type=positive, default=100, metavar="N", help="inferences to time against the budget (default: %(default)s)"
    )
    parser.add_argument("--no-budget", action="store_true", help="do not time the engine (a build machine is not the box)")


def run(args: argparse.Namespace) -> int:
    """Check and report."""
    try:
        return _check(args)
    except BundleError as exc:
        if not args.json:
            raise
        print(json.dumps({"bundle": str(args.bundle), "ok": False, "error": str(exc), "member": exc.member or None}))
        return EXIT_FAILED


def _check(args: argparse.Namespace) -> int:
    bundle = open_from(args)
    with open_engine(bundle, args.engine, args.threads) as engine:
        name = engine.name
        try:
            golden = replay_golden(bundle, engine)
        except EngineError as exc:
            # The engine was built, so it is the model that fails on a frame it was made with.
            raise BundleError(f"{bundle.path}: {GOLDEN}: a frame that must give scores gives none: {exc}", member=GOLDEN) from exc
        frames = [bundle.picture(one.picture) for one in bundle.golden]
        times = None if args.no_budget else measure_inference(engine, frames, args.frames)
    within = times is None or times.p99 <= bundle.manifest.budget_ms
    holds = all(one.holds for one in golden) and within
    if args.json:
        print(json.dumps(_report(bundle, name, golden, times, holds=holds), allow_nan=False))
    else:
        _print_report(bundle, name, golden, times, holds=holds)
    return 0 if holds else EXIT_FAILED


def _report(
    bundle: Bundle, engine: str, golden: tuple[GoldenResult, ...], times: Percentiles | None, *, holds: bool
) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "ok": holds,
        "name": manifest.name,
        "product": manifest.product,
        "version": manifest.version,
        "model": manifest.model,
        "precision": manifest.precision,
        "sha256": bundle.sha256,
        "key": bundle.key_id,
        "members": len(manifest.members),
        "inspected": manifest.inspected,
        "limit": {"raw": manifest.limit.raw, "kind": manifest.limit.kind, "false_reject": manifest.limit.false_reject},
        "engine": engine,
        "machine": str(this_machine()),
        "golden": {
            "ok": all(one.holds for one in golden),
            "frames": len(golden),
            "largest_difference": max(one.difference for one in golden),
            "agreement": manifest.agreement,
            "failed": [asdict(one) for one in golden if not one.holds],
        },
        "budget": None
        if times is None
        else {"ok": times.p99 <= manifest.budget_ms, "budget_ms": manifest.budget_ms, "infer_ms": asdict(times)},
        "certificate": bundle.certificate,
    }


def _print_report(
    bundle: Bundle, engine: str, golden: tuple[GoldenResult, ...], times: Percentiles | None, *, holds: bool
) -> None:
    manifest, limit = bundle.manifest, bundle.manifest.limit
    promise = (
        f"{limit.kind}: at most {100 * limit.false_reject:g} % of good parts rejected"
        + (f", confidence {limit.confidence:g}" if limit.kind == "guarantee" else "")
        + f", from {limit.n} good parts"
    )
    print(
        f"{bundle.path}: {manifest.name} ({manifest.product} version {manifest.version}, {manifest.model}, {manifest.precision})"
    )
    print(f"  signature    ok      by key {bundle.key_id[:16]}")
    print(f"  hashes       ok      {len(manifest.members)} members, manifest sha256 {bundle.sha256[:16]}")
    print(f"  limit                {limit.raw:.6g}, {promise}")
    if manifest.inspected < 1:
        print(f"  region               {manifest.inspected:.0%} of the picture is inspected, nothing beside it is seen")
    failed = [one for one in golden if not one.holds]
    worst = max(one.difference for one in golden)
    print(
        f"  golden       {_word(not failed)}  {len(golden) - len(failed)} of {len(golden)} frames on {engine}; "
        f"largest difference {worst:.2g} of the limit, allowed {manifest.agreement:.2g}"
    )
    for one in failed:
        print(f"      {one.picture}: expected raw {one.expected[0]:.6g}, got {one.got[0]:.6g}")
    if times is None:
        print("  budget       not timed")
    else:
        print(
            f"  budget       {_word(times.p99 <= manifest.budget_ms)}  p99 {times.p99:.1f} ms of {manifest.budget_ms:g} ms "
            f"(p50 {times.p50:.1f}, n {times.n}) on {this_machine()}"
        )
    # It speaks of the model, not of this machine: whoever publishes models decides whether to ship one that is not equal.
    print(f"  certificate  {'NOT equal to float' if bundle.certificate.get('equal') is False else 'as signed'}")
    for line in _flat(bundle.certificate):
        print(f"      {line}")
    print("everything holds" if holds else "NOT to be used on this machine")


def _word(good: object) -> str:
    return "ok    " if good else "FAILED"


def _flat(value: object, name: str = "") -> list[str]:
    """A nested record as lines `a.b: value`; long lists are counted, not printed."""
    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in _flat(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list) and len(value) > 8:
        return [f"{name}: {len(value)} values"]
    return [f"{name}: {f'{value:.6g}' if isinstance(value, float) else value}"]
