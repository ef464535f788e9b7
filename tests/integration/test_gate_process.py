"""`onbelt gate` as a process on a real broker, with a line before it and a station that says what the test wants."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.broker.launch import BrokerKind, BrokerProcess, wait_until
from edge.wire import topics as channels
from edge.wire.quarantine import QUARANTINE_CODEC
from tests.conftest import skip_unless
from tests.support.gate_line import COMMISSIONING, D_MS, GateUnderTest
from tests.support.gate_messages import OTHER_BOOT
from tests.support.gate_station import TOPICS, GateStation

VERDICTS = {0: "reject", 1: "pass", 2: "pass", 3: "pass", 4: "invalid", 5: "pass", 6: ""}


def verdict_of(count: int) -> str:
    return VERDICTS[count % 7]


class Cell(NamedTuple):
    broker: BrokerProcess
    station: GateStation
    gate: GateUnderTest


@pytest.fixture(params=[BrokerKind.EMBEDDED, pytest.param(BrokerKind.MOSQUITTO, marks=pytest.mark.broker)], ids=lambda k: k.value)
def cell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cell]:
    """Broker, station and gate, all up; the line stands still."""
    with ExitStack() as stack:
        broker = stack.enter_context(BrokerProcess(request.param, tmp_path))
        station = GateStation(broker.port, verdict_of).start()
        stack.callback(station.close)
        gate = GateUnderTest(tmp_path, broker.port, lambda count: verdict_of(count) == "pass", station.address)
        stack.callback(gate.close)
        gate.start()
        gate.wait_for_log("commissioning: ")
        yield Cell(broker, station, gate)


def run_to(cell: Cell, count: int, timeout_s: float = 15.0) -> None:
    assert wait_until(lambda: cell.gate.line.count >= count, timeout_s), f"the line stands at part {cell.gate.line.count}"


def write_down(cell: Cell) -> None:
    """What the station said goes into the line's book, as the journal would tell it."""
    for count in range(1, cell.gate.line.count + 1):
        if verdict_of(count):
            cell.gate.line.book.verdict(count, verdict_of(count))


def test_good_parts_pass_and_everything_else_is_ejected(cell):
    cell.gate.line.start()
    run_to(cell, 40)
    figures = cell.gate.stop()
    write_down(cell)
    tally = cell.gate.line.book.tally()
    good = sum(cell.gate.line.book.is_good(n) for n in range(1, cell.gate.line.count + 1))
    assert tally.escapes == 0
    assert tally.parts == cell.gate.line.count
    # Part 6 of 7 never gets a verdict and puts the commissioning off until five in a row have one.
    assert tally.good_passed >= good - 9
    assert tally.good_passed + tally.good_lost + tally.false_rejects == good
    assert wait_until(lambda: len(cell.station.acks) == cell.gate.line.count, 3.0)
    assert [ack.trig for ack in cell.station.acks] == list(range(1, cell.gate.line.count + 1))
    by_why = {why: sum(ack.why == why for ack in cell.station.acks) for why in ("verdict", "missing", "disarmed")}
    assert sum(by_why.values()) == len(cell.station.acks)
    assert 1 <= by_why["disarmed"] <= COMMISSIONING + 7
    slacks = [ack.slack_ms for ack in cell.station.acks if ack.slack_ms is not None]
    assert all(0 < slack < D_MS - 25 for slack in slacks)
    assert figures["counts"]["opened"] == tally.good_passed


def test_only_the_current_boot_opens(cell):
    cell.gate.line.start()
    run_to(cell, 20)
    cell.station.judge = lambda _count: ""
    old = cell.station.boot
    cell.station.rise_again()
    mark = cell.gate.line.count

    def answer_as_the_dead(count: int) -> str:
        if count > mark:
            cell.station.send(count, "pass", boot=old)
        return ""

    cell.station.judge = answer_as_the_dead
    time.sleep(1.0)
    cell.gate.stop()
    stale = [ack for ack in cell.station.acks if ack.why == "stale-boot"]
    assert stale
    assert not [ack for ack in cell.station.acks if ack.fired and OTHER_BOOT in ack.id]
    assert not [ack for ack in cell.station.acks if ack.fired and ack.trig > mark]


def test_silence_stops_the_line_and_recovery_starts_it_again(cell):
    cell.gate.line.start()
    run_to(cell, 20)
    cell.station.judge = lambda _count: ""
    assert wait_until(lambda: cell.gate.line.stopped, 5.0)
    cell.station.judge = lambda _count: "pass"
    stood_at = cell.gate.line.count
    run_to(cell, stood_at + 12)
    assert not cell.gate.line.stopped
    cell.gate.stop()
    assert any(code == "gate-g1-line-stop" for code in cell.station.alarms)
    assert cell.station.alarms["gate-g1-line-stop"] == b""  # cleared
    assert [ack for ack in cell.station.acks if ack.fired and ack.trig > stood_at]


def test_a_reject_after_the_part_has_gone_is_quarantined(cell):
    cell.gate.line.start()
    run_to(cell, 25)
    assert wait_until(lambda: any(ack.fired for ack in cell.station.acks), 5.0)
    passed = next(ack for ack in cell.station.acks if ack.fired)
    cell.station.send(passed.trig, "reject")
    assert wait_until(lambda: bool(cell.station.quarantine), 3.0)
    notice = QUARANTINE_CODEC.decode(cell.station.quarantine[-1])
    assert (notice.ranges[0].first, notice.ranges[0].last) == (passed.trig, passed.trig)
    # A message of its own, which may come after the notice.
    assert wait_until(lambda: "gate-g1-quarantine" in cell.station.alarms, 3.0)


