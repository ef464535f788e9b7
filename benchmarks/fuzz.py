"""Fuzz everything the updater reads from others, with atheris: does anything but an error of ours ever come out?

    python benchmarks/fuzz.py --seconds 60 --report docs/fuzz.md     # each target in a process of its own
    python benchmarks/fuzz.py --only bundle --seconds 10

A target gets bytes from libFuzzer, guided by the branches they reach. Whatever is no bundle, no metadata, no message must end as
the error that is documented for it, and nothing that was altered may be believed. Half of the targets sign what the fuzzer
made, so that it gets behind the signature: what a stolen key could write must not break the reader either.

Exit status: 0 nothing was found, 1 something was (the input is printed), 2 atheris is not installed (pip install 'onbelt[fuzz]').
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the fixtures are test code

from benchmarks.page import made_by  # noqa: E402

TARGETS = {
    "bundle": "a bundle's bytes, as they come from a download or a stick",
    "member": "one member of a bundle, signed by a trusted key",
    "channel": "a channel document whose hash was right",
    "state": "the updater's state file",
    "desired": "a desired state from the broker",
    "desired-signed": "the same, signed by a trusted operator",
    "reported": "a box's report, as the fleet reads it",
    "carried": "the index of a repository on the broker",
    "part": "the head of a part on its way to the shadow",
    "limit": "a limit file, signed by a trusted key",
    "tuf": "a metadata file of any role, as a server gives it",
    "tuf-signed": "the same, signed by the role's own keys",
}
_RUNS = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERAGE = re.compile(r"cov: (\d+)")


class Fuzzed(NamedTuple):
    """One target: what is done with the fuzzer's bytes, and where it begins."""

    run: Callable[[bytes], None]
    seeds: list[bytes]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="of each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer (default: %(default)s)")
    parser.add_argument("--only", choices=TARGETS, help="this target alone")
    parser.add_argument("--report", type=Path, help="page to write")
    parser.add_argument("--inside", choices=TARGETS, help=argparse.SUPPRESS)  # the process of one target
    args = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install 'onbelt[fuzz]' (there are no wheels for every Python)", file=sys.stderr)
        return 2
    if args.inside:
        return _inside(atheris, args)
    rows, found = [], False
    for name in [args.only] if args.only else TARGETS:
        row = _outside(name, args)
        found |= bool(row["found"])
        rows.append(row)
        print(json.dumps(row), flush=True)
    if args.report and not found and not args.only:
        args.report.write_text(render(rows, args))
    return 1 if found else 0


def _outside(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One target in a process of its own: a crash, a hang or a hunger for memory ends that process and is found."""
    command = [sys.executable, __file__, "--inside", name, "--seconds", str(args.seconds), "--seed", str(args.seed)]
    with tempfile.TemporaryDirectory() as folder:  # libFuzzer leaves without a word, so its files are cleared away out here
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            errors="replace",
            timeout=20 * args.seconds + 600,
            env={**os.environ, "TMPDIR": folder},
        )
    said = done.stdout + done.stderr
    runs, coverage = _RUNS.search(said), _COVERAGE.findall(said)
    row: dict[str, Any] = {"target": name, "runs": int(runs[1]) if runs else 0, "branches": int(coverage[-1]) if coverage else 0}
    row["found"] = "" if done.returncode == 0 and runs and row["branches"] > 1 else said[-3000:]
    return row


def _inside(atheris: Any, args: argparse.Namespace) -> int:
    # Instrumented while imported: this is how libFuzzer sees which branches an input reaches.
    with atheris.instrument_imports(include=["edge", "tuf", "securesystemslib"], enable_loader_override=False):
        target = _targets(args.inside)
    folder = tempfile.mkdtemp()
    for number, seed in enumerate(target.seeds):
        (Path(folder) / f"seed{number}").write_bytes(seed)
    limits = [f"-max_total_time={args.seconds}", "-timeout=60", "-rss_limit_mb=2048", "-max_len=8192"]
    atheris.Setup([sys.argv[0], folder, f"-seed={args.seed}", f"-artifact_prefix={folder}/", *limits], target.run)
    atheris.Fuzz()
    return 0


def _targets(name: str) -> Fuzzed:
    from tests.support import fuzz_targets

    return Fuzzed(*fuzz_targets.make(name))


def render(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The page of results."""
    lines = [
        "# What comes from outside, fuzzed",
        made_by("fuzz", f"Python {platform.python_version()}", f"seed {args.seed}", f"{args.seconds} s each"),
        "Atheris feeds the updater's readers bytes that reach ever more branches.",
        "Anything but the error documented for it counts as found, and so does an altered file that is believed.",
        "",
        "| target | bytes are | inputs | branches reached | found |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {row['target']} | {TARGETS[row['target']]} | {row['runs']} | {row['branches']} | 0 |" for row in rows]
    total = sum(row["runs"] for row in rows)
    lines += ["", f"{total} inputs, nothing found. The unit tests ask the same of hypothesis on every run, with fewer inputs."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
