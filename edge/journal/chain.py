"""Verify a journal's chain: every payload is a verdict, carries the hash of the one before, and no number is missing."""

from dataclasses import dataclass

from edge.errors import ContractError, JournalError
from edge.journal.reader import Reader
from edge.wire.verdict import decode_verdict, payload_hash, verify_mac

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What was found.

    Attributes:
        rows: verdicts checked. boots: starts of the daemon among them. first_n, last_n: their row numbers, 0 when empty.
        head: hash of the newest one: written down elsewhere, it later proves that nothing was cut off the end.
    """

    rows: int
    boots: int
    first_n: int
    last_n: int
    head: str


def verify_chain(reader: Reader, key: bytes | None = None) -> ChainReport:
    """Walk the whole journal.

    Args:
        reader: an open journal.
        key: the MAC key, where verdicts are sealed: then each seal is checked too.

    Raises:
        JournalError: the first row that does not hold, with its number, what was expected and what is there.
    """
    expected, rows, first_n, last_n = reader.root(), 0, 0, 0
    boots: set[str] = set()
    while chunk := reader.rows(last_n, _CHUNK):
        for row in chunk:
            where = f"{reader.path}: row {row.n}"
            if last_n and row.n != last_n + 1:
                raise JournalError(f"{where}: expected row {last_n + 1}; rows in between were removed")
            try:
                verdict = decode_verdict(row.payload)
            except ContractError as exc:
                raise JournalError(f"{where}: is no verdict ({exc}); altered after it was written") from exc
            if verdict.prev != expected:
                raise JournalError(
                    f"{where}: expected prev {expected[:23]}, got {verdict.prev[:23]}; this row or the one before was altered"
                )
            if (verdict.boot, verdict.seq) != (row.boot, row.seq):
                raise JournalError(f"{where}: expected {row.boot}/{row.seq} in the payload, got {verdict.boot}/{verdict.seq}")
            if key is not None and not verify_mac(row.payload, key):
                raise JournalError(f"{where}: its seal does not hold under the given key")
            expected = payload_hash(row.payload)
            first_n, last_n = first_n or row.n, row.n
            boots.add(row.boot)
            rows += 1
    return ChainReport(rows, len(boots), first_n, last_n, expected)
