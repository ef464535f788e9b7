"""Latency of the engines on this machine, interleaved in one run, so that whatever else it does hits all of them alike.

    python benchmarks/engines.py --bundle edge/data/demo.onbelt
    python benchmarks/engines.py --bundle edge/data/demo.onbelt --rounds 3 --block 2 --out /tmp/bench.json
    python benchmarks/engines.py --bundle edge/data/demo.onbelt --beside tray-lgfdr.onbelt --out docs/bench/lgfdr-latency.json

Every configuration is built first; then rounds follow in which each runs one block of frames, the first frame of a block
untimed (its caches belong to the configuration before it). The order turns by one each round. Medians are over all timed
frames. Prints a table with machine and date and writes the same as JSON.
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge import __version__
from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.engine import Engine, open_engine
from edge.engine.machine import available_cores, this_machine
from edge.engine.proof import percentiles_of
from edge.errors import OnbeltError
from edge.preprocess import Frame8

BACKENDS = ("openvino", "onnxruntime")


def measure(engines: dict[str, Engine], frames: dict[str, list[Frame8]], rounds: int, block: int) -> dict[str, list[int]]:
    """Time all engines in turn.

    Args:
        engines: what to time, by label.
        frames: (size, size, 3) uint8 frames taken in turn, by the same labels.
        rounds: how often each engine gets a block.
        block: timed frames in a block; one more is run before them.

    Returns:
        Times in nanoseconds by label, rounds * block of them.
    """
    times: dict[str, list[int]] = {label: [] for label in engines}
    labels = list(engines)
    for turn in range(rounds):
        for label in labels[turn % len(labels) :] + labels[: turn % len(labels)]:
            engine = engines[label]
            for index in range(-1, block):
                frame = frames[label][(turn * block + index) % len(frames[label])]
                begin = time.perf_counter_ns()
                engine.infer(frame)
                taken = time.perf_counter_ns() - begin
                if index >= 0:
                    times[label].append(taken)
        print(f"\rround {turn + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return times


def described(bundle: Bundle) -> dict[str, Any]:
    """What a bundle is."""
    manifest = bundle.manifest
    said = {"name": manifest.name, "model": manifest.model, "precision": manifest.precision, "size": manifest.size}
    return {**said, "sha256": bundle.sha256}


def report(
    bundles: list[Bundle], of: dict[str, Bundle], engines: dict[str, Engine], times: dict[str, list[int]]
) -> dict[str, Any]:
    rows = []
    for label, engine in engines.items():
        found = percentiles_of(np.array(times[label], np.int64))
        rows.append(
            {
                "engine": engine.name,
                **({"model": of[label].manifest.model, "size": of[label].manifest.size} if len(bundles) > 1 else {}),
                "median_ms": round(found.p50, 3),
                "p99_ms": round(found.p99, 3),
                "fastest_ms": round(min(times[label]) / 1e6, 3),
                "n": found.n,
            }
        )
    return {
        "schema": 1,
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "onbelt": __version__,
        "machine": asdict(this_machine()),
        "bundle": described(bundles[0]),
        **({"beside": [described(other) for other in bundles[1:]]} if len(bundles) > 1 else {}),
        "engines": rows,
    }


def show(found: dict[str, Any]) -> None:
    print(f"{this_machine()}, {found['date_utc']}")
    for bundle in [found["bundle"], *found.get("beside", [])]:
        print(f"{bundle['name']}: {bundle['model']} {bundle['precision']}, {bundle['size']} px, onbelt {found['onbelt']}")
    names = [" ".join(str(row[key]) for key in ("engine", "model", "size") if key in row) for row in found["engines"]]
    width = max(map(len, names))
    print(f"{'engine':{width}}  {'median ms':>10}{'p99 ms':>10}{'fastest':>10}{'n':>6}  against the fastest")
    best = min(row["median_ms"] for row in found["engines"])
    for row, name in sorted(zip(found["engines"], names, strict=True), key=lambda one: float(one[0]["median_ms"])):
        print(
            f"{name:{width}}  {row['median_ms']:10.2f}{row['p99_ms']:10.2f}{row['fastest_ms']:10.2f}{row['n']:6}"
            f"  {row['median_ms'] / best:.2f}x"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="the model to run, NAME.onbelt")
    parser.add_argument(
        "--beside", type=Path, nargs="+", default=[], metavar="NAME.onbelt", help="others to time in the same run"
    )
    parser.add_argument(
        "--trust", type=Path, action="append", metavar="DIR", help="folder of trusted keys instead of the usual ones"
    )
    parser.add_argument("--rounds", type=int, default=20, help="blocks for each engine (default: %(default)s)")
    parser.add_argument("--block", type=int, default=5, help="timed frames in a block (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, nargs="+", help="thread counts to compare (default: 1 2, as far as there are cores)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/bench/engines.json"), help="JSON to write (default: %(default)s)")
    args = parser.parse_args()
    if args.rounds < 1 or args.block < 1:
        parser.error(f"expected --rounds and --block of at least 1, got {args.rounds} and {args.block}")
    threads = args.threads or [count for count in (1, 2) if count <= available_cores()]
    try:
        trust = TrustStore.from_folders(args.trust) if args.trust else default_trust()
        bundles = [open_bundle(path, trust) for path in (args.bundle, *args.beside)]
        wanted = [(backend, count, bundle) for backend in BACKENDS for count in threads for bundle in bundles]
        of = {f"{backend} {count} {bundle.sha256}": bundle for backend, count, bundle in wanted}
        frames = {label: [bundle.picture(golden.picture) for golden in bundle.golden] for label, bundle in of.items()}
        with ExitStack() as stack:
            engines = {
                f"{backend} {count} {bundle.sha256}": stack.enter_context(open_engine(bundle, backend, count))
                for backend, count, bundle in wanted
            }
            found = report(bundles, of, engines, measure(engines, frames, args.rounds, args.block))
    except OnbeltError as error:
        print(f"engines: {error}", file=sys.stderr)
        return error.exit_code
    show(found)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
