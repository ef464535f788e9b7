"""Check the verdict journal's chain, export it, judge its stored frames again.

onbelt journal verify /var/lib/onbelt/journal.db
onbelt journal export /var/lib/onbelt/journal.db --format csv --out lot.csv
onbelt journal replay /var/lib/onbelt/journal.db bottle.onbelt --last 100

All three may run beside the daemon; they write nothing. Exit status: 0 all holds, 1 fault, 2 usage, 3 something does not verify.
"""

import argparse
import contextlib
import json
import sys
from collections import Counter, deque
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edge.commands._bundle import add_engine_arguments, open_from, positive
from edge.errors import ConfigError, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.journal.replay import Replayed
    from edge.wire.verdict import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, help="verify, export or replay")
    verify = actions.add_parser("verify", help="walk the whole chain: nothing altered, removed or inserted")
    _journal(verify, "the journal, or an export of it in JSON lines (*.jsonl)")
    verify.add_argument("--mac-key", type=Path, metavar="FILE", help="file of the key verdicts are sealed with: check every seal")
    verify.add_argument("--head", default="", metavar="HASH", help="a head written down earlier, which must be in the chain")
    verify.add_argument(
        "--anchors",
        type=Path,
        metavar="FILE",
        help="signed heads, JOURNAL.anchors or what somebody kept of audit: proves the end",
    )
    verify.add_argument(
        "--anchor-key",
        type=Path,
        action="append",
        metavar="FILE",
        help="public key of the anchors, NAME.pub; may be repeated",
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    export = actions.add_parser("export", help="write verdicts as JSON lines, byte for byte, or as a table")
    _journal(export, "the journal")
    export.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="what to write (default: %(default)s)")
    export.add_argument("--out", type=Path, metavar="FILE", help="where to (default: standard output)")
    _selection(export)

    replay = actions.add_parser("replay", help="judge stored frames again; the score must be the one in the journal")
    _journal(replay, "the journal")
    replay.add_argument("bundle", type=Path, metavar="BUNDLE", help="the model file that judged, NAME.onbelt")
    replay.add_argument(
        "--evidence", type=Path, metavar="DIR", help="stored frames (default: folder evidence beside the journal)"
    )
    replay.add_argument(
        "--last", type=positive, metavar="N", help="only the newest N verdicts with a stored frame (default: all)"
    )
    replay.add_argument("--exact", action="store_true", help="refuse also what the bundle's certificate allows between engines")
    _selection(replay)
    add_engine_arguments(replay)


def run(args: argparse.Namespace) -> int:
    """Verify, export or replay."""
    return {"verify": _verify, "export": _export, "replay": _replay}[args.action](args)


def _journal(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help=text)


def _selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--boot", default="", metavar="ID", help="only verdicts of this start of the daemon")
    parser.add_argument(
        "--since", type=_moment, default=0, metavar="TIME", help="only triggers from then on: 2026-11-22T06:00, UTC"
    )
    parser.add_argument("--until", type=_moment, default=2**63, metavar="TIME", help="only triggers before then")


