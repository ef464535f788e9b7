"""What the verbs that take a bundle share: their arguments, and how they open it."""

import argparse
from pathlib import Path

from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.engine.registry import BACKENDS
from edge.limits.apply import with_limit
from edge.limits.file import read_limit


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare BUNDLE, --limit, --trust, --engine, --threads and --json."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the model file, NAME.onbelt")
    add_engine_arguments(parser)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --trust, --engine, --threads and --json, for a verb that has more before its BUNDLE."""
    parser.add_argument(
        "--limit",
        type=Path,
        metavar="FILE",
        help="limit file made by onbelt limit for this model (default: the bundle's own limit)",
    )
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
    """Open the bundle named on the command line with the keys named there, and put the limit named there in force.

    Raises:
        BundleError, SignatureError: the bundle is not to be used.
        LimitError: the limit file is not to be used, or is of another model.
        ConfigError: a trust folder is missing or holds what is no key.
    """
    trust = trust_from(args)
    bundle = open_bundle(args.bundle, trust)
    return bundle if args.limit is None else with_limit(bundle, read_limit(args.limit, trust))


def trust_from(args: argparse.Namespace) -> TrustStore:
    """The keys named on the command line, or the usual ones. Raises ConfigError."""
    return TrustStore.from_folders(args.trust) if args.trust else default_trust()


def positive(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number