def suspects(cell: Cell) -> list[int]:
    named = cell.station.quarantine[-1] if cell.station.quarantine else b""
    return [one.first for one in QUARANTINE_CODEC.decode(named).ranges] if named else []


def test_suspect_parts_outlive_a_gate_that_is_killed_and_end_with_an_empty_notice(cell):
    cell.gate.line.start()
    for number in (1, 2):
        seen = len(cell.station.acks)
        assert wait_until(lambda seen=seen: any(ack.fired for ack in cell.station.acks[seen:]), 15.0)
        passed = next(ack for ack in cell.station.acks[seen:] if ack.fired)
        cell.station.send(passed.trig, "reject")
        assert wait_until(lambda number=number: len(suspects(cell)) == number, 5.0), suspects(cell)
        assert suspects(cell)[-1] == passed.trig
        if number == 1:
            cell.gate.kill()
            cell.gate.start()
            cell.gate.wait_for_log("armed for", after=len(cell.gate.log.read_text()))
    assert cell.station.alarms["gate-g1-quarantine"]
    topic = TOPICS.topic(channels.QUARANTINE)
    cell.station.connection.publish(topic, b"", qos=1, retain=True)
    assert wait_until(lambda: cell.station.alarms["gate-g1-quarantine"] == b"", 5.0)


def test_a_gate_that_starts_clears_what_a_killed_one_had_raised_and_says_why_it_is_disarmed(cell):
    cell.gate.kill()
    cell.station.beating = False
    old = [TOPICS.topic(channels.ALARM, f"gate-g1-{what}") for what in ("line-stop", "overflow", "quarantine")]
    for topic in old:
        cell.station.connection.publish(topic, b"of the killed one", qos=1, retain=True)
    alarms = cell.station.alarms
    assert wait_until(lambda: list(alarms.values()).count(b"of the killed one") == len(old), 10.0)
    cell.gate.start()
    assert wait_until(lambda: alarms["gate-g1-line-stop"] == alarms["gate-g1-overflow"] == b"", 10.0)
    assert alarms["gate-g1-disarmed"]
    assert alarms["gate-g1-quarantine"] == b"of the killed one", "parts stay suspect until they are found"


def test_print_config_and_wrong_files(tmp_path):
    argv = [sys.executable, "-m", "edge.cli", "gate", "--config"]
    example = Path(__file__).resolve().parents[2] / "docs" / "examples" / "gate.toml"
    shown = subprocess.run([*argv, str(example), "--print-config"], capture_output=True, text=True, timeout=20, check=False)
    assert shown.returncode == 0
    assert "gate_ms = 440.0  # gate.toml" in shown.stdout
    wrong = tmp_path / "gate.toml"
    wrong.write_text(example.read_text().replace("gate_ms", "gatems"))
    refused = subprocess.run([*argv, str(wrong)], capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 2
    assert "gatems" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_taken_port_is_said_in_one_line(cell, check):
    argv = [sys.executable, "-m", "edge.cli", "gate", "--config", str(cell.gate.config), *check]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 2
    assert "is another gate running?" in second.stderr.splitlines()[-1]


def test_check_tries_wires_and_broker_and_opens_nothing(cell):
    cell.gate.stop()
    argv = [sys.executable, "-m", "edge.cli", "gate", "--config", str(cell.gate.config), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    tried = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert tried.keys() == {"configuration", "secrets", "scheduling", "wires", "broker"}
    assert all(found.startswith("ok: ") for found in tried.values())
    # Without a broker the gate may start: it rejects until it hears of its station.
    alone = cell.gate.config.with_name("alone.toml")
    alone.write_text(re.sub(r"(?m)^port = \d+", "port = 9", cell.gate.config.read_text()))
    missing = subprocess.run(
        [*argv[:-2], str(alone), "--check", "--json"], capture_output=True, text=True, timeout=30, check=False
    )
    assert missing.returncode == 0, missing.stderr
    assert json.loads(missing.stdout)["checks"][-1].startswith("broker         MISSING: ")


def test_its_loop_gets_the_priority_the_processor_and_the_memory_it_asks_for(cell):
    skip_unless(os.geteuid() == 0, "real-time priority and locked memory need root here, or the limits of the unit")
    cell.gate.kill()
    said = len(cell.gate.log.read_text())
    processor = max(os.sched_getaffinity(0))
    with cell.gate.config.open("a") as stream:
        stream.write(f"[process]\npriority = 7\ncpus = [{processor}]\nlock_memory = true\n")
    cell.gate.start()
    cell.gate.wait_for_log("commissioning: ", after=said)
    assert cell.gate.process is not None
    pid = cell.gate.process.pid
    assert (os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority) == (os.SCHED_FIFO, 7)
    assert os.sched_getaffinity(pid) == {processor}
    locked = re.search(r"VmLck:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert locked is not None
    assert int(locked.group(1)) > 0
    cell.gate.line.start()
    run_to(cell, 15)
    figures = cell.gate.stop()
    assert figures["counts"]["opened"] > 0


def test_figures_are_one_json_object(cell):
    figures = cell.gate.stop()
    assert json.loads(json.dumps(figures))["reconnects"] == 1
