"""The shipped broker configuration and ACL on a real mosquitto: who is heard, who is not, and what outlives a kill."""

import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from edge.broker.launch import find_mosquitto, wait_until
from edge.mqtt.connection import Connection
from edge.mqtt.settings import Broker
from edge.wire import topics as channels
from edge.wire.topics import Topics
from tests.conftest import free_port, skip_unless, stop_process, wait_for_port
from tests.integration.test_mqtt_tls import make

pytestmark = pytest.mark.broker
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "mosquitto"
TOPICS = Topics("plant", "hall", "line3", "st2")
OTHER = Topics("plant", "hall", "line3", "st9")
CLIENTS = ("st2", "st2-g1", "st9", "scada", "operator")


class Hardened:
    """mosquitto with the shipped files, their paths moved into a folder of the test's own."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        authority = make(folder, "ca", ca=True)
        for name in ("broker", *CLIENTS):
            make(folder, name, authority)
        text = (EXAMPLES / "onbelt.conf").read_text()
        text = text.replace("listener 8883", f"listener {self.port} 127.0.0.1")
        text = re.sub(r"/etc/mosquitto/(?:certs/)?", f"{folder}/", text).replace("/var/lib/mosquitto/", f"{folder}/data/")
        (folder / "data").mkdir()
        (folder / "acl").write_bytes((EXAMPLES / "acl").read_bytes())
        (folder / "acl").chmod(0o600)
        (folder / "onbelt.conf").write_text(text + "user root\n")
        self.start()

    def start(self):
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [find_mosquitto(), "-c", str(self.folder / "onbelt.conf")], stdout=self.log, stderr=self.log
        )
        wait_for_port(self.port)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(5)
        self.log.close()

    def client(self, name, **given):
        broker = Broker(
            "127.0.0.1",
            self.port,
            tls=True,
            ca=f"{self.folder}/ca.pem",
            cert=f"{self.folder}/{name}.pem",
            key=f"{self.folder}/{name}.key",
        )
        connection = Connection(broker, f"test-{name}", queue=50, **given)
        connection.start()
        assert wait_until(lambda: connection.connected, 30.0), (self.folder / "log").read_text()
        return connection


@pytest.fixture
def hardened(tmp_path):
    skip_unless(bool(find_mosquitto()), "mosquitto is not installed (apt-get install mosquitto)")
    broker = Hardened(tmp_path)
    yield broker
    stop_process(broker.process)
    broker.log.close()


def test_a_station_speaks_for_itself_only_and_only_its_gate_answers(hardened):
    heard, arrived = [], threading.Event()

    def listen(message):
        heard.append((message.topic, message.payload))
        if message.payload == b"end":
            arrived.set()

    everything = hardened.client("scada", subscriptions=[("onbelt/v1/#", 1)], on_message=listen)
    forged = [
        ("st9", TOPICS.topic(channels.VERDICT, "g1")),  # another station's verdict
        ("st9", TOPICS.topic(channels.BEAT)),
        ("scada", TOPICS.topic(channels.VERDICT, "g1")),  # whoever only looks
        ("scada", TOPICS.topic(channels.COMMAND, "rebirth")),
        ("st2-g1", TOPICS.topic(channels.VERDICT, "g1")),  # the gate judges nothing
        ("st2-g1", OTHER.topic(channels.ACK, "g1")),
    ]
    own = [
        ("st2", TOPICS.topic(channels.VERDICT, "g1")),
        ("st2", TOPICS.topic(channels.BIRTH)),
        ("st2-g1", TOPICS.topic(channels.ACK, "g1")),
    ]
    clients = {name: hardened.client(name) for name in ("st9", "st2-g1", "st2")} | {"scada": everything}
    try:
        for name, topic in forged:
            clients[name].publish(topic, b"forged", qos=1)
        for name, topic in own:
            assert clients[name].publish(topic, b"true", qos=1) is not None
        clients["st2"].publish(TOPICS.topic(channels.BEAT), b"end", qos=1)
        assert arrived.wait(30.0)
    finally:
        for client in clients.values():
            client.close(0.2)
    assert {payload for _, payload in heard} == {b"true", b"end"}
    assert {topic for topic, payload in heard if payload == b"true"} == {topic for _, topic in own}


def test_an_updater_hears_its_own_station_and_the_operator_and_no_other(hardened):
    """It connects under the station's name; deaf, it would say `silent` for ever and install nothing."""
    heard = []
    channels_of_it = (
        channels.STATE,
        channels.STATUS,
        channels.BIRTH,
        channels.VERDICT,
        channels.UPDATE_DESIRED,
        channels.UPDATE_TIME,
    )
    wanted = [(names.filter(channel), 1) for names in (TOPICS, OTHER) for channel in channels_of_it]
    updater = hardened.client("st2", subscriptions=wanted, on_message=lambda message: heard.append(message.topic))
    clients = {name: hardened.client(name) for name in ("st9", "operator")}
    own = [TOPICS.topic(channels.STATE), TOPICS.topic(channels.STATUS), TOPICS.topic(channels.BIRTH)]
    own.append(TOPICS.topic(channels.VERDICT, "g1"))
    told = [TOPICS.topic(channels.UPDATE_DESIRED), TOPICS.topic(channels.UPDATE_TIME)]
    try:
        clients["st9"].publish(OTHER.topic(channels.STATE), b"another's", qos=1)
        for topic in own:
            updater.publish(topic, b"own", qos=1)
        for topic in told:
            clients["operator"].publish(topic, b"told", qos=1)
        assert wait_until(lambda: len(heard) >= len(own) + len(told), 20.0), heard
    finally:
        for client in (updater, *clients.values()):
            client.close(0.2)
    assert sorted(heard) == sorted(own + told)


def test_what_was_accepted_outlives_a_kill(hardened):
    """A confirmed retained message is there after SIGKILL, once the next turn of the broker's loop has saved it.

    The default configuration saves every half hour.
    """
    station = hardened.client("st2")
    delivery = station.publish(TOPICS.topic(channels.BIRTH), b"accepted", qos=1, retain=True)
    assert delivery is not None
    assert wait_until(lambda: delivery.done, 20.0)
    saved = hardened.folder / "data" / "mosquitto.db"
    assert wait_until(lambda: saved.exists() and b"accepted" in saved.read_bytes(), 5.0)
    hardened.kill()
    station.close(0.1)
    hardened.start()
    heard = []
    reader = hardened.client(
        "scada", subscriptions=[("onbelt/v1/#", 1)], on_message=lambda message: heard.append(message.payload)
    )
    try:
        assert wait_until(lambda: b"accepted" in heard, 20.0)
    finally:
        reader.close(0.1)
