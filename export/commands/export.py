"""Calibrate, quantize, certify and pack a trained run into one signed bundle.

onbelt export runs/tray scenes/tray --out tray.onbelt --false-reject 0.005
onbelt export runs/tray scenes/tray --out tray.onbelt --precision fp32 --key signing.key
onbelt export runs/tray scenes/tray --out tray.onbelt --inspect part.png
"""

import argparse
import json
import logging
import sys
from pathlib import Path

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished training run")
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="the data set it was trained on: its held-out good parts set the limit"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NAME.onbelt", help="the bundle to write")
    parser.add_argument(
        "--precision",
        choices=("int8", "fp32"),
        default="int8",
        help="arithmetic of the convolutions; all else is computed in fp32, on every engine (default %(default)s)",
    )
    parser.add_argument(
        "--false-reject",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="share of good parts you accept to be rejected (default %(default)s)",
    )
    parser.add_argument(
        "--confidence", type=float, default=0.95, metavar="P", help="confidence of that promise (default %(default)s)"
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="private key to sign with; default: ~/.config/onbelt/signing.key, made when missing",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="name of the bundle, which boxes and verdicts show; default: NAME of --out",
    )
    parser.add_argument("--product", metavar="NAME", help="what the bundle inspects; default: the data set's name")
    parser.add_argument(
        "--version", type=int, default=1, metavar="N", help="version of the bundle, counts up per product (default %(default)s)"
    )
    parser.add_argument(
        "--weight-bits",
        type=int,
        choices=(7, 8),
        default=7,
        help="bits of INT8 weights; 8 only for boxes whose CPU has VNNI (default %(default)s)",
    )
    parser.add_argument(
        "--inspect",
        type=Path,
        metavar="PICTURE",
        help="where to look: a gray picture on the part's own, white where it is inspected (default: everywhere)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Export and print what came out."""
    from edge.bundle.signing import load_private
    from edge.errors import ConfigError, DataError
    from export.certificate import forms_in_words, verdict_in_words
    from export.keys import default_signing_key
    from export.pipeline import ExportRequest, export_run
    from training.datasets import load_frames, open_dataset
    from training.inspection import read_region, restrict
    from training.run import load_run
    from training.split import scoring_parts, shaping_parts

    if not 0 < args.false_reject < 1 or not 0 < args.confidence < 1:
        raise ConfigError(
            f"expected --false-reject and --confidence between 0 and 1, got {args.false_reject} and {args.confidence}"
        )
    if args.out.suffix != ".onbelt" or args.out.is_dir() or not args.out.parent.is_dir():
        raise ConfigError(f"--out {args.out}: expected a file NAME.onbelt in a folder that exists")
    region = read_region(args.inspect) if args.inspect else None
    trained = load_run(args.run)
    dataset = open_dataset(args.data)
    if dataset.data_sha256 != trained.record.data_sha256:
        logger.warning(
            "%s is not the data %s was trained on: the limit holds for parts like those in %s", args.data, args.run, args.data
        )
    held_out = scoring_parts(dataset.validation)
    if not held_out:
        raise DataError(f"{args.data}: expected held-out good parts, found none; add validation/good")
    size, inspected = trained.config.size, 1.0
    if region is not None:
        inspected = restrict(trained.detector, load_frames(shaping_parts(dataset.validation), size), region)
        logger.info("%s: %.0f %% of the picture is inspected", args.inspect, 100 * inspected)
    key = load_private(args.key) if args.key else default_signing_key()
    request = ExportRequest(
        out=args.out,
        name=args.name or args.out.stem,
        product=args.product or dataset.name,
        version=args.version,
        precision=args.precision,
        false_reject=args.false_reject,
        confidence=args.confidence,
        weight_levels=63 if args.weight_bits == 7 else 127,
        inspected=inspected,
    )
    result = export_run(trained, load_frames(held_out, size), load_frames(dataset.train, size), key, request)
    certificate = result.certificate
    if args.json:
        print(
            json.dumps(
                {
                    "bundle": str(args.out),
                    "bytes": result.size_bytes,
                    "limit": result.limit.value,
                    "promise": result.limit.promise(),
                    "n": result.limit.n,
                    "flips": certificate.flips,
                    "flip_bound": certificate.flip_bound,
                    "auroc_loss": certificate.auroc_reference - certificate.auroc,
                    "int8_equal": certificate.equal,
                    "forms": certificate.forms,
                    "tried": certificate.tried,
                    "infer_ms": result.infer_ms,
                    "seconds": round(result.seconds, 1),
                }
            )
        )
        return 0
    print(f"{args.out}: {result.size_bytes / 1e6:.2f} MB, {args.precision}, made in {result.seconds:.0f} s")
    print(f"limit {result.limit.value:.4f}: {result.limit.promise()}")
    total = sum(certificate.pictures.values())
    print(
        f"against float: {certificate.flips} of {total} verdicts changed (rate at most {certificate.flip_bound:.2%}), deviation "
        f"p50 {certificate.deviation_p50:.4f} max {certificate.deviation_max:.4f} of the limit, "
        f"AUROC {certificate.auroc_reference:.4f} -> {certificate.auroc:.4f}"
    )
    if certificate.forms:
        print(f"{forms_in_words(certificate)} (mix {certificate.tried} that was tried)")
    print(verdict_in_words(certificate))
    print(f"inference here: p50 {result.infer_ms['p50']:.1f} ms, p99 {result.infer_ms['p99']:.1f} ms", file=sys.stdout)
    return 0
