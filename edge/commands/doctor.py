"""Say what this box has and lacks, each with its remedy.

onbelt doctor
onbelt doctor --config /etc/onbelt/station.toml --json

Exit status: 0 it can inspect (warnings are told), 1 something keeps it from inspecting.
"""

import argparse
import json
from pathlib import Path

import msgspec

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="station.toml: look at its model, broker, camera, ports and journal too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Look and tell."""
    from edge.doctor.examine import examine

    findings = examine(args.config)
    well = all(finding.status != "fail" for finding in findings)
    if args.json:
        print(json.dumps({"ok": well, "checks": msgspec.to_builtins(findings)}))
        return 0 if well else 1
    for finding in findings:
        print(f"{_MARKS[finding.status]}  {finding.name:18}  {finding.text}")
        if finding.remedy:
            print(f"{'':26}-> {finding.remedy}")
    print("this box can inspect" if well else "this box cannot inspect yet: see FAIL above")
    return 0 if well else 1
