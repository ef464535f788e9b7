"""Check the checker: `onbelt gatecheck` on the reference gate, which must hold, and on every mutant of it, which must not.

    python benchmarks/gatecheck.py --report docs/gatecheck.md
    python benchmarks/gatecheck.py --only last-word

The reference runs as the real command in a process of its own, so that it can be frozen; the mutants
(tests/support/mutant_gates.py) run in threads here. A real mosquitto carries the messages. Exit status: 0 as it should be,
1 a rule of the reference does not hold or a mutant was not found out, 2 there is no mosquitto.
"""

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the mutants are test code

from benchmarks.page import made_by  # noqa: E402
from edge.broker.launch import BrokerKind, BrokerProcess, end_process, find_mosquitto, free_port, wait_until  # noqa: E402
from edge.gate.config import load_config  # noqa: E402
from edge.gate.kit.bench import Finding  # noqa: E402
from edge.gate.kit.setup import opened_kit  # noqa: E402
from tests.support.gate_line import write_gate_toml  # noqa: E402
from tests.support.mutant_gates import MUTANTS, running_gate  # noqa: E402

KEY = b"a key of more than sixteen bytes"
MIN_PITCH_MS = 45.0  # as for an output that is a level: lead_ms + margin_ms are 40


def check_reference(folder: Path, port: int, gate_ms: float) -> list[Finding]:
    """The whole check on `onbelt gate`, sealed verdicts required."""
    key = folder / "verdict.key"
    key.touch(mode=0o600)
    key.write_bytes(KEY)
    listen, output = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    config = write_gate_toml(
        folder / "gate.toml", port, listen, output, gate_ms=gate_ms, min_pitch_ms=MIN_PITCH_MS, require_mac=True, mac_key=str(key)
    )
    log = folder / "gate.log"
    with log.open("wb") as sink:
        gate = subprocess.Popen([sys.executable, "-m", "edge.cli", "gate", "--config", str(config)], stderr=sink, cwd=ROOT)
    try:
        if not wait_until(lambda: "connected to" in log.read_text(), 20.0):
            raise RuntimeError(log.read_text())
        with opened_kit(load_config(config), pid=gate.pid) as check:
            return list(check.run())
    finally:
        end_process(gate, signal.SIGKILL, 2.0)


def check_mutant(name: str, folder: Path, port: int, gate_ms: float) -> list[Finding]:
    """The checks of the broken rule on one mutant; those that failed."""
    mutant = MUTANTS[name]
    rules: dict[str, Any] = {"min_pitch_ms": MIN_PITCH_MS} if name == "any-pitch" else {}
    if name == "any-seal":
        key = folder / "verdict.key"
        key.touch(mode=0o600)
        key.write_bytes(KEY)
        rules = {"require_mac": True, "mac_key": str(key)}
    with running_gate(folder, port, mutant.breaks, gate_ms=gate_ms, **rules) as config, opened_kit(config) as check:
        return [finding for finding in check.run(mutant.only) if finding.result == "fail"]


def page(reference: list[Finding], mutants: dict[str, list[Finding]], seconds: float, gate_ms: float) -> str:
    """docs/gatecheck.md."""
    lines = [
        "# The gate check, checked",
        made_by("gatecheck", f"{seconds:.0f} s", f"parts decided {gate_ms - 40:.0f} ms after their trigger"),
        "What `onbelt gatecheck` says of the reference gate, and what it says of each gate with one rule broken.",
        "",
        "## The reference",
        "| rule | check | result |",
        "|---|---|---|",
    ]
    lines += [f"| {one.rule} | {one.name} | {one.result}{': ' + one.detail if one.detail else ''} |" for one in reference]
    lines += ["", "## Gates with a broken rule", "| gate | rule | found out by |", "|---|---|---|"]
    for name, failed in mutants.items():
        found = "; ".join(f"rule {one.rule}: {one.name}" for one in failed) or "**not found**"
        lines.append(f"| {MUTANTS[name].text} | {MUTANTS[name].rule} | {found} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(MUTANTS), help="this mutant, and not the reference")
    parser.add_argument(
        "--gate-ms",
        type=float,
        default=520.0,
        metavar="MS",
        help="trigger to rejector; a machine that does other work needs more",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    args = parser.parse_args()
    if not find_mosquitto():
        print("gatecheck: mosquitto is not installed (apt-get install mosquitto)", file=sys.stderr)
        return 2
    begin = time.monotonic()
    mutants: dict[str, list[Finding]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with BrokerProcess(BrokerKind.MOSQUITTO, folder) as broker:
            reference = [] if args.only else check_reference(folder, broker.port, args.gate_ms)
            for finding in reference:
                print(f"reference  rule {finding.rule}  {finding.result}  {finding.name}  {finding.detail}", flush=True)
            for mutant in [args.only] if args.only else MUTANTS:
                own = folder / mutant
                own.mkdir()
                mutants[mutant] = check_mutant(mutant, own, broker.port, args.gate_ms)
                found = [f"rule {one.rule}: {one.name}: {one.detail}" for one in mutants[mutant]]
                print(f"{mutant}: {found or 'NOT FOUND'}", flush=True)
    missed = [name for name, failed in mutants.items() if MUTANTS[name].rule not in {one.rule for one in failed}]
    failed = [one for one in reference if one.result == "fail"]
    if args.report:
        args.report.write_text(page(reference, mutants, time.monotonic() - begin, args.gate_ms))
    print(f"{len(failed)} of the reference's checks do not hold; {len(missed)} mutants not found {missed}")
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
