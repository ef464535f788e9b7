"""Measure how well a run or a bundle judges a data set.

    onbelt evaluate edge/data/demo.onbelt products/caps --trust edge/data/trusted
    onbelt evaluate runs/caps products/caps --report runs/caps/report

A bundle is judged on the engine and by the judge that run on the box; a run is its float network, held against the largest
score of its validation parts, since it has no limit yet. DATA is in the layout of MVTec AD or MVTec LOCO AD; a plain folder of
good parts tells a bundle's false rejects.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `onbelt evaluate`."""
    parser.add_argument("model", type=Path, metavar="RUN|BUNDLE", help="folder of a run, or an .onbelt file")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of a data set with test pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write DIR/report.html, and DIR/evaluation.json with every verdict"
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "openvino", "onnxruntime", "torch"),
        default="auto",
        help="who computes: openvino or onnxruntime for a bundle, torch for a run (default: auto, the box's choice)",
    )
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also say what an untrained random network with a pooled head reaches on the same pictures (needs torch)",
    )
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        metavar="DIR",
        help="believe the public keys (*.pub) in DIR instead of this machine's; may be given more than once",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, and write the report where one is asked for."""
    from edge.bundle.signing import TrustStore, default_trust
    from training.evaluate import evaluate, to_json
    from training.evaluate.text import to_text

    trust = TrustStore.from_folders(args.trust) if args.trust else default_trust()
    evaluation = evaluate(args.model, args.data, engine=args.engine, trust=trust, baselines=args.baselines)
    figures = to_json(evaluation)
    if args.report is not None:
        from training.report import write_report

        report = write_report(evaluation, args.report)
        if not args.json:
            print(f"report: {report}\n")
    print(json.dumps(figures) if args.json else to_text(evaluation))
    return 0
