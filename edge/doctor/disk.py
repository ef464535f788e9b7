"""The journal's disk."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from edge.doctor.finding import Finding

_SLOW_COMMIT_MS = 20.0  # half of what is left of a 400 ms deadline once a slow model has had its time


def disk(journal: Path) -> Iterator[Finding]:
    """The journal's disk: writable, room, and how long a verdict takes to reach it."""
    folder = journal.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "fail", f"{folder} cannot be written", "give this user the folder, or name another in journal.path")
        return
    disk = os.statvfs(folder)
    free_mb = disk.f_bavail * disk.f_frsize // 2**20
    if free_mb < 512:
        yield Finding(
            "disk", "warn", f"{folder}: {free_mb} MB free", "the journal reserves journal.max_mb and 33 MB; free some space"
        )
    else:
        yield Finding("disk", "ok", f"{folder}: {free_mb} MB free")
    took_ms = _commit_ms(folder)
    if took_ms > _SLOW_COMMIT_MS:
        yield Finding(
            "disk speed",
            "warn",
            f"a verdict takes {took_ms:.1f} ms to reach it (median)",
            "use a local SSD; every verdict waits for it",
        )
    else:
        yield Finding("disk speed", "ok", f"a verdict takes {took_ms:.1f} ms to reach it (median)")


def _commit_ms(folder: Path) -> float:
    """Median time of a durable commit of one verdict's size, ms."""
    times = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".onbelt-doctor-") as name:
        database = sqlite3.connect(Path(name) / "t.db", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("CREATE TABLE t (payload BLOB)")
            for _ in range(21):
                begin = time.perf_counter()
                database.execute("INSERT INTO t VALUES (zeroblob(1000))")
                times.append((time.perf_counter() - begin) * 1000)
        finally:
            database.close()
    return sorted(times)[len(times) // 2]
