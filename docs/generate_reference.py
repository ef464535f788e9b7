"""Write docs/reference/command-line.md from the parsers themselves.

python docs/generate_reference.py            # write
python docs/generate_reference.py --check    # exit 1 when the file is not what the code says (a test runs this)
"""

import argparse
import sys
from pathlib import Path

from edge.cli import build_parser

TARGET = Path(__file__).parent / "reference" / "command-line.md"


def verbs() -> dict[str, argparse.ArgumentParser]:
    """All verbs and their parsers, `journal verify` after `journal`."""
    return _nested(build_parser(), "")


def _nested(parser: argparse.ArgumentParser, prefix: str) -> dict[str, argparse.ArgumentParser]:
    found = {}
    for action in parser._actions:  # noqa: SLF001  argparse offers no public way to its subparsers
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, inner in action.choices.items():
                found[prefix + name] = inner
                found |= _nested(inner, f"{prefix}{name} ")
    return found


def option_rows(parser: argparse.ArgumentParser) -> list[str]:
    """One table row per argument of a verb."""
    rows = []
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._HelpAction) or "--verbose" in action.option_strings:  # noqa: SLF001
            continue
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  each action has a section of its own
            continue
        name = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{str(action.metavar or action.dest).upper()}`"
        if action.option_strings and action.nargs != 0:
            name += f" {action.metavar or action.dest.upper()}"
        text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%").replace("|", "\\|")
        if action.choices is not None:
            text += f" (one of {', '.join(str(choice) for choice in action.choices)})"
        rows.append(f"| {name} | {text} |")
    return rows


def render() -> str:
    """The whole page."""
    parts = [
        "# Command line",
        "",
        "Made from the code by `python docs/generate_reference.py`; a test holds it up to date.",
        "Every verb takes `-h` and `-v`. Exit status: 0 ok, 1 fault, 2 usage, 3 verification failed.",
    ]
    for name, parser in verbs().items():
        parts += ["", f"{'###' if ' ' in name else '##'} onbelt {name}", "", (parser.description or "").strip()]
        rows = option_rows(parser)
        parts += ["", "| argument | meaning |", "|---|---|", *rows] if rows else []
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write or check."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="compare instead of writing")
    wanted = render()
    if arguments.parse_args().check:
        found = TARGET.read_text() if TARGET.exists() else ""
        if found != wanted:
            print(f"{TARGET}: not what the code says; run python docs/generate_reference.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(wanted)
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
