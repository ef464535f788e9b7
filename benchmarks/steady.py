"""Ten thousand camera frames through the engine: is it steady, does it grow, does it wake up, and what does the rest cost?

    python benchmarks/steady.py --bundle edge/data/demo.onbelt --write
    python benchmarks/steady.py --bundle edge/data/demo.onbelt --frames 20 --pause 1

Four aims: p99 of an inference at most 1.3 times its median; no growth of memory; the first frame after a pause within 1.5 times
the median; from a 1920x1200 camera frame to the verdict at most 3 ms more than the network's own time (medians of both, frame by
frame). A figure of a shared machine says more about its other work. Exit status 1 where an aim is missed.
"""

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path

from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.commands.bench import Measured, measure
from edge.engine.machine import this_machine
from edge.errors import OnbeltError

DOC = Path("docs/bench/steady.md")
FRAME_PX = (1920, 1200)
P99, GROWN_KIB, AFTER_PAUSE, BESIDE_MS = 1.3, 1024, 1.5, 3.0
"""Aims. A MiB over ten thousand frames is what allocators move; a leak of one map a frame would be 90."""


def aims(found: Measured) -> list[tuple[str, str, bool]]:
    """(what, measured, whether it is reached)."""
    infer, verdict = found.stages["infer"], found.stages["frame_to_verdict"]
    rows = [
        (f"p99 of an inference at most {P99} x p50", f"{infer.p99 / infer.p50:.2f}", infer.p99 <= P99 * infer.p50),
        (f"memory grown by at most {GROWN_KIB} KiB", f"{found.grown_kib} KiB", found.grown_kib <= GROWN_KIB),
        (
            f"{FRAME_PX[0]}x{FRAME_PX[1]} frame to verdict at most {BESIDE_MS:g} ms over the network",
            f"{verdict.p50 - infer.p50:.2f} ms",
            verdict.p50 - infer.p50 <= BESIDE_MS,
        ),
    ]
    if found.after_pause_ms is not None:
        ratio = found.after_pause_ms / verdict.p50
        rows.append((f"first frame after a pause within {AFTER_PAUSE} x p50", f"{ratio:.2f}", ratio <= AFTER_PAUSE))
    return rows


def page(found: Measured, command: str, frames: int, pause_s: int) -> str:
    """The findings as Markdown."""
    lines = [
        "# Steadiness",
        f"`{command}`, {found.engine}, {frames} frames of {FRAME_PX[0]}x{FRAME_PX[1]}, pause {pause_s} s, {this_machine()}, "
        f"{datetime.now(timezone.utc).isoformat(timespec='seconds')}.",
        "",
        "| stage | p50 ms | p99 ms | p99.9 ms |",
        "|---|---|---|---|",
        *(f"| {name} | {row.p50:.2f} | {row.p99:.2f} | {row.p999:.2f} |" for name, row in found.stages.items()),
        "",
        "| aim | measured | |",
        "|---|---|---|",
        *(f"| {what} | {measured} | {'reached' if reached else 'missed'} |" for what, measured, reached in aims(found)),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="the model to run, NAME.onbelt")
    parser.add_argument(
        "--trust", type=Path, action="append", metavar="DIR", help="folder of trusted keys instead of the usual ones"
    )
    parser.add_argument("--frames", type=int, default=10_000, help="frames to time (default: %(default)s)")
    parser.add_argument("--pause", type=int, default=60, help="seconds of silence before one more (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--write", action="store_true", help=f"write {DOC}")
    args = parser.parse_args()
    if args.frames < 1 or args.pause < 0:
        parser.error(f"expected --frames of at least 1 and --pause of at least 0, got {args.frames} and {args.pause}")
    try:
        bundle = open_bundle(args.bundle, TrustStore.from_folders(args.trust) if args.trust else default_trust())
        found = measure(bundle, "openvino", args.threads, args.frames, FRAME_PX, args.pause)
    except OnbeltError as error:
        print(f"steady: {error}", file=sys.stderr)
        return error.exit_code
    text = page(found, "python benchmarks/steady.py " + " ".join(sys.argv[1:]), args.frames, args.pause)
    print(text)
    if args.write:
        DOC.parent.mkdir(parents=True, exist_ok=True)
        DOC.write_text(text)
    return 0 if all(reached for *_, reached in aims(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
