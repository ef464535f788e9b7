"""Run the reference rejector: default reject, PASS is a permit.

    onbelt gate --config gate.toml
    onbelt gate --config gate.toml --print-config
    onbelt gate --config gate.toml --check

It hears the line's triggers and the station's verdicts and lets a part through only with a valid PASS in hand at its deadline.
Ctrl-C or SIGTERM ends it; its watchdog then stands still and the line ejects everything.
"""

import argparse
import json
import signal
import threading
from pathlib import Path

from edge import journald
from edge.clock import SystemClock
from edge.gate.check import check_gate
from edge.gate.config import describe, load_config
from edge.gate.process import GateProcess
from edge.system.notify import Notifier


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="gate.toml; see docs/examples/gate.toml")
    parser.add_argument("--print-config", action="store_true", help="print what is in force and where it comes from, and end")
    parser.add_argument("--check", action="store_true", help="try secrets, wires or pins, socket and broker, and end")
    parser.add_argument(
        "--json", action="store_true", help="print the gate's counters as one JSON object at the end; with --check what was tried"
    )


def run(args: argparse.Namespace) -> int:
    """Run the gate until SIGTERM or Ctrl-C, or print or check."""
    if args.check:
        lines = check_gate(args.config)
        print(json.dumps({"ok": True, "checks": lines}) if args.json else "\n".join(lines))
        return 0
    config = load_config(args.config)
    if args.print_config:
        print("\n".join(describe(config, args.config)))
        return 0
    journald.fields.update(ONBELT_STATION=config.station.station, ONBELT_GATE=config.station.gate)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    notifier = Notifier.from_environment()
    with GateProcess(config, SystemClock(), config.broker(), config.mac_key(), notifier) as process:
        process.run(stop)
        if args.json:
            print(json.dumps(process.figures()), flush=True)
    return 0
