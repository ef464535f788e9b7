"""The command `onbelt`: finds its verbs by entry point, so a box without torch has the same command as the training side.

    onbelt demo --seconds 20 --no-page --json
    onbelt judge bottle.onbelt part.png

Exit status: 0 ok, 1 fault, 2 usage, 3 verification failed.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from edge import __version__, journald
from edge.errors import OnbeltError

ENTRY_POINT_GROUP = "onbelt.commands"


class Command(Protocol):
    """A verb's module: its docstring's first line is the help."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit status."""
        ...


def _commands() -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name)}


def build_parser(names: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Make the parser with all installed verbs, or with those named only (importing no other)."""
    parser = argparse.ArgumentParser(
        prog="onbelt",
        description="Inspect every part on the belt: train, export, run, and prove what runs.",
        epilog="exit status: 0 ok, 1 fault, 2 usage, 3 verification failed",
    )
    parser.add_argument("--version", action="version", version=f"onbelt {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log debug messages to standard error")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, point in _commands().items():
        if names is not None and name not in names:
            continue
        command = cast("Command", importlib.import_module(point.value))
        text = (command.__doc__ or "").strip()
        verb = verbs.add_parser(
            name,
            help=text.splitlines()[0].rstrip(".") if text else "",
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_argument(
            "-v",
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,
            help="log debug messages to standard error",
        )
        command.add_arguments(verb)
        verb.set_defaults(command=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; errors raised on purpose become one line on standard error and an exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    named = [word for word in words if not word.startswith("-")][:1]
    # Only the verb asked for is imported: `onbelt judge` should not pay for the imports of `onbelt train`.
    parser = build_parser(named if named and named[0] in _commands() else None)
    args = parser.parse_args(words)
    level = logging.DEBUG if args.verbose else logging.INFO
    if journald.connected(sys.stderr):
        logging.basicConfig(level=level, format="%(message)s", handlers=[journald.JournalHandler()])
    else:
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        return int(args.command.run(args))
    except OnbeltError as error:
        print(f"onbelt {args.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name in {"torch", "onnx", "safetensors", "scipy"}:
            print(
                f"onbelt {args.verb}: needs the training side ({error.name} is not installed): pip install 'onbelt[train]'",
                file=sys.stderr,
            )
            return 1
        raise
    except BrokenPipeError:
        # The reader of our output (head, less) went away: nothing more to say, and no fault of ours.
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print(f"onbelt {args.verb}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
