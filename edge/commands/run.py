"""Run the daemon: a verdict for every trigger, published before the part reaches the rejector.

onbelt run --config docs/examples/station.toml --print-config
onbelt run --config /etc/onbelt/station.toml

It ends with SIGTERM or SIGINT. Exit status: 0 ended by a signal, 1 fault, 2 configuration, 3 the model does not verify.
"""

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the station's configuration, station.toml")
    parser.add_argument(
        "--print-config", action="store_true", help="print the values in force, where each comes from and what it means, and end"
    )
    parser.add_argument(
        "--check", action="store_true", help="try bundle, engine, golden frames, camera, trigger, journal and broker, and end"
    )
    parser.add_argument("--json", action="store_true", help="with --check: print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Run, print or check."""
    from edge.daemon.main import check_config, print_config, run_daemon

    if args.print_config:
        sys.stdout.write(print_config(args.config))
        return 0
    if args.check:
        lines = check_config(args.config)
        print(json.dumps({"ok": True, "checks": lines}) if args.json else "\n".join(lines))
        return 0
    return run_daemon(args.config)
