"""Watch a simulated line being inspected: belt, camera, model, broker, daemon, gate and page, all on this machine.

    onbelt demo
    onbelt demo --seconds 20 --no-page --json
    onbelt demo --seconds 40 --faults kill-daemon,kill-gate,kill-broker

Broker, daemon and gate are the real programs, in processes of their own, on loopback; only the belt is simulated. The belt runs
as fast as was asked for, or as this machine allows. Exit status 1 when a part went through that nobody had passed.
"""

import argparse
import json
import logging
from pathlib import Path

DEMO_BUNDLE = Path(__file__).resolve().parents[1] / "data" / "demo.onbelt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--seconds", type=_positive, default=60.0, metavar="N", help="how long the belt runs, s (default: %(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    parser.add_argument("--no-page", action="store_true", help="do not serve the live page")
    parser.add_argument("--port", type=_port, default=0, metavar="PORT", help="port of the live page (default: a free one)")
    parser.add_argument(
        "--rate", type=_positive, default=11.0, metavar="HZ", help="parts per second, if this machine can (default: %(default)g)"
    )
    parser.add_argument(
        "--bundle", type=Path, default=DEMO_BUNDLE, metavar="FILE", help="the model file (default: the one that is shipped)"
    )
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of trusted keys (*.pub), instead of the usual ones; may be given more than once",
    )
    parser.add_argument("--product", default="", help="what runs on the belt (default: what the bundle was made for)")
    parser.add_argument(
        "--seed", type=int, default=1, help="which belt: the same seed brings the same parts (default: %(default)s)"
    )
    parser.add_argument(
        "--broker",
        choices=["auto", "embedded", "mosquitto"],
        default="auto",
        help="auto takes the embedded one, and mosquitto where that is not installed (default: %(default)s)",
    )
    parser.add_argument(
        "--engine", choices=["auto", "openvino", "onnxruntime"], default="auto", help="inference engine (default: %(default)s)"
    )
    parser.add_argument(
        "--faults",
        default="",
        metavar="LIST",
        help="break things: kill-daemon, kill-gate, kill-broker, freeze-daemon, freeze-gate, comma-separated, each with "
        "@SECONDS or spread over the run (default: none)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo and print its summary."""
    from edge.demo.show import Options, run_demo
    from edge.demo.summary import render

    if not args.verbose:
        # Processes are killed here on purpose; that a connection breaks then is no news.
        logging.getLogger("edge").setLevel(logging.ERROR)
    summary = run_demo(
        Options(
            seconds=args.seconds,
            rate_hz=args.rate,
            bundle=args.bundle,
            trust=tuple(args.trust),
            product=args.product,
            seed=args.seed,
            page=not args.no_page,
            port=args.port,
            broker=args.broker,
            engine=args.engine,
            faults=args.faults,
        )
    )
    print(json.dumps(summary) if args.json else render(summary))
    by = summary["escapes_by"]
    return 1 if by["unjudged"] or by["against_verdict"] else 0


def _port(text: str) -> int:
    """A TCP port; 0 takes a free one."""
    if not (text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port, 1 to 65535, or 0 for a free one, got {text}")
    return int(text)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number
