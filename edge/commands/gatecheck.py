"""Prove a gate: inject the faults and print pass or fail for each rule of the verdict contract.

onbelt gatecheck --config gate.toml
onbelt gatecheck --config gate.toml --trigger-command "gpioset -t 5ms,0 part=1"

For any gate, ours or a controller's. gate.toml describes it: the station's names, its times, its broker. The check plays the
station in that name, so the real one must be stopped, and no parts may be on the belt. Parts are made by the reference's trigger
datagrams, or by a command of yours that makes the gate see one; then its output is known from its acks only, and what needs the
output itself is skipped and said so. Exit status: 0 all rules hold, 1 fault, 2 usage, 3 a rule does not hold.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.gate.kit.bench import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gate's description, gate.toml")
    parser.add_argument(
        "--trigger-command",
        metavar="COMMAND",
        help="makes the gate see one part; run once per part (default: datagrams to line.listen)",
    )
    parser.add_argument(
        "--pid", type=int, default=0, metavar="N", help="the gate's process on this machine, to be frozen for a moment"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help='only checks with this in "rule N: name" (default: all)')
    parser.add_argument("--json", action="store_true", help="print one JSON object per check instead of text")


def run(args: argparse.Namespace) -> int:
    """Check the gate."""
    from edge.gate.config import load_config
    from edge.gate.kit.setup import opened_kit

    results: list[str] = []
    with opened_kit(load_config(args.config), args.trigger_command, args.pid) as check:
        for finding in check.run(args.only):
            results.append(finding.result)
            _show(finding, as_json=args.json)
    failed, skipped = results.count("fail"), results.count("skip")
    if not args.json:
        print(
            f"{len(results)} checks: {results.count('pass')} hold, {failed} do not" + (f", {skipped} skipped" if skipped else "")
        )
    return 3 if failed else 0


def _show(finding: "Finding", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(finding)), flush=True)
        return
    print(f"rule {finding.rule}  {finding.result}  {finding.name}", flush=True)
    if finding.detail:
        print(f"              {finding.detail}", flush=True)
