"""Cut the power of a station's disk again and again: no verdict the journal has accepted may be missing or altered afterwards.

    python benchmarks/power_cuts.py                                  # 1000 cuts, and 100 with synchronous=NORMAL, as root
    python benchmarks/power_cuts.py --cuts 20 --mutant-cuts 5 --json

A writer process appends to the real journal on a real ext4, which lies as an image file on a loop-mounted XFS. A cut is a
reflink clone of that image while ext4 is mounted and written: it holds what had reached the block device at one instant and
nothing that was only in ext4's memory. The clone is mounted (ext4 replays its own journal), the verdict journal is opened (SQLite
replays its log), and then
  - SQLite's integrity_check is ok, the chain holds, and the newest verdict accepted before the cut is there, byte for byte;
  - all verdicts not confirmed by a broker are still in the outbox.
The writer also confirms, checkpoints and removes old rows, so cuts fall into all of these. The second run does the same with
synchronous=NORMAL and must lose verdicts: else this harness could not see a loss.

What it does not show: a drive that acknowledges a flush and does not do it. Needs root, loop devices, mkfs.ext4 and mkfs.xfs.
Exit status: 0 as it should be, 1 a verdict was lost or the mutant lost none, 2 this machine cannot run it.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cut_disk import can_mount, clone, cut_disk, missing, mounted
from benchmarks.page import made_by
from edge.errors import OnbeltError
from edge.journal.chain import verify_chain
from edge.journal.reader import Reader
from edge.journal.store import Entry, Journal
from edge.wire import verdict as wire

logger = logging.getLogger("power_cuts")

STATION, BOOT = "st2", "01JD8Q7ZK30000000000000000"
JOURNAL_BYTES = 2 * 2**20  # 1,600 verdicts: reached within seconds, so that removing old rows is cut as well
DISK_MB = 256
UNCONFIRMED = 40  # the writer's broker lags so many verdicts behind
MODES = ("FULL", "NORMAL")


@dataclass
class Outcome:
    """What the cuts of one mode left.

    Attributes:
        cuts: made. accepted: verdicts the writer was told are on the disk, in all. losing_cuts: cuts that lost some.
        lost: verdicts lost, in all. most_lost: by one cut. corrupt: what did not hold otherwise, in words.
        oldest_removed: the journal had begun to remove old rows. seconds: it took.
    """

    synchronous: str
    cuts: int = 0
    accepted: int = 0
    losing_cuts: int = 0
    lost: int = 0
    most_lost: int = 0
    corrupt: list[str] = field(default_factory=list)
    oldest_removed: int = 0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Nothing was lost and everything held."""
        return not self.lost and not self.corrupt


