"""The gate's unit in the container of `tests.support.box`, and a line that writes down what its output does.

The line is a script of the standard library in the container: every flip of the gate's watchdog and every output with its moment.
What it does not hear, it ejects; so the longest pause between two flips is how long a crash or a freeze cost.
"""

import time
from itertools import pairwise
from typing import NamedTuple

from tests.support.box import Box, is_ready, restarted

UNIT = "onbelt-gate.service"
_LOG = "/run/line.log"
_LINE = f"""
import json, socket, time
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.bind(("127.0.0.1", 47103))
toggle = None
with open("{_LOG}", "w", buffering=1) as log:
    while True:
        told = json.loads(heard.recv(600))
        if told["toggle"] != toggle or told["count"] is not None:
            toggle = told["toggle"]
            log.write(f"{{time.monotonic_ns()}} {{told['output']}}\\n")
"""
_CONFIG = """
[station]
site = "plant1"
area = "hall2"
line = "line3"
station = "st2"

[timing]
gate_ms = 300.0

[line]
socket = "/run/onbelt-gate/gate.sock"
"""


class Seen(NamedTuple):
    """What the line saw since a moment: the longest pause between two flips, s, and whether the output ever opened."""

    dark_s: float
    opened: bool


def install_gate(box: Box) -> None:
    """gate.toml as an integrator would write it, and the line."""
    (box.root / "etc/onbelt/gate.toml").write_text(_CONFIG)
    (box.root / "var/lib/onbelt/line.py").write_text(_LINE)
    box.run("systemd-run", "--unit=line", "/usr/bin/python3", "/var/lib/onbelt/line.py", check=True)


def gate_starts(box: Box) -> float:
    """From `systemctl start` to READY, seconds."""
    begin = time.monotonic()
    done = box.run("systemctl", "start", UNIT, timeout_s=60)
    if done.returncode != 0:
        raise AssertionError(done.stderr + box.journal(UNIT))
    assert is_ready(box.show(UNIT))
    return time.monotonic() - begin


def seen(box: Box, since_ns: int) -> Seen:
    """What the line saw from then on (CLOCK_MONOTONIC, which a container shares)."""
    lines = [line.split() for line in box.run("cat", _LOG).stdout.splitlines()]
    times = [int(at) for at, _ in lines if int(at) >= since_ns]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    return Seen(max(pauses, default=0) / 1e9, any(output != "closed" for at, output in lines if int(at) >= since_ns))


def gate_dies(box: Box, number: str) -> tuple[float, Seen]:
    """A signal to its process: seconds until it is ready again, and what the line saw meanwhile."""
    before, since_ns = box.show(UNIT), time.monotonic_ns()
    time.sleep(0.2)  # some flips of before
    box.run("systemctl", "kill", "--kill-who=main", f"--signal={number}", UNIT, check=True)
    _, seconds = box.wait_for(restarted(before), 60, UNIT)
    state, _ = box.wait_for(lambda _: seen(box, since_ns).dark_s > 0.3, 30, UNIT)  # until it flips again
    assert int(state["NRestarts"]) == int(before["NRestarts"]) + 1, state
    return seconds, seen(box, since_ns)


def gate_refuses_to_start(box: Box) -> float:
    """A gate.toml that is wrong: seconds until systemd leaves it down, with the cause in the journal."""
    config = box.root / "etc/onbelt/gate.toml"
    good = config.read_text()
    box.run("systemctl", "reset-failed", UNIT)  # the starts of before do not count
    config.write_text(good.replace("gate_ms", "gate_mz"))
    begin = time.monotonic()
    box.run("systemctl", "start", "--no-block", UNIT)
    box.wait_for(lambda state: state["ActiveState"] == "failed", 120, UNIT)
    seconds = time.monotonic() - begin
    assert "did you mean timing.gate_ms?" in box.journal(UNIT), box.journal(UNIT)[-800:]
    config.write_text(good)
    box.run("systemctl", "reset-failed", UNIT)
    return seconds


def gate_stops(box: Box) -> float:
    """`systemctl stop`, seconds."""
    begin = time.monotonic()
    box.run("systemctl", "stop", UNIT, check=True)
    seconds = time.monotonic() - begin
    state = box.show(UNIT)
    assert (state["ActiveState"], state["Result"]) == ("inactive", "success"), state
    return seconds


def knows_the_station(box: Box) -> str:
    """Its status line once it has heard the running station: disarmed until parts have been measured."""
    state, _ = box.wait_for(lambda state: "commissioning" in state["StatusText"], 30, UNIT)
    return state["StatusText"]
