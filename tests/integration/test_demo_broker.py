"""The demo's broker: starts, speaks MQTT 5, comes back on its port, dies with its parent, and says what is missing."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.broker import launch, lifeline
from edge.broker.launch import BrokerKind, BrokerProcess, choose, free_port, wait_until
from edge.errors import BrokerError
from edge.mqtt.connection import Connection
from edge.mqtt.probe import probe
from edge.mqtt.settings import Broker


@pytest.fixture(params=[BrokerKind.EMBEDDED, pytest.param(BrokerKind.MOSQUITTO, marks=pytest.mark.broker)], ids=lambda k: k.value)
def broker(request, tmp_path):
    with BrokerProcess(request.param, tmp_path) as running:
        yield running


def test_it_speaks_mqtt_5_and_comes_back_on_its_port(broker):
    address = Broker("127.0.0.1", broker.port)
    assert probe(address, "probe") == "5"
    pid, port = broker.pid, broker.port
    broker.kill()
    assert broker.pid == 0
    assert not broker.died
    broker.start()
    assert (broker.port, broker.pid != pid) == (port, True)
    assert probe(address, "probe") == "5"


def test_retained_messages_outlive_connections_and_not_the_broker(broker):
    address = Broker("127.0.0.1", broker.port)
    heard: list[bytes] = []
    speaker = Connection(address, "speaker")
    speaker.start()
    speaker.keep("a/b", b"kept")
    assert wait_until(lambda: speaker.connected, 10.0)
    speaker.close()
    listener = Connection(address, "listener", subscriptions=[("a/#", 1)], on_message=lambda m: heard.append(m.payload))
    listener.start()
    try:
        assert wait_until(lambda: heard == [b"kept"], 10.0)
        broker.kill()
        broker.start()
        heard.clear()
        assert wait_until(lambda: listener.connected and listener.reconnects == 2, 20.0)
        listener.publish("a/c", b"marker", qos=1)
        assert wait_until(lambda: heard == [b"marker"], 10.0)
    finally:
        listener.close(0.1)


def test_a_broker_that_dies_unasked_is_noticed(broker):
    subprocess.run(["kill", "-KILL", str(broker.pid)], check=True)
    assert wait_until(lambda: broker.died, 5.0)


def test_a_process_with_a_lifeline_dies_with_its_parent():
    """The parent starts a sleeper tied to it, tells its number, and is killed."""
    sleeper = lifeline.command([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"])
    program = (
        "import subprocess, time\n"
        f"child = subprocess.Popen({sleeper!r}, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path(f"/proc/{int(parent.stdout.readline())}")
    assert child.exists()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert wait_until(lambda: not child.exists() or ") Z " in (child / "stat").read_text(), 5.0)


def test_what_is_not_installed_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(launch, "find_mosquitto", lambda: "")
    for wanted, remedy in (
        ("auto", "onbelt\\[demo\\]"),
        ("embedded", "onbelt\\[demo\\]"),
        ("mosquitto", "apt-get install mosquitto"),
    ):
        with pytest.raises(BrokerError, match=remedy):
            choose(wanted)
    monkeypatch.setattr(launch, "find_mosquitto", lambda: "/usr/sbin/mosquitto")
    assert choose("auto") is BrokerKind.MOSQUITTO


def test_a_taken_port_is_said_before_anything_starts(broker, tmp_path):
    with pytest.raises(BrokerError, match="somebody listens there already"):
        BrokerProcess(BrokerKind.EMBEDDED, tmp_path, broker.port)


def test_a_broker_that_cannot_start_shows_its_last_word(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "START_S", 3.0)
    monkeypatch.setattr(BrokerProcess, "_argv", lambda _self: [sys.executable, "-c", "raise SystemExit('no such luck')"])
    with pytest.raises(BrokerError, match="no such luck"):
        BrokerProcess(BrokerKind.EMBEDDED, tmp_path, free_port())