def writer(folder: str, acks: str, seed: int, synchronous: str) -> None:
    """Append verdicts for ever; each line of `acks` says what is accepted: row, hash, and up to which row is confirmed next."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dice = random.Random(seed)
    lines = os.open(acks, os.O_WRONLY | os.O_APPEND)
    with Journal(Path(folder) / "journal.db", STATION, JOURNAL_BYTES) as journal:
        if synchronous != "FULL":
            journal._database().execute(f"PRAGMA synchronous={synchronous}")  # noqa: SLF001 - the mutation
        confirmed = 0
        while True:
            until = max(confirmed, journal.last_n - UNCONFIRMED)
            os.write(lines, f"{journal.last_n} {journal.head} {until}\n".encode())
            journal.append(make(journal, dice.choice((1, 1, 1, 1, 2, 3, 8)), dice), range(confirmed + 1, until + 1))
            confirmed = until
            journal.checkpoint(idle=dice.random() < 0.2)


def make(journal: Journal, count: int, dice: random.Random) -> list[Entry]:
    """Verdicts of the usual size that follow what is in the journal."""
    prev, entries = journal.head, []
    for seq in range(journal.last_n + 1, journal.last_n + 1 + count):
        raw = dice.random()
        score = wire.Score(raw, round(raw, 4), 0.5, round(raw, 4), 0.1, 0.2)
        verdict = wire.Verdict(
            wire.SCHEMA,
            wire.verdict_id(STATION, BOOT, seq),
            STATION,
            BOOT,
            seq,
            wire.Part(f"SN-{seq}", "barcode", "L2211", seq * 17, seq),
            "g1",
            "pass",
            [],
            score,
            [],
            wire.Times(10**15, 10**15, 10**15, 10**15, 220.0, 9.8, 205.0),
            wire.Clk("ntp", 12, 180, 10**10),
            wire.Context("bottle-500@7", "m@sha256:" + "9" * 32, "sha256:" + "7" * 32, "chk-20261121-060000"),
            wire.Cam(["c1"], ["c1"], 4.1),
            wire.Evidence("sha256:" + "e" * 32, "/evidence/" + "e" * 32),
            prev,
        )
        entries.append(Entry(BOOT, seq, wire.encode_verdict(verdict)))
        prev = wire.payload_hash(entries[-1].payload)
    return entries


def last_ack(path: Path) -> tuple[int, str, int]:
    """The newest complete line of the writer: row, hash, confirmed up to next."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
        lines = file.read().split(b"\n")
    if len(lines) < 2:
        return 0, wire.GENESIS, 0
    n, head, until = lines[-2].decode().split()
    return int(n), head, int(until)


def cut(image: Path, acks: Path, at: Path, outcome: Outcome) -> None:
    """One power cut, and what it left."""
    n, head, _ = last_ack(acks)
    snapshot = clone(image)
    _, _, may_be_confirmed = last_ack(acks)
    outcome.cuts += 1
    try:
        with mounted(snapshot, at) as disk:
            inspect(disk / "journal.db", n, head, may_be_confirmed, outcome)
    finally:
        snapshot.unlink()


def inspect(path: Path, n: int, head: str, may_be_confirmed: int, outcome: Outcome) -> None:
    """Open what the cut left as the daemon would after the power is back."""
    where = f"cut {outcome.cuts}"
    try:
        with Journal(path, STATION, JOURNAL_BYTES) as journal:
            last_n = journal.last_n
        with contextlib.closing(sqlite3.connect(path)) as database:
            (found,) = database.execute("PRAGMA integrity_check").fetchone()
        if found != "ok":
            outcome.corrupt.append(f"{where}: integrity_check: {found}")
        with Reader(path) as reader:
            report = verify_chain(reader)
            outcome.oldest_removed = max(outcome.oldest_removed, report.first_n - 1)
            if last_n < n:
                outcome.losing_cuts += 1
                outcome.lost += n - last_n
                outcome.most_lost = max(outcome.most_lost, n - last_n)
                return
            if n:
                (row,) = reader.rows(n - 1, 1)
                if row.n != n or wire.payload_hash(row.payload) != head:
                    outcome.corrupt.append(f"{where}: row {n} is not the verdict that was accepted")
            waiting = {row.n for row in reader.unsent(0, last_n, 100_000)}
            forgotten = set(range(max(may_be_confirmed, report.first_n - 1) + 1, last_n + 1)) - waiting
            if forgotten:
                outcome.corrupt.append(f"{where}: {len(forgotten)} unconfirmed verdicts left the outbox")
    except (OnbeltError, sqlite3.Error) as exc:
        outcome.corrupt.append(f"{where}: {exc}")


