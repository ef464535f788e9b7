"""Whatever breaks, nothing goes through that was not judged good; and when it is mended, parts go through again.

Real daemon, real gate, real brokers, one belt that runs on from test to test. The truth is in the line, the verdicts are read
from the station's journal, and the two are compared after every fault. docs/faults.md lists these tests.
"""

import contextlib
import signal
import subprocess
import time

import msgspec
import pytest

from edge.broker.launch import BrokerKind, BrokerProcess, wait_until
from edge.errors import BrokerError
from edge.journal.reader import Reader
from edge.mqtt.connection import Connection
from edge.mqtt.settings import Broker
from edge.wire import topics as channels
from edge.wire.verdict import Verdict, decode_verdict, encode_verdict, verdict_id
from tests.support.gate_cell import GATE, PATIENCE_S, TOPICS, VALID_MS, Cell, pause

VERDICT_TOPIC = TOPICS.topic(channels.VERDICT, GATE)


@contextlib.contextmanager
def outsider(cell: Cell):
    """Somebody else with access to the broker."""
    heard: list[bytes] = []
    connection = Connection(
        Broker("127.0.0.1", cell.broker_port),
        "outsider",
        subscriptions=[(VERDICT_TOPIC, 1)],
        on_message=lambda message: heard.append(message.payload),
        queue=500,
    )
    connection.start()
    try:
        assert wait_until(lambda: connection.connected, PATIENCE_S)
        yield connection, heard
    finally:
        connection.close(0.2)


def newest(cell: Cell) -> Verdict:
    with Reader(cell.journal) as reader:
        last = 0
        while rows := reader.rows(last, 500):
            last, payload = rows[-1].n, rows[-1].payload
    return decode_verdict(payload)


def opened_between(cell: Cell, seconds: float) -> int:
    """Parts that went through while time passed."""
    before = cell.line.counts["opened"]
    pause(seconds)
    return cell.line.counts["opened"] - before


# --- processes ---------------------------------------------------------------------------------------------------------------


def test_broker_killed(any_cell):
    assert any_cell.broker is not None
    any_cell.broker.kill()
    # What had its PASS in hand may still pass; after a deadline and three beats nothing may.
    pause(VALID_MS / 1000 + 0.5)
    assert opened_between(any_cell, 0.7) == 0
    any_cell.broker.start()
    any_cell.recovers()


def test_daemon_killed(any_cell):
    boot = newest(any_cell).boot
    any_cell.daemon.kill()
    pause(VALID_MS / 1000 + 0.5)
    assert opened_between(any_cell, 0.5) == 0
    assert any_cell.line.stopped, "the gate must ask for a line stop, or a shift is scrapped"
    any_cell.daemon.start()
    any_cell.recovers()
    assert newest(any_cell).boot != boot


def test_gate_killed(any_cell):
    any_cell.gate.kill()
    pause(0.5)
    assert not any_cell.line.gate_alive
    assert opened_between(any_cell, 0.7) == 0
    any_cell.gate.start()
    any_cell.recovers()


def test_daemon_frozen(any_cell):
    any_cell.daemon.signal(signal.SIGSTOP)
    pause(VALID_MS / 1000 + 0.5)
    assert opened_between(any_cell, 1.0) == 0
    any_cell.daemon.signal(signal.SIGCONT)
    any_cell.recovers()


def test_gate_frozen(cell):
    cell.gate.signal(signal.SIGSTOP)
    pause(0.6)
    assert opened_between(cell, 1.0) == 0
    cell.gate.signal(signal.SIGCONT)
    cell.recovers()


def test_broker_frozen_and_flooding_after_it(any_cell):
    assert any_cell.broker is not None
    pid = any_cell.broker.pid
    subprocess.run(["kill", "-STOP", str(pid)], check=True)
    pause(VALID_MS / 1000 + 0.5)
    during = opened_between(any_cell, 0.7)
    subprocess.run(["kill", "-CONT", str(pid)], check=True)
    assert during == 0
    any_cell.recovers()


def test_daemon_killed_again_and_again(cell):
    """Restarts in a row: no boot's verdict opens for a part of another boot."""
    boot, before = newest(cell).boot, cell.line.counts["opened"]
    for _ in range(3):
        cell.daemon.kill()
        cell.daemon.start()
        pause(0.3)
    tally = cell.recovers()
    assert tally.escapes == 0
    assert newest(cell).boot != boot
    assert cell.line.counts["opened"] > before


# --- wires -------------------------------------------------------------------------------------------------------------------


def test_connection_cut(cell):
    logs = (cell.daemon.log, cell.gate.log)
    before = [log.read_text().count(": connected to ") for log in logs]

    def came_back():
        return all(log.read_text().count(": connected to ") > then for log, then in zip(logs, before, strict=True))

    cell.station_wire.cut()
    cell.gate_wire.cut()
    assert wait_until(came_back, PATIENCE_S), "the cut was felt, and both came back by themselves"
    cell.recovers()  # asked for only now: verdicts already with the gate open it for parts on the belt


