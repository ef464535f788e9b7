"""Reads the journal beside its writer: for the back-fill, for verification, for export."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from edge.errors import JournalError


class Row(NamedTuple):
    """One verdict as it stands in the journal; n counts from 1 over all boots."""

    n: int
    boot: str
    seq: int
    payload: bytes


class Reader:
    """Reads a journal beside its writer, from one other thread or process; takes no lock and writes nothing.

    Raises:
        JournalError: there is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise JournalError(f"{path}: no such journal; the daemon makes it at its first start")
        try:
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=1.0)
        except sqlite3.Error as exc:
            raise JournalError(f"{path}: cannot read the journal ({exc})") from exc

    def unsent(self, after_n: int, up_to_n: int, most: int) -> list[Row]:
        """Rows no broker has confirmed, with after_n < n <= up_to_n, oldest first. Raises JournalError."""
        return self._rows(
            "SELECT v.n, v.boot, v.seq, v.payload FROM outbox o JOIN verdict v ON v.n = o.n "
            "WHERE o.n > ? AND o.n <= ? ORDER BY o.n LIMIT ?",
            (after_n, up_to_n, most),
        )

    def count_unsent(self) -> int:
        """How many rows no broker has confirmed. Raises JournalError."""
        return int(self._all("SELECT count(*) FROM outbox", ())[0][0])

    def rows(self, after_n: int, most: int) -> list[Row]:
        """Rows with n > after_n, oldest first. Raises JournalError."""
        return self._rows("SELECT n, boot, seq, payload FROM verdict WHERE n > ? ORDER BY n LIMIT ?", (after_n, most))

    def newest(self) -> Row | None:
        """The newest row; None in an empty journal. Raises JournalError."""
        found = self._rows("SELECT n, boot, seq, payload FROM verdict ORDER BY n DESC LIMIT 1", ())
        return found[0] if found else None

    def root(self) -> str:
        """Hash of the verdict before the oldest one held: where the chain starts. Raises JournalError."""
        found = self._all("SELECT value FROM meta WHERE key = 'root'", ())
        if not found:
            raise JournalError(f"{self.path}: expected the chain's root in the journal, there is none; it is damaged")
        return str(found[0][0])

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _rows(self, query: str, values: tuple[int, ...]) -> list[Row]:
        return [Row(int(n), str(boot), int(seq), bytes(payload)) for n, boot, seq, payload in self._all(query, values)]

    def _all(self, query: str, values: tuple[int, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            raise JournalError(f"{self.path}: cannot read the journal ({exc})") from exc
