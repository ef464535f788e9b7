"""The shipped units under a real systemd: start, crash, frozen camera, frozen process, failing start, stop; each timed.

    python benchmarks/systemd_box.py --report docs/systemd.md      # as root, about two minutes

The container and what is done to it are in tests/support/box.py; a short run is part of `make test`. The watchdog is set to 3 s
here (10 s as shipped), so that waiting for it does not take most of the time. Exit status: 0 as it should be, 1 not, 2 it cannot
run here.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the container is test code

from benchmarks.page import made_by
from tests.support import box as boxes
from tests.support import box_gate as gates

UNITS = sorted((Path(__file__).resolve().parents[1] / "systemd").glob("*.service"))
WATCHDOG_S = 3.0
# A camera that hangs is stuck after the part's time and a second more; from then on nobody feeds the watchdog.
STUCK_S = 1.0 + 1.0


def measure(box: boxes.Box) -> list[tuple[str, str, str]]:
    """Rows of the table: what is done, what happens, seconds."""
    rows = []

    def note(what: str, then: str, *seconds: float) -> None:
        rows.append((what, then, ", ".join(f"{one:.2f}" for one in seconds)))
        print(f"{what}: {then}: {rows[-1][2]} s", flush=True)

    note("`systemctl start`", "READY: engine built, golden frames replayed", boxes.starts(box))
    note("`systemctl stop` while parts come", "inactive, Result=success", boxes.stops(box))
    box.drop_in(WatchdogSec=f"{WATCHDOG_S:g}")
    boxes.starts(box)
    note("SIGSEGV", "restarted by systemd, READY again", boxes.crash(box, "SEGV"))
    note("SIGKILL", "restarted by systemd, READY again", boxes.crash(box, "KILL"))
    killed, again = boxes.freeze_capture(box, WATCHDOG_S)
    note(
        f"a camera driver that does not come back (stuck after {STUCK_S:g} s, watchdog {WATCHDOG_S:g} s)",
        "killed by the watchdog; READY again",
        killed,
        again,
    )
    note(
        f"the whole process frozen (SIGSTOP; watchdog {WATCHDOG_S:g} s, then SIGABRT waits 5 s for SIGKILL)",
        "killed, READY again",
        boxes.freeze_process(box, WATCHDOG_S),
    )
    measure_gate(box, note)
    note("`systemctl stop` after all that", "inactive, Result=success", boxes.stops(box))
    note("a configuration with a wrong key", "five starts, then left down, cause in the journal", boxes.fail_to_start(box))
    return rows


def measure_gate(box: boxes.Box, note: Callable[..., None]) -> None:
    """The gate's unit as shipped (watchdog 1 s), beside the running station; its line writes down what the output does."""
    gates.install_gate(box)
    note("gate: `systemctl start`", "READY: its wires taken, its watchdog flips", gates.gate_starts(box))
    told = gates.knows_the_station(box)
    if "disarmed" not in told:
        raise AssertionError(f"expected a gate that is disarmed until it has measured parts, its status is {told!r}")
    for number, what in (("SEGV", "SIGSEGV"), ("KILL", "SIGKILL"), ("STOP", "frozen (SIGSTOP; watchdog 1 s)")):
        seconds, seen = gates.gate_dies(box, number)
        if seen.opened:
            raise AssertionError(f"gate, {what}: its output opened")
        note(f"gate: {what}", "READY again; then, for so long its watchdog stood still: the line ejects", seconds, seen.dark_s)
    note("gate: `systemctl stop`", "inactive, Result=success", gates.gate_stops(box))
    note(
        "gate: a configuration with a wrong key",
        "five starts, then left down, cause in the journal",
        gates.gate_refuses_to_start(box),
    )


def uninstalls(box: boxes.Box) -> str:
    """The uninstaller on the running system; what is left of the units."""
    boxes.starts(box)
    box.run("/opt/onbelt/src/systemd/install.sh", "--uninstall", check=True)
    listed = "systemctl list-unit-files 'onbelt*' --no-legend; pgrep -u onbelt -c"
    left = box.run("sh", "-c", listed).stdout.split()
    kept = box.run("ls", "/etc/onbelt/station.toml", "/var/lib/onbelt/journal.db").returncode == 0
    return "" if left in ([], ["0"]) and kept else f"left {left}, configuration and journal kept: {kept}"


def page(rows: list[tuple[str, str, str]]) -> str:
    """docs/systemd.md."""
    version = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout.splitlines()[0]
    lines = [
        "# The units under a real systemd",
        made_by("systemd", version),
        "A container over this machine's own system (systemd-nspawn), the units installed by `systemd/install.sh`, the daemon",
        "with a bundle of 64 px, a folder of pictures as camera, five parts a second, a mosquitto. What is done to it is in",
        "`tests/support/box.py`. Interpreter and imports are most of each start; the load at the time is given above.",
        "",
        "| done | what happens | seconds |",
        "|---|---|---|",
    ]
    lines += [f"| {what} | {then} | {seconds} |" for what, then, seconds in rows]
    lines += [
        "",
        "Exposure as `systemd-analyze security --offline=yes` scores it (0 is best, 10 worst; a test asks for 2.5 at most):",
        "",
    ]
    lines += ["| unit | exposure |", "|---|---|", *(f"| {unit.name} | {exposure(unit)} |" for unit in UNITS)]
    return "\n".join(lines) + "\n"


def exposure(unit: Path) -> str:
    """Systemd's own score of a unit's hardening."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    return found[1] if found else "?"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    args = parser.parse_args()
    lack = boxes.missing()
    if lack:
        print(f"systemd_box: {lack}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="onbelt-box-") as folder, boxes.station_box(Path(folder)) as box:
            rows = measure(box)
            problem = uninstalls(box)
    except boxes.BootError as exc:
        print(f"systemd_box: {exc}", file=sys.stderr)
        return 2
    except (AssertionError, TimeoutError) as exc:
        print(f"systemd_box: {exc}", file=sys.stderr)
        return 1
    if problem:
        print(f"systemd_box: uninstall: {problem}", file=sys.stderr)
        return 1
    rows.append(("`install.sh --uninstall` while it runs", "stopped, units gone; configuration and journal kept", "-"))
    if args.report:
        args.report.write_text(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
