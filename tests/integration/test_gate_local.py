"""A gate on the same box hears its station through a Unix socket: parts pass without any broker, and nothing else opens."""

import socket

import pytest

from edge.broker.launch import BrokerKind, wait_until
from edge.errors import ConfigError
from edge.mqtt.local import LocalEar, LocalGate
from tests.support.gate_cell import PATIENCE_S, Cell

TOPICS = ["a/verdict/g1", "a/birth"]


def test_parts_pass_without_a_broker(tmp_path):
    cell = Cell(tmp_path, BrokerKind.EMBEDDED)
    path = tmp_path / "gate.sock"
    for name, section in (("station.toml", "[bridge]\ngate_socket"), ("gate.toml", "socket")):
        file = tmp_path / name
        file.write_text(f'{file.read_text()}{section} = "{path}"\n')
    try:
        cell.gate.start()
        cell.daemon.start()
        assert wait_until(lambda: cell.gate.said("commissioning: "), PATIENCE_S), cell.logs()
        cell.line.start()
        cell.wait_for_passes(6)
        assert cell.broker is None
        cell.recovers()
        cell.gate.kill()
        cell.gate.start()
        cell.recovers()
    finally:
        cell.close()


def test_only_known_topics_are_taken_and_a_newcomer_hears_what_is_retained(tmp_path):
    path = tmp_path / "gate.sock"
    station = LocalGate(path, ["a/birth"])
    station.send("a/birth", b"first")
    station.send("a/verdict/g1", b"nobody listens")
    ear = LocalEar(path, TOPICS)
    try:
        assert oct(path.stat().st_mode & 0o777) == "0o600"
        station.refresh()
        station.send("b/verdict/g1", b"another's")
        station.send("a/verdict/g1", b"x" * 9000)
        station.send("a/verdict/g1", b"\0\xff")
        assert ear.messages() == [("a/birth", b"first"), ("a/verdict/g1", b"\0\xff")]
        assert ear.refused == 2
        with pytest.raises(ConfigError, match="is another gate running"):
            LocalEar(path, TOPICS)
    finally:
        ear.close()
        station.close()
    assert not path.exists()


def test_the_socket_of_a_killed_gate_is_taken_over(tmp_path):
    path = tmp_path / "gate.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(path))
    ear = LocalEar(path, TOPICS)
    ear.close()
    with pytest.raises(ConfigError, match=r"line\.socket: .* cannot be used"):
        LocalEar(tmp_path / "none" / "gate.sock", TOPICS)
