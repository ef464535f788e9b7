"""The record of limits: which limit judged from when on, who approved it, and what was in force before. Append-only and chained.

One line of JSON per change, `prev` in each the SHA-256 of the line before: a line changed, left out or put in breaks the chain
behind it. (Lines cut off the end do not; every verdict names its limit, so the journal tells of them.) The station writes a
line before it judges by another limit, and does not arm when it cannot. An older limit put back is a change like any other: it is
recorded with its version.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from edge.bundle.reader import Bundle
from edge.errors import JournalError
from edge.limits.apply import model_hash
from edge.wire.codec import Boot, Count, Micros, Name
from edge.wire.verdict import references

MAX_BYTES = 16 * 2**20  # some 20,000 changes
GENESIS = "sha256:" + "0" * 64
_Ref = Annotated[str, msgspec.Meta(pattern=r"^(sha256:[0-9a-f]{32})?\Z")]
_Text = Annotated[str, msgspec.Meta(max_length=240)]
_Sha = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One limit came into force.

    Attributes:
        n: line, from 1. at_us: microseconds UTC, a label. station, boot: where.
        model: SHA-256 of the network. limit: as verdicts carry it in `ctx.limit`; before: the one in force until then, or empty.
        version: of the limit file, 0 for the bundle's own. file: SHA-256 of the signed limit, or of the bundle's manifest.
        key: who signed, hex. approved_by, note: as the signed file has them, empty for the bundle's own.
        raw, false_reject, confidence, kind: the limit and its promise.
        prev: SHA-256 of the line before.
    """

    n: Count
    at_us: Micros
    station: Name
    boot: Boot
    model: _Sha
    limit: _Ref
    before: _Ref
    version: Count
    file: _Sha
    key: _Text
    approved_by: _Text
    note: _Text
    raw: float
    false_reject: float
    confidence: float
    kind: _Text
    prev: _Sha


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was read and holds together: its changes, oldest first, and the hash of its last line."""

    changes: tuple[Change, ...]
    head: str


def read_record(path: Path) -> Record:
    """Read and check the whole record; a file that does not exist is an empty one.

    Raises:
        JournalError: too large, unreadable, a line is no change, or the chain is broken; the text names the line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Record((), GENESIS)
    except OSError as exc:
        raise JournalError(f"{path}: the record of limits cannot be read ({exc.strerror}); check its permissions") from exc
    if len(content) > MAX_BYTES:
        raise JournalError(f"{path}: expected at most {MAX_BYTES} bytes of limit changes, it is larger; move it away and keep it")
    changes: list[Change] = []
    head, before = GENESIS, ""
    lines = content.split(b"\n")
    if lines.pop():
        raise JournalError(f"{path}: line {len(lines) + 1} is cut off: a write was interrupted; remove that line only")
    for number, line in enumerate(lines, start=1):
        try:
            change = msgspec.json.decode(line, type=Change)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise JournalError(f"{path}: line {number} is no limit change ({exc}); altered after it was written") from exc
        if (change.n, change.prev, change.before) != (number, head, before):
            raise JournalError(
                f"{path}: line {number}: expected number {number} after {head[:23]}, got {change.n} after {change.prev[:23]}: "
                "a line before it was altered, removed or put in"
            )
        changes.append(change)
        head, before = _hash(line), change.limit
    return Record(tuple(changes), head)


def record_in_force(path: Path, bundle: Bundle, station: str, boot: str, now_us: int) -> Change | None:
    """Write down that this limit judges from now on; nothing when the record says so already.

    Args:
        path: the record, made where it does not exist.
        bundle: with its limit in force.
        station: who judges.
        boot: which start of the daemon.
        now_us: microseconds UTC.

    Returns:
        The line that was added, or None.

    Raises:
        JournalError: as `read_record`, or it cannot be written.
    """
    record = read_record(path)
    _, _, reference = references(bundle.manifest, bundle.sha256)
    model = f"sha256:{model_hash(bundle)}"
    last = record.changes[-1] if record.changes else None
    signed = bundle.limit_file
    file = f"sha256:{bundle.sha256 if signed is None else signed.sha256}"
    if last is not None and (last.model, last.limit, last.file) == (model, reference, file):
        return None
    limit = bundle.manifest.limit
    change = Change(
        n=len(record.changes) + 1,
        at_us=now_us,
        station=station,
        boot=boot,
        model=model,
        limit=reference,
        before="" if last is None else last.limit,
        version=0 if signed is None else signed.version,
        file=file,
        key=bundle.key_id if signed is None else signed.key_id,
        approved_by="" if signed is None else signed.approved_by,
        note="" if signed is None else signed.note,
        raw=limit.raw,
        false_reject=limit.false_reject,
        confidence=limit.confidence,
        kind=limit.kind,
        prev=record.head,
    )
    _append(path, msgspec.json.encode(change) + b"\n")
    return change


def _append(path: Path, line: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if os.write(handle, line) != len(line):
                raise JournalError(f"{path}: the record of limits could be written in part only; free space on its disk")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as exc:
        raise JournalError(
            f"{path}: the record of limits cannot be written ({exc.strerror}); free space, check permissions"
        ) from exc


def _hash(line: bytes) -> str:
    return f"sha256:{hashlib.sha256(line).hexdigest()}"
