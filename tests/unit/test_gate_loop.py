"""The loop around the rules: what it tells people, and when it takes another connection."""

import socket

import pytest

from edge.broker.launch import free_port
from edge.gate.actions import LineStop
from edge.gate.config import load_config
from edge.gate.link import Received
from edge.gate.process import REFUSED_NS, RENEW_NS, GateProcess
from edge.wire import topics as channels
from edge.wire.station import BEAT, BIRTH
from tests.support.gate_line import write_gate_toml
from tests.support.gate_messages import make_beat, make_birth
from tests.support.station import HandClock


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def gate(tmp_path, clock):
    listen, output = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    config = load_config(write_gate_toml(tmp_path / "gate.toml", free_port(), listen, output))
    with GateProcess(config, clock, config.broker()) as process:
        yield process


def test_what_is_refused_is_said_once_a_minute_with_its_counts(gate, clock, caplog):
    def flood():
        for _ in range(1000):
            gate._hear(Received(clock.monotonic_ns(), channels.VERDICT, b"{}"))
            gate.warn_of_refused(clock.monotonic_ns())

    flood()
    clock.forward(REFUSED_NS / 1e6 - 1)
    flood()
    assert [one.message.split(" (")[0] for one in caplog.records] == ["messages refused: 1 malformed"]
    clock.forward(2)
    gate.warn_of_refused(clock.monotonic_ns())
    assert caplog.records[-1].message.startswith("messages refused: 1999 malformed ")
    clock.forward(REFUSED_NS / 1e6 + 1)
    gate.warn_of_refused(clock.monotonic_ns())
    assert len(caplog.records) == 2, "nothing new is nothing to say"


@pytest.mark.parametrize(("silent_ms", "renewed"), [(100.0, 1), (290.0, 0)])
def test_a_line_stop_takes_another_connection_only_while_beats_come(gate, clock, monkeypatch, silent_ms, renewed):
    """Without them the station is silent, and the alarm that says so would wait for the new connection."""
    asked: list[str] = []
    monkeypatch.setattr(gate._link, "renew", asked.append)
    gate._hear(Received(clock.monotonic_ns(), channels.BIRTH, BIRTH.encode(make_birth())))
    clock.forward(RENEW_NS / 1e6)
    gate._hear(Received(clock.monotonic_ns(), channels.BEAT, BEAT.encode(make_beat(1))))
    clock.forward(silent_ms)
    gate._carry_out(LineStop(on=True, why="3 parts in a row without a valid verdict"))
    assert len(asked) == renewed