def _moment(text: str) -> int:
    """A time in ISO 8601 as microseconds UTC."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-22T06:00, got {text!r}") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1_000_000)


def _verify(args: argparse.Namespace) -> int:
    from edge.bundle.signing import load_public
    from edge.journal.anchors import Anchors
    from edge.journal.chain import verify_chain
    from edge.journal.export import Exported
    from edge.journal.reader import Reader

    key = _read_key(args.mac_key) if args.mac_key else None
    if bool(args.anchors) != bool(args.anchor_key):
        raise ConfigError("--anchors and --anchor-key: expected both or none; the key is the NAME.pub of onbelt keygen")
    anchors = Anchors.from_file(args.anchors, [load_public(path) for path in args.anchor_key]) if args.anchors else None
    source = Exported(args.journal) if args.journal.suffix == ".jsonl" else Reader(args.journal)
    with contextlib.closing(source):
        report = verify_chain(source, key, args.head, anchors)
    if args.json:
        found = {"rows": report.rows, "boots": report.boots, "first_n": report.first_n, "last_n": report.last_n}
        proved = None if report.anchors is None else asdict(report.anchors)
        print(json.dumps({"ok": True, **found, "head": report.head, "seals_checked": key is not None, "anchors": proved}))
    else:
        print(f"chain holds: {report.rows} verdicts, rows {report.first_n} to {report.last_n}, {report.boots} boots")
        print(f"head: {report.head}" + ("" if key is None else "; every seal holds"))
        if (seen := report.anchors) is not None:
            older = f", {seen.older} of rows no longer held" if seen.older else ""
            print(f"anchors: {seen.held} hold, the newest of row {seen.newest_n}; {seen.after} rows behind it{older}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from edge.journal.export import select, write_lines, write_table
    from edge.journal.reader import Reader

    with Reader(args.journal) as reader:
        rows = select(reader, args.boot, args.since, args.until)
        try:
            if args.out is None:
                count = write_lines(rows, sys.stdout.buffer) if args.format == "jsonl" else write_table(reader, rows, sys.stdout)
            elif args.format == "jsonl":
                with args.out.open("wb") as lines:
                    count = write_lines(rows, lines)
            else:
                with args.out.open("w", encoding="utf-8", newline="") as table:
                    count = write_table(reader, rows, table)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise ConfigError(f"{args.out}: cannot write there ({exc.strerror}); name another file") from exc
    print(f"{count} verdicts written", file=sys.stderr)
    return 0


def _replay(args: argparse.Namespace) -> int:
    from edge.engine import open_engine
    from edge.journal.export import decode_row, select
    from edge.journal.reader import Reader
    from edge.journal.replay import FAILURES, RESULTS, Replay

    with Reader(args.journal):  # a mistyped journal is not to be called a missing folder of frames
        pass
    bundle = open_from(args)
    folder = args.evidence or args.journal.parent / "evidence"
    if not folder.is_dir():
        raise JournalError(f"{folder}: expected the folder of stored frames, there is none; name it with --evidence")
    counts: Counter[str] = Counter()
    with Reader(args.journal) as reader, open_engine(bundle, args.engine, args.threads) as engine:
        rows = select(reader, args.boot, args.since, args.until)
        verdicts: Iterator[Verdict] = (decode_row(reader, row) for row in rows)
        kept = (
            verdict for verdict in verdicts if _counted(counts, replayable=verdict.ev is not None and verdict.score is not None)
        )
        replayed = Replay(bundle, engine, folder).run(iter(deque(kept, args.last)) if args.last else kept)
        for one in replayed:
            counts[one.result] += 1
            _print_one(one, as_json=args.json)
        name = engine.name
    judged = counts["same"] + counts["agrees"] + counts["differs"]
    failed = sum(counts[result] for result in FAILURES) + (counts["agrees"] if args.exact else 0)
    if args.json:
        print(json.dumps({"ok": judged > 0 and not failed, "judged": judged, "failed": failed, "engine": name, **counts}))
    else:
        for result, text in RESULTS.items():
            if counts[result]:
                print(f"{counts[result]:6}  {result:11}  {text}")
        print(
            f"{judged} frames judged again by {name}: "
            + ("every score holds" if judged and not failed else f"{failed} do not hold")
        )
    if not judged and not failed:
        raise JournalError(
            f"{args.journal}: expected verdicts of {bundle.path.name} with stored frames, found none; nothing is proved"
        )
    return 3 if failed else 0


def _counted(counts: Counter[str], *, replayable: bool) -> bool:
    counts["no-frame"] += not replayable
    return replayable


def _print_one(one: "Replayed", *, as_json: bool) -> None:
    if as_json:
        found = {"result": one.result, "verdict": one.verdict.verdict, "raw": one.raw, "difference": one.difference}
        print(json.dumps({"id": one.verdict.id, **found, "journal_raw": one.verdict.score.raw if one.verdict.score else None}))
    elif one.text and one.result != "gone":
        print(f"{one.verdict.id}  {one.result}  {one.text}")


def _read_key(path: Path) -> bytes:
    from edge.mqtt.settings import read_secret
    from edge.wire.verdict import MIN_MAC_KEY_BYTES

    key = read_secret("verdict.key", str(path))
    if len(key) < MIN_MAC_KEY_BYTES:
        raise ConfigError(f"{path}: expected a key of at least {MIN_MAC_KEY_BYTES} bytes, got {len(key)}")
    return key
