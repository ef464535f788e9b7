"""Where every verdict is written before it is published: SQLite in WAL mode with synchronous=FULL.

FULL makes the commit wait for the disk; with NORMAL a power cut loses acknowledged verdicts (in 39 of 40 cuts), with FULL none
in 40. All verdicts that are waiting go into one transaction, so a burst costs one wait.

Rows form a chain: each payload carries the hash of the one before (`prev`), so a row changed, removed or inserted later is
found by `edge.journal.chain`. The journal is bounded: while it is found above its size, each commit removes twice as many
of the oldest rows as it adds, and remembers the hash the rest starts from. `outbox` lists the rows no broker has confirmed;
such a row that must go as well is counted in the journal itself, for it reached nobody.

A full disk must not stop it: the room the journal may ever take is reserved when it is opened (fallocate), so others run out of
space first, and verdicts last.

One thread writes. Another process that opens the same journal is refused: two chains cannot be one.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from edge.errors import JournalError
from edge.journal.reserve import reserve
from edge.wire.verdict import GENESIS, payload_hash

SCHEMA_VERSION = 1
CHECKPOINT_PAGES = 1000  # copied from the WAL into the database in a pause once it holds so much (4 MB)
FORCE_CHECKPOINT_PAGES = 4000  # without a pause at the latest then: a WAL that only grows would fill the disk
LOOK_EVERY_ROWS = 16  # 20 kB; the bound keeps a tenth of the journal free for them, 100 kB at least
PAGE_BYTES = 4096  # SQLite's default
_WAL_FRAME_BYTES = PAGE_BYTES + 24
_LOST = "lost"
_SETUP = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdict (n INTEGER PRIMARY KEY, boot TEXT NOT NULL, seq INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (n INTEGER PRIMARY KEY);
"""


class Entry(NamedTuple):
    """One verdict to write: its boot and number, and the payload exactly as it is published."""

    boot: str
    seq: int
    payload: bytes


