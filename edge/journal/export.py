"""Take the journal elsewhere: as lines that still prove themselves, or as a table for people.

JSON lines hold each payload byte for byte, so the chain and every seal can be checked on the file alone (`Exported`); the first
line's `prev` is taken as its root, since nothing older is there. The table (CSV, RFC 4180) has one row per verdict with the
columns people ask for; it proves nothing.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO

from edge.errors import ChainError, ContractError, JournalError
from edge.journal.chain import Source
from edge.journal.reader import Row
from edge.wire.codec import MAX_MESSAGE_BYTES
from edge.wire.verdict import GENESIS, Verdict, decode_verdict

COLUMNS = (
    "n", "id", "trig_us", "part", "lot", "enc", "trig", "verdict", "reason", "raw", "cal", "p", "st", "ae", "global", "infer_ms",
    "slack_ms", "recipe", "model", "limit", "check", "evidence",
)  # fmt: skip
_CHUNK = 1000
_FORMULA = ("=", "+", "-", "@")


def select(source: Source, boot: str = "", since_us: int = 0, until_us: int = 2**63) -> Iterator[Row]:
    """Rows of one boot and time, oldest first.

    Args:
        source: the journal.
        boot: of one start of the daemon only; empty for all.
        since_us: by the wall clock at the trigger, microseconds UTC.
        until_us: likewise, not included.

    Raises:
        JournalError: it cannot be read. ChainError: a row in that time is no verdict.
    """
    last_n = 0
    timed = since_us > 0 or until_us < 2**63
    while chunk := source.rows(last_n, _CHUNK):
        for row in chunk:
            if boot and row.boot != boot:
                continue
            if timed and not since_us <= decode_row(source, row).t.trig_us < until_us:
                continue
            yield row
        last_n = chunk[-1].n


def decode_row(source: Source, row: Row) -> Verdict:
    """The verdict of a row. Raises ChainError: it is none."""
    try:
        return decode_verdict(row.payload)
    except ContractError as exc:
        raise ChainError(f"{source.path}: row {row.n}: is no verdict ({exc}); altered after it was written") from exc


def write_lines(rows: Iterable[Row], out: BinaryIO) -> int:
    """Each payload as it was published, one a line; returns how many."""
    count = 0
    for row in rows:
        out.write(row.payload + b"\n")
        count += 1
    return count


def write_table(source: Source, rows: Iterable[Row], out: IO[str]) -> int:
    """The table; returns its rows. Raises ChainError: a row is no verdict."""
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        verdict = decode_row(source, row)
        score = verdict.score
        scores = (score.raw, score.cal, score.p, score.st, score.ae, score.global_) if score else ("",) * 6
        writer.writerow(
            (
                row.n,
                verdict.id,
                verdict.t.trig_us,
                _text(verdict.part.id),
                _text(verdict.part.lot),
                verdict.part.enc,
                verdict.part.trig,
                verdict.verdict,
                " ".join(verdict.reason),
                *scores,
                verdict.t.infer_ms,
                verdict.t.slack_ms,
                _text(verdict.ctx.recipe),
                verdict.ctx.model,
                verdict.ctx.limit,
                verdict.ctx.check,
                verdict.ev.sha256 if verdict.ev else "",
            )
        )
        count += 1
    return count


class Exported:
    """An export in JSON lines as a source for `verify_chain`; reads it once from beginning to end.

    Raises:
        JournalError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._n = 0
        try:
            self._file = path.open("rb")
        except OSError as exc:
            raise JournalError(f"{path}: cannot read the export ({exc.strerror})") from exc

    def root(self) -> str:
        """`prev` of the first line; what a new journal begins with where there is none."""
        line = self._line()
        self._file.seek(0)
        return decode_row(self, Row(1, "", 0, line)).prev if line else GENESIS

    def rows(self, after_n: int, most: int) -> Sequence[Row]:
        """The next lines; lines are numbered from 1.

        Raises:
            ChainError: a line is longer than any verdict, or is none.
        """
        if after_n != self._n:
            raise RuntimeError(f"expected to go on after line {self._n}, asked for {after_n}: an export is read once")
        rows: list[Row] = []
        while len(rows) < most and (line := self._line()):
            self._n += 1
            verdict = decode_row(self, Row(self._n, "", 0, line))
            rows.append(Row(self._n, verdict.boot, verdict.seq, line))
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _line(self) -> bytes:
        try:
            line = self._file.readline(MAX_MESSAGE_BYTES + 2)
        except OSError as exc:
            raise JournalError(f"{self.path}: cannot read the export ({exc.strerror})") from exc
        if len(line) > MAX_MESSAGE_BYTES + 1:
            raise ChainError(f"{self.path}: line {self._n + 1}: expected at most {MAX_MESSAGE_BYTES} bytes, it is longer")
        return line.removesuffix(b"\n")


def _text(value: str) -> str:
    # A scanner's text that begins like a formula would be computed by a spreadsheet: a quote in front makes it text again.
    return f"'{value}" if value.startswith(_FORMULA) else value