def run(synchronous: str, cuts: int, seed: int, folder: Path) -> Outcome:
    """So many cuts in one mode, on a fresh disk."""
    outcome = Outcome(synchronous)
    dice = random.Random(seed)
    begin = time.monotonic()
    # What is accepted is noted on another file system: it must outlive the cut.
    with cut_disk(folder, DISK_MB) as (image, disk), tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        acks = Path(memory) / "acks"
        acks.touch()
        words = ["--writer", str(disk), str(acks), str(seed), synchronous]
        process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), *words])
        try:
            while last_ack(acks)[0] < UNCONFIRMED:
                if process.poll() is not None or time.monotonic() - begin > 60:
                    raise RuntimeError("the writer does not write")
                time.sleep(0.05)
            for _ in range(cuts):
                time.sleep(dice.uniform(0.0, 0.03))
                cut(image, acks, folder / "after", outcome)
                if outcome.cuts % 100 == 0:
                    logger.info("%s: %d cuts, %d lost, %d corrupt", synchronous, outcome.cuts, outcome.lost, len(outcome.corrupt))
            if process.poll() is not None:
                outcome.corrupt.append("the writer has ended by itself")
            outcome.accepted = last_ack(acks)[0]
        finally:
            process.kill()
            process.wait(10)
    outcome.seconds = round(time.monotonic() - begin, 1)
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """The figures as Markdown."""
    lines = [
        "| synchronous | cuts | verdicts accepted | cuts that lost some | verdicts lost | by one cut at most | corrupt journals "
        "| oldest rows removed meanwhile | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.synchronous} | {one.cuts} | {one.accepted} | {one.losing_cuts} | {one.lost} | {one.most_lost} | "
        f"{len(one.corrupt)} | {one.oldest_removed} | {one.seconds:.0f} |"
        for one in outcomes
    ]
    return "\n".join(lines)


def report(outcomes: list[Outcome], seed: int) -> str:
    """The page docs/powercuts.md."""
    return f"""# Power cuts
{made_by("powercuts", f"seed {seed}", f"SQLite {sqlite3.sqlite_version}")}
The harness is [benchmarks/power_cuts.py](../benchmarks/power_cuts.py); a short run of it is part of `make test`.

A process appends verdicts to the real journal on a real ext4 (default options), an image file on XFS. A cut is a reflink clone
of that image while it is mounted and written: what had reached the block device at one instant. Then the clone is mounted and
the journal opened as after a return of the power: SQLite's integrity_check, the chain of hashes, the newest verdict accepted
before the cut byte for byte, and every unconfirmed verdict still in the outbox.

{table(outcomes)}

FULL is what the journal uses. NORMAL is the mutation: it must lose verdicts, or this harness could not see a loss.
Not shown: a drive that acknowledges a flush it does not do.
"""


def main() -> int:
    """Cut, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=1000, metavar="N", help="power cuts of the journal as it is")
    parser.add_argument("--mutant-cuts", type=int, default=100, metavar="N", help="power cuts with synchronous=NORMAL")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of batch sizes and moments")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--writer", nargs=4, help=argparse.SUPPRESS)  # the process whose power is cut
    args = parser.parse_args()
    if args.writer:
        folder, acks, seed, synchronous = args.writer
        writer(folder, acks, int(seed), synchronous)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is mounted is unmounted
    lack = missing()
    if not lack:
        with tempfile.TemporaryDirectory(prefix="onbelt-cuts-", dir="/var/tmp") as folder:  # a real disk
            lack = can_mount(Path(folder))
    if lack:
        print(f"power_cuts: this machine cannot run it: {lack}", file=sys.stderr)
        return 2
    outcomes = []
    for synchronous, cuts in zip(MODES, (args.cuts, args.mutant_cuts), strict=True):
        with tempfile.TemporaryDirectory(prefix="onbelt-cuts-", dir="/var/tmp") as folder:  # a real disk, no tmpfs
            outcomes.append(run(synchronous, cuts, args.seed, Path(folder)))
    kept, mutant = outcomes
    ok = kept.clean and (not args.mutant_cuts or mutant.lost > 0) and not mutant.corrupt
    print(json.dumps({"ok": ok, "runs": [asdict(one) for one in outcomes]}) if args.json else table(outcomes))
    for text in [*kept.corrupt[:10], *mutant.corrupt[:10]]:
        print(text, file=sys.stderr)
    if args.report:
        args.report.write_text(report(outcomes, args.seed))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
