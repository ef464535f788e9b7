"""Scores of the shipped bundle's golden frames on another architecture against this machine's.

    python benchmarks/arm64_scores.py --json                       # here, one object
    python benchmarks/arm64_scores.py --compare THERE.json --report docs/arm64.md

`tests/arm64.sh` runs the first form in an arm64 system under emulation and the second outside of it.
"""

import argparse
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import made_by  # noqa: E402
from edge.bundle.reader import open_bundle  # noqa: E402
from edge.bundle.signing import default_trust  # noqa: E402
from edge.engine import open_engine  # noqa: E402
from edge.errors import EngineError  # noqa: E402
from edge.judge import Judge  # noqa: E402

BUNDLE = ROOT / "edge" / "data" / "demo.onbelt"
ENGINES = ("onnxruntime", "openvino")


def scores(frames: int) -> dict[str, Any]:
    """Score/limit and verdict of so many golden frames by every engine that runs here; why one does not."""
    bundle = open_bundle(BUNDLE, default_trust())
    judge = Judge(bundle.manifest, None)
    found: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version()}
    for name in ENGINES:
        try:
            with open_engine(bundle, name, 1) as engine:
                judged = [judge.judge(engine.infer(bundle.picture(one.picture))) for one in bundle.golden[:frames]]
        except EngineError as exc:
            found[name] = str(exc)
            continue
        found[name] = [[one.cal, one.verdict] for one in judged]
    return found


def compare(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """One row of the table per engine."""
    rows = []
    for name in ENGINES:
        a, b = here[name], there[name]
        if isinstance(a, str) or isinstance(b, str):
            rows.append(f"| {name} | {b if isinstance(b, str) else a} | - | - |")
            continue
        differences = [abs(x[0] - y[0]) for x, y in zip(a, b, strict=True)]
        flips = [x[0] for x, y in zip(a, b, strict=True) if x[1] != y[1]]
        where = f", at {' and '.join(f'{one:.7f}' for one in flips)} of the limit" if flips else ""
        rows.append(f"| {name} | {len(a)} | {max(differences):.2e} | {len(flips)}{where} |")
    return rows


def page(here: dict[str, Any], there: dict[str, Any], outcome: str) -> str:
    """docs/arm64.md."""
    return "\n".join(
        [
            "# On the Jetson's architecture",
            made_by("test-arm64"),
            f"Unit tests of `edge` and the shipped bundle in a Debian system of {there['machine']} (Python {there['python']})",
            "under qemu's user-mode emulation: for right and wrong, never for speed; no GPU, no TensorRT, no real Jetson.",
            "",
            f"Tests: {outcome}",
            "",
            f"Golden frames of the shipped bundle, {there['machine']} against {here['machine']}:",
            "",
            "| engine | frames | largest difference of score/limit | verdicts that differ |",
            "|---|---|---|---|",
            *compare(here, there),
            "",
            "One golden frame is the good part that set the limit: the last bit of its score decides its verdict.",
            "",
        ]
    )


def main() -> int:
    """Print the scores, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print this machine's scores as one JSON object")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="scores of the other machine")
    parser.add_argument("--tests", type=Path, metavar="FILE", help="output of pytest there, for the page")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--frames", type=int, default=8, metavar="N", help="golden frames: under emulation each takes seconds")
    args = parser.parse_args()
    here = scores(args.frames)
    if args.json:
        print(json.dumps(here))
        return 0
    if args.compare is None:
        parser.error("expected --json or --compare FILE")
    there = json.loads(args.compare.read_text())
    ended = (
        re.findall(r"^(?:=+ )?(\d+ (?:passed|failed).*?)(?: =+)?$", args.tests.read_text(), re.MULTILINE) if args.tests else []
    )
    text = page(here, there, ended[-1] if ended else "not run")
    print(text)
    if args.report:
        args.report.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
