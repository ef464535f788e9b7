"""Verify a journal's chain: every payload is a verdict, carries the hash of the one before, and no number is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.errors import ChainError, ContractError
from edge.journal.anchors import AnchorReport, Anchors
from edge.journal.reader import Row
from edge.wire.verdict import decode_verdict, payload_hash, verify_mac

_CHUNK = 1000


class Source(Protocol):
    """Where rows come from."""

    @property
    def path(self) -> Path:
        """For messages."""
        ...

    def root(self) -> str:
        """Hash the chain starts from."""
        ...

    def rows(self, after_n: int, most: int) -> Sequence[Row]:
        """Rows with n > after_n, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What was found.

    Attributes:
        rows: verdicts checked. boots: starts of the daemon among them. first_n, last_n: their row numbers, 0 when empty.
        head: hash of the newest one: written down elsewhere, it later proves that nothing was cut off the end.
        anchors: what became of the anchors, None where none were given.
    """

    rows: int
    boots: int
    first_n: int
    last_n: int
    head: str
    anchors: AnchorReport | None = None


def verify_chain(reader: Source, key: bytes | None = None, known_head: str = "", anchors: Anchors | None = None) -> ChainReport:
    """Walk the whole journal.

    Args:
        reader: an open journal, or an export of one.
        key: the MAC key, where verdicts are sealed: then each seal is checked too.
        known_head: a head written down earlier, "sha256:..." with 32 hex digits: it must still be in the chain, or the end that
            followed it was cut off or replaced. Empty asks for none.
        anchors: signed heads: each of a row still held must be in the chain, and none may be of a row behind its end.

    Raises:
        ChainError: the first row that does not hold, with its number, what was expected and what is there; or `head` is not
            among them, or an anchor says otherwise.
        JournalError: the file cannot be read.
    """
    expected, rows, first_n, last_n = reader.root(), 0, 0, 0
    boots: set[str] = set()
    known = not known_head or known_head == expected
    while chunk := reader.rows(last_n, _CHUNK):
        for row in chunk:
            where = f"{reader.path}: row {row.n}"
            if last_n and row.n != last_n + 1:
                raise ChainError(f"{where}: expected row {last_n + 1}; rows in between were removed")
            try:
                verdict = decode_verdict(row.payload)
            except ContractError as exc:
                raise ChainError(f"{where}: is no verdict ({exc}); altered after it was written") from exc
            if verdict.prev != expected:
                raise ChainError(
                    f"{where}: expected prev {expected[:23]}, got {verdict.prev[:23]}; this row or the one before was altered"
                )
            if (verdict.boot, verdict.seq) != (row.boot, row.seq):
                raise ChainError(f"{where}: expected {row.boot}/{row.seq} in the payload, got {verdict.boot}/{verdict.seq}")
            if key is not None and not verify_mac(row.payload, key):
                raise ChainError(f"{where}: its seal does not hold under the given key")
            expected = payload_hash(row.payload)
            known = known or expected == known_head
            if anchors is not None:
                anchors.row(row.n, verdict.station, expected)
            first_n, last_n = first_n or row.n, row.n
            boots.add(row.boot)
            rows += 1
    if not known:
        raise ChainError(
            f"{reader.path}: expected the head {known_head} in the chain, it is not there: the end was cut off or replaced, or "
            "it has long been removed with the oldest rows"
        )
    proved = anchors.report(first_n, last_n) if anchors is not None else None
    return ChainReport(rows, len(boots), first_n, last_n, expected, proved)
