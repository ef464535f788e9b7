"""What the verbs that take a bundle share: their arguments, and how they open it."""

import argparse
from pathlib import Path

from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.engine.registry import BACKENDS


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare BUNDLE, --trust, --engine, --threads and --json."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the model file, NAME.onbelt")
    add_engine_arguments(parser)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --trust, --engine, --threads and --json, for a verb that has more before its BUNDLE."""
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of trusted keys (*.pub), instead of the usual ones; may be given more than once "
        "(default: keys shipped with onbelt, ~/.config/onbelt/trusted, /etc/onbelt/trusted)",
    )
    parser.add_argument("--engine", choices=BACKENDS, default="auto", help="inference engine (default: %(default)s)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads of the engine (default: every core this process may use)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def open_from(args: argparse.Namespace) -> Bundle:
    """Open the bundle named on the command line with the keys named there.

    Raises:
        BundleError, SignatureError: the bundle is not to be used.
        ConfigError: a trust folder is missing or holds what is no key.
    """
    trust = TrustStore.from_folders(args.trust) if args.trust else default_trust()
    return open_bundle(args.bundle, trust)


def positive(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number