def test_network_swallows_everything_and_comes_back(cell):
    """A partition: connections stay, nothing arrives, then all that was held comes at once."""
    for wire in (cell.station_wire, cell.gate_wire):
        wire.swallow = True
    pause(VALID_MS / 1000 + 0.5)
    during = opened_between(cell, 0.7)
    for wire in (cell.station_wire, cell.gate_wire):
        wire.swallow = False
    assert during == 0
    cell.recovers()


def test_verdicts_later_than_the_deadline(cell):
    cell.station_wire.delay_s = VALID_MS / 1000 + 0.1
    pause(2 * VALID_MS / 1000 + 0.3)
    during = opened_between(cell, 1.5)
    cell.station_wire.delay_s = 0.0
    assert during == 0
    cell.recovers()


@pytest.mark.parametrize("wire", ["to_station", "to_gate"])
def test_trigger_datagrams_lost(cell, wire):
    relay = getattr(cell, wire)
    relay.lose_every = 3
    before = relay.lost
    assert wait_until(lambda: relay.lost >= before + 5, PATIENCE_S)
    relay.lose_every = 0
    cell.recovers()


# --- messages ----------------------------------------------------------------------------------------------------------------


def test_verdicts_repeated_by_an_outsider(cell):
    """The same bytes again, at once and later: a part is decided once."""
    repeated = 0
    with outsider(cell) as (connection, heard):
        for _ in range(20):
            pause(0.05)
            for payload in heard[-10:]:
                repeated += connection.publish(VERDICT_TOPIC, payload, qos=1) is not None
    assert repeated > 10, "the outsider must have repeated something"
    cell.recovers()


@pytest.mark.parametrize("how", ["without the key", "another boot", "another part"])
def test_pass_forged_for_every_part(cell, how):
    """The station beats, is armed and hears no triggers; an outsider passes every part in its name, bad ones among them."""
    template = newest(cell)
    while template.verdict != "pass":
        pause(0.02)
        template = newest(cell)
    with outsider(cell) as (connection, heard):
        assert wait_until(lambda: bool(heard), PATIENCE_S)
        cell.to_station.lose_every = 1
        for n in range(25):
            pause(0.04)
            count = cell.line.count
            if how == "another part":
                # A real sealed verdict, changed in one number: its MAC no longer holds.
                payload = heard[-1].replace(b'"trig":%d' % decode_verdict(heard[-1]).part.trig, b'"trig":%d' % count)
            else:
                boot = template.boot if how != "another boot" else "0" * 26
                forged = msgspec.structs.replace(
                    template,
                    id=verdict_id(template.station, boot, 10**6 + n),
                    boot=boot,
                    seq=10**6 + n,
                    part=msgspec.structs.replace(template.part, trig=count, enc=0, id=str(count)),
                    t=msgspec.structs.replace(template.t, valid_ms=VALID_MS),
                )
                payload = encode_verdict(forged)
            connection.publish(VERDICT_TOPIC, payload, qos=1)
        pause(VALID_MS / 1000)
    cell.to_station.lose_every = 0
    cell.recovers()


def test_nonsense_on_every_topic(cell):
    with outsider(cell) as (connection, _):
        for payload in (b"", b"{}", b"\xff\xfe", b'{"verdict":"pass"}', b"[" * 900, b'{"sch":"onbelt.verdict/2"}'):
            for topic in (VERDICT_TOPIC, TOPICS.topic(channels.BEAT), TOPICS.topic(channels.STATE)):
                connection.publish(topic, payload, qos=1)
    assert cell.recovers().escapes == 0


# --- start -------------------------------------------------------------------------------------------------------------------


def test_broker_absent_at_start(tmp_path):
    cell = Cell(tmp_path, BrokerKind.EMBEDDED)
    try:
        cell.gate.start()
        cell.daemon.start()
        assert wait_until(lambda: cell.gate.said("no connection to") and cell.daemon.said("no connection to"), PATIENCE_S), (
            cell.logs()
        )
        cell.line.start()
        assert opened_between(cell, 1.0) == 0
        cell.start_broker()
        cell.wait_for_passes(4)
        tally = cell.finish()
        assert tally.good_lost > 0
    finally:
        cell.close()


def test_broker_port_taken(tmp_path, cell):
    with pytest.raises(BrokerError, match="somebody listens there already"):
        BrokerProcess(BrokerKind.EMBEDDED, tmp_path, cell.broker_port)


def test_second_gate_on_the_same_wires(cell):
    second = subprocess.run(cell.gate.argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert second.returncode == 2
    assert "is another gate running?" in second.stderr
    cell.recovers()


def test_every_part_is_accounted_for_at_the_end(tmp_path):
    """A run with one fault of each process, ended in order: the books of line and station agree to the part."""
    cell = Cell(tmp_path, BrokerKind.EMBEDDED)
    try:
        cell.start()
        cell.daemon.kill()
        cell.daemon.start()
        cell.wait_for_passes(3)
        assert cell.broker is not None
        cell.broker.kill()
        cell.broker.start()
        cell.wait_for_passes(3)
        cell.gate.kill()
        cell.gate.start()
        cell.wait_for_passes(3)
        started = time.monotonic()
        tally = cell.finish()
        assert time.monotonic() - started < 8.0
        assert tally.good_passed + tally.good_lost + tally.false_rejects + tally.bad_rejected == cell.line.count
    finally:
        cell.close()
