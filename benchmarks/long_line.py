"""Eight hours of a line, faster than it would run: memory, files and threads of daemon and gate must stay as they are.

    python benchmarks/long_line.py --report docs/long_line.md
    python benchmarks/long_line.py --parts 2000

144,000 parts are eight hours at 5 parts/s; here they come as fast as --rate says. The real daemon, gate and mosquitto, a journal
and an evidence folder so small that both are written over many times (the daemon holds some 180 bytes a kept part: a folder that
still fills would look like a leak), evidence of every rejected part. Memory is read from the kernel once a second;
the first tenth of the run is warm-up, after it a straight line is laid through each process' resident memory. Exit status: 0 flat
(less than 2 MB more from the warm-up to the end, no more files, no more threads), 1 not, 2 there is no mosquitto.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the cell is test code

from benchmarks.page import made_by  # noqa: E402
from edge.broker.launch import BrokerKind, find_mosquitto  # noqa: E402
from edge.demo.book import Tally  # noqa: E402
from tests.support.gate_cell import Cell, Program, pause  # noqa: E402

LINE_HZ = 5.0  # the line whose hours are counted
GATE_MS, MARGIN_MS = 700.0, 80.0
WARM = 0.1
MORE_MB, MORE_FILES = 2.0, 4
EVIDENCE_MB = 20.0  # full in the warm-up


@dataclass
class Watched:
    """One process over the run: part number, resident memory in MB, open files and threads, once a second."""

    parts: list[int] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def look(self, program: Program, parts: int) -> None:
        """Read the kernel's figures. A process that has ended raises."""
        assert program.process is not None
        proc = Path(f"/proc/{program.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        self.parts.append(parts)
        self.rss_mb.append(int(status["VmRSS"].split()[0]) / 1024)
        self.threads.append(int(status["Threads"]))
        self.files.append(len(list((proc / "fd").iterdir())))

    def growth_mb(self) -> float:
        """What the straight line through the memory gains from the end of the warm-up to the end of the run."""
        begin = int(len(self.parts) * WARM)
        parts, memory = np.array(self.parts[begin:], float), np.array(self.rss_mb[begin:])
        slope, _ = np.polyfit(parts, memory, 1)
        return float(slope * (parts[-1] - parts[0]))

    def flat(self) -> bool:
        """Nothing grows."""
        begin = int(len(self.parts) * WARM)
        steady = (max(self.files[-20:]) - max(self.files[begin : begin + 20]), self.threads[-1] - self.threads[begin])
        return self.growth_mb() < MORE_MB and max(steady) <= MORE_FILES


def watch(cell: Cell, parts: int) -> tuple[dict[str, Watched], Tally, int]:
    """Run the line; what became of the parts, and the largest size of the journal's files in bytes."""
    found = {"daemon": Watched(), "gate": Watched()}
    largest = 0
    cell.start()
    while cell.line.count < parts:
        pause(1.0)
        for name, program in (("daemon", cell.daemon), ("gate", cell.gate)):
            found[name].look(program, cell.line.count)
        largest = max(largest, sum(file.stat().st_size for file in cell.folder.glob("journal.db*")))
        if len(found["gate"].parts) % 5 == 0:
            cell.verify()  # before old verdicts leave the journal
        if len(found["gate"].parts) % 60 == 0:
            told = ", ".join(f"{name} {one.rss_mb[-1]:.1f} MB" for name, one in found.items())
            print(f"part {cell.line.count}: {told}", flush=True)
    return found, cell.finish(), largest


def page(found: dict[str, Watched], tally: Tally, largest: int, seconds: float) -> str:
    """docs/long_line.md."""
    hours, pace = tally.parts / LINE_HZ / 3600, tally.parts / seconds
    lines = [
        "# Eight hours of a line",
        made_by("long-line", f"{seconds:.0f} s"),
        f"{tally.parts} parts, {hours:.1f} h of a line of {LINE_HZ:g} parts/s, run at {pace:.0f} parts/s:",
        f"the real daemon and gate, mosquitto, every fourth part bad. {tally.good_passed} good parts through, "
        f"{tally.good_lost} lost, {tally.escapes} escapes, {tally.misses} misses.",
        f"The journal's files never took more than {largest / 2**20:.1f} MB. The first tenth of the run is warm-up.",
        "",
        "| process | after the warm-up, MB | at the end | most | gain of the line | open files, then and at the "
        "end | threads, then and at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        begin = int(len(one.parts) * WARM)
        lines.append(
            f"| {name} | {one.rss_mb[begin]:.1f} | {one.rss_mb[-1]:.1f} | {max(one.rss_mb):.1f} | {one.growth_mb():+.2f} | "
            f"{one.files[begin]}, {one.files[-1]} | {one.threads[begin]}, {one.threads[-1]} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=int, default=144_000, metavar="N", help="parts in all")
    parser.add_argument("--rate", type=float, default=100.0, metavar="HZ", help="parts a second, as fast as this machine can")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    args = parser.parse_args()
    if not find_mosquitto():
        print("long_line: mosquitto is not installed (apt-get install mosquitto)", file=sys.stderr)
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cell = Cell(
            Path(folder), BrokerKind.MOSQUITTO, rate_hz=args.rate, gate_ms=GATE_MS, margin_ms=MARGIN_MS, evidence_mb=EVIDENCE_MB
        )
        try:
            found, tally, largest = watch(cell, args.parts)
        finally:
            cell.close()
    text = page(found, tally, largest, time.monotonic() - began)
    print(text)
    if args.report:
        args.report.write_text(text)
    return 0 if all(one.flat() for one in found.values()) and tally.escapes == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
