"""The client protocol of the TUF conformance suite over the box's own client.

python -m edge.update.conformance --metadata-dir D init ROOT
python -m edge.update.conformance --metadata-dir D --metadata-url U refresh
python -m edge.update.conformance --metadata-dir D --metadata-url U --target-name N --target-base-url T --target-dir X download

Exit status: 0 it succeeded, 1 any part of it failed. The suite (theupdateframework/tuf-conformance) takes an executable with
this protocol; what it exercises is `edge.update.client.RepositoryClient`, which the updater runs as well.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.errors import UpdateError
from edge.update.client import RepositoryClient
from edge.update.fetch import Fetcher


def build_parser() -> argparse.ArgumentParser:
    """The protocol's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m edge.update.conformance", description="the TUF conformance suite's client protocol"
    )
    parser.add_argument("--metadata-dir", type=Path, required=True, metavar="D", help="folder of trusted metadata")
    parser.add_argument("--metadata-url", default="", metavar="U", help="where the repository's metadata is served")
    parser.add_argument("--target-name", default="", metavar="N", help="path of the target")
    parser.add_argument("--target-base-url", default="", metavar="T", help="where targets are served")
    parser.add_argument("--target-dir", type=Path, metavar="X", help="folder for downloaded targets")
    verbs = parser.add_subparsers(dest="verb", required=True)
    init = verbs.add_parser("init", help="trust this root")
    init.add_argument("trusted_root", type=Path, metavar="ROOT")
    verbs.add_parser("refresh", help="update the top-level metadata")
    verbs.add_parser("download", help="update the metadata and fetch a target")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of the protocol."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.verb != "init" and not args.metadata_url:
        parser.error("--metadata-url is needed")
    if args.verb == "download" and not (args.target_name and args.target_base_url and args.target_dir):
        parser.error("--target-name, --target-base-url and --target-dir are needed")
    try:
        if args.verb == "init":
            args.metadata_dir.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(args.trusted_root, args.metadata_dir / "root.json")
        elif args.verb == "refresh":
            _client(args).refresh()
        else:
            _download(args)
    except (UpdateError, OSError) as exc:
        print(f"{args.verb}: {exc}", file=sys.stderr)
        return 1
    return 0


def _client(args: argparse.Namespace) -> RepositoryClient:
    return RepositoryClient(
        args.metadata_dir, args.metadata_url, None, Fetcher(), target_url=args.target_base_url, target_dir=args.target_dir
    )


def _download(args: argparse.Namespace) -> None:
    client = _client(args)
    client.refresh()
    target = client.find(args.target_name)
    if target is None:
        raise UpdateError(f"{args.target_name}: the repository does not list it", reason="not-listed")
    if client.cached(target) is None:
        client.download(target)


if __name__ == "__main__":
    sys.exit(main())