class Journal:
    """The journal of one station. Use it from the thread that opened it; `edge.journal.reader` is for others.

    Args:
        path: the database file; its folder is made when missing.
        station: whose verdicts these are; a journal of another station is refused.
        max_bytes: size of the database above which the oldest verdicts go.

    Raises:
        JournalError: it cannot be opened or written, is of another station or version, is damaged, or is in use.
    """

    def __init__(self, path: Path, station: str, max_bytes: int) -> None:
        self.path = path
        self._wal = path.with_name(path.name + "-wal")
        self._station = station
        self._max_bytes = max_bytes
        self._lock_file = -1
        self._db: sqlite3.Connection | None = None
        self._head = GENESIS
        self._last_n = 0
        self._rows = 0
        self._lost = 0
        self._full = False
        self._since_look = LOOK_EVERY_ROWS  # the first commit looks
        self._wal_pages = 0  # in the log and not yet in the database
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise JournalError(
                f"{path.parent}: cannot make the journal's folder ({exc.strerror}); name one you can write"
            ) from exc
        self._take_lock()
        try:
            # Before SQLite opens the file: closing a second descriptor of it later would drop SQLite's own locks.
            reserve(path, max_bytes)
            self._open()
        except (OSError, sqlite3.Error, JournalError) as exc:
            self.close()
            if isinstance(exc, JournalError):
                raise
            raise JournalError(f"{path}: cannot open the journal ({exc}); move it away to begin a new one") from exc

    @property
    def head(self) -> str:
        """Hash of the newest verdict: what the next one carries as `prev`."""
        return self._head

    @property
    def last_n(self) -> int:
        """Number of the newest row, 0 in an empty journal."""
        return self._last_n

    @property
    def rows(self) -> int:
        """Verdicts held."""
        return self._rows

    @property
    def lost(self) -> int:
        """Verdicts that gave way since the journal was begun and that no broker had confirmed: nobody was told of them."""
        return self._lost

    def append(self, entries: Sequence[Entry], confirmed: Sequence[int] = ()) -> int:
        """Write verdicts and wait until they are on the disk.

        Args:
            entries: in the order of their chain.
            confirmed: rows a broker has confirmed meanwhile; they leave the outbox in the same transaction.

        Returns:
            The number of the first row written.

        Raises:
            JournalError: nothing was written; the journal is as it was before.
        """
        first = self._last_n + 1
        prune = self._is_full(len(entries))
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO verdict (n, boot, seq, payload) VALUES (?, ?, ?, ?)",
                [(first + i, entry.boot, entry.seq, entry.payload) for i, entry in enumerate(entries)],
            )
            db.executemany("INSERT INTO outbox (n) VALUES (?)", [(first + i,) for i in range(len(entries))])
            self._forget(db, confirmed)
            gone, lost = self._prune(db, 2 * len(entries)) if prune else (0, 0)
        if entries:
            self._last_n = first + len(entries) - 1
            self._head = payload_hash(entries[-1].payload)
        self._rows += len(entries) - gone
        self._lost += lost
        self._wal_pages += 4 + len(entries) + gone  # an upper bound: a page holds three verdicts
        return first

    def confirm(self, numbers: Sequence[int]) -> None:
        """These rows reached a broker. Raises JournalError."""
        with self._transaction() as db:
            self._forget(db, numbers)
        self._wal_pages += 1 + len(numbers)

    def checkpoint(self, *, idle: bool) -> None:
        """Copy the write-ahead log into the database where it has grown: in a pause early, else only when it must be.

        Raises:
            JournalError: the disk refuses.
        """
        if self._wal_pages < (CHECKPOINT_PAGES if idle else FORCE_CHECKPOINT_PAGES):
            return
        try:
            busy, in_wal, copied = self._database().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._wal_pages = 0 if not busy and in_wal == copied else in_wal - copied
        except sqlite3.Error as exc:
            raise JournalError(f"{self.path}: the journal cannot be written ({exc}); free space on its disk") from exc

    def close(self) -> None:
        """Close the database and give up the lock. May be called twice."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            self._lock_file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as exc:
            raise JournalError(f"{lock}: cannot write there ({exc.strerror}); check the folder's permissions") from exc
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(self._lock_file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock_file)
            self._lock_file = -1
            raise JournalError(
                f"{self.path}: the journal is in use by process {holder}; two daemons on one journal are refused: stop that one, "
                "or give this one a journal of its own"
            ) from exc
        with contextlib.suppress(OSError):  # for the message above; a full disk is said by who needs the room
            os.ftruncate(self._lock_file, 0)
            os.pwrite(self._lock_file, f"{os.getpid()}\n".encode(), 0)

    def _open(self) -> None:
        db = self._db = sqlite3.connect(self.path, isolation_level=None, timeout=1.0, check_same_thread=False)
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(
                f"{self.path}: expected a disk that can hold a write-ahead log, got mode {mode!r}; use a local disk"
            )
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=0")  # its waits would fall on some verdict: see `checkpoint`
        db.executescript(_SETUP)
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        if not meta:
            with self._transaction() as inside:
                inside.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [("schema", str(SCHEMA_VERSION)), ("station", self._station), ("root", GENESIS)],
                )
        elif meta.get("schema") != str(SCHEMA_VERSION):
            raise JournalError(
                f"{self.path}: expected schema {SCHEMA_VERSION}, got {meta.get('schema')}; another version of Onbelt wrote it"
            )
        elif meta.get("station") != self._station:
            raise JournalError(
                f"{self.path}: expected the journal of station {self._station}, it is of {meta.get('station')}; "
                "each station has a journal of its own"
            )
        last = db.execute("SELECT n, payload FROM verdict ORDER BY n DESC LIMIT 1").fetchone()
        if last is not None:
            self._last_n, self._head = int(last[0]), payload_hash(last[1])
        self._rows = int(db.execute("SELECT count(*) FROM verdict").fetchone()[0])
        self._lost = int(meta.get(_LOST, 0))
        reserve(self._wal, 2 * FORCE_CHECKPOINT_PAGES * _WAL_FRAME_BYTES)

    def _database(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError("the journal is closed")
        return self._db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._database()
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as exc:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise JournalError(f"{self.path}: the journal cannot be written ({exc}); free space on its disk, check it") from exc

    @staticmethod
    def _forget(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
        db.executemany("DELETE FROM outbox WHERE n = ?", [(n,) for n in numbers])

    def _is_full(self, more: int) -> bool:
        """Whether the oldest rows must go. Asking SQLite costs 0.1 ms, so a few rows may come in between."""
        self._since_look += more
        if self._since_look >= LOOK_EVERY_ROWS:
            self._since_look, self._full = 0, self._overfull()
        return self._full

    def _overfull(self) -> bool:
        try:
            db = self._database()
            pages, free = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count"))
        except sqlite3.Error as exc:
            raise JournalError(f"{self.path}: the journal cannot be read ({exc}); check its disk") from exc
        return (pages - free) * PAGE_BYTES > 0.9 * self._max_bytes  # a tenth for what the next commits add

    def _prune(self, db: sqlite3.Connection, count: int) -> tuple[int, int]:
        """Remove the oldest rows but never the newest one; the chain's root moves along.

        Returns:
            How many went, and how many of them no broker had confirmed.
        """
        old = db.execute(
            "SELECT n, payload FROM verdict WHERE n < (SELECT max(n) FROM verdict) ORDER BY n LIMIT ?", (count,)
        ).fetchall()
        if not old:
            return 0, 0
        last_n, payload = old[-1]
        db.execute("DELETE FROM verdict WHERE n <= ?", (last_n,))
        lost = db.execute("DELETE FROM outbox WHERE n <= ?", (last_n,)).rowcount
        if lost:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_LOST, str(self._lost + lost)))
        db.execute("UPDATE meta SET value = ? WHERE key = 'root'", (payload_hash(payload),))
        return len(old), lost
