"""The connection against a real broker: it comes back, keeps what is retained, and sends nothing stale."""

import signal
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import BrokerError
from edge.mqtt.connection import Connection
from edge.mqtt.message import Message
from edge.mqtt.probe import probe
from edge.mqtt.settings import Broker
from tests.conftest import free_port, start_mosquitto, stop_process, wait_for_port
from tests.support.gate_wires import Proxy

pytestmark = pytest.mark.broker


class Listener:
    """A plain paho client that remembers what it got."""

    def __init__(self, port, topics, protocol=MQTTProtocolVersion.MQTTv5):
        self.got = []
        self.news = threading.Condition()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.client.on_message = self._on_message
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe([(topic, 1) for topic in topics])
        assert ready.wait(5)

    def _on_message(self, _client, _data, message):
        with self.news:
            self.got.append(message)
            self.news.notify_all()

    def wait_for(self, condition, timeout_s=5.0):
        with self.news:
            return self.news.wait_for(lambda: condition(self.got), timeout_s)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def until(condition, timeout_s=8.0):
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def make(broker, name="onbelt-t", **options):
    return Connection(Broker(broker.host, broker.port, options.pop("protocol", "auto")), name, **options)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_publishes_and_confirms(mosquitto, protocol):
    listener = Listener(mosquitto.port, ["a/#"])
    connection = make(mosquitto, protocol=protocol)
    try:
        assert connection.publish("a/b", b"early", qos=1) is None
        connection.start()
        assert until(lambda: connection.connected)
        assert connection.protocol == protocol
        delivery = connection.publish("a/b", b"hello", qos=1, expiry_s=2)
        assert delivery is not None
        assert until(lambda: delivery.done)
        assert listener.wait_for(lambda got: got)
        assert [message.payload for message in listener.got] == [b"hello"], "the early one must never come"
        if protocol == "5":
            assert listener.got[0].properties.ContentType == "application/json"
            assert listener.got[0].properties.MessageExpiryInterval <= 2
    finally:
        connection.close()
        listener.close()


def test_retained_values_survive_a_broker_restart_newest_only(tmp_path):
    first = start_mosquitto(tmp_path)
    changes = []
    connection = make(first, on_change=lambda up, why: changes.append((up, why)))
    second = None
    try:
        connection.keep("s/state", b"1")
        connection.start()
        assert until(lambda: connection.connected)
        stop_process(first.process)
        assert until(lambda: not connection.connected)
        connection.keep("s/state", b"2")
        connection.keep("s/state", b"3")
        connection.keep("s/alarm", b"x")
        connection.keep("s/alarm", b"")
        second = start_mosquitto(tmp_path, first.port)
        listener = Listener(second.port, ["s/#"])
        assert until(lambda: connection.connected, 12)
        assert listener.wait_for(lambda got: any(m.topic == "s/state" for m in got))
        listener.close()
        late = Listener(second.port, ["s/#"])
        assert late.wait_for(lambda got: got)
        assert [(m.topic, m.payload) for m in late.got] == [("s/state", b"3")]
        late.close()
        assert [up for up, _ in changes][:2] == [True, False]
        assert changes[-1] == (True, "")
        assert not any(up for up, _ in changes[1:-1])
        assert len(changes) == len({why for _, why in changes}) + 1, "each cause is told once"
    finally:
        connection.close()
        if second:
            stop_process(second.process)


def test_nothing_of_an_outage_is_ever_sent(tmp_path):
    first = start_mosquitto(tmp_path)
    connection = make(first)
    second = None
    try:
        connection.start()
        assert until(lambda: connection.connected)
        first.process.kill()
        first.process.wait(5)
        taken = [connection.publish("v", b"stale %d" % i, qos=1) for i in range(50)]
        assert sum(delivery is not None for delivery in taken) <= 16, "in flight is bounded"
        assert until(lambda: not connection.connected)
        assert connection.publish("v", b"stale", qos=1) is None
        second = start_mosquitto(tmp_path, first.port)
        listener = Listener(second.port, ["v"])
        assert until(lambda: connection.connected, 12)
        assert connection.publish("v", b"fresh", qos=1) is not None
        assert listener.wait_for(lambda got: any(m.payload == b"fresh" for m in got))
        assert [m.payload for m in listener.got] == [b"fresh"]
        assert not any(delivery.done for delivery in taken if delivery)
        listener.close()
    finally:
        connection.close()
        if second:
            stop_process(second.process)


def test_a_frozen_broker_fills_the_flight_and_then_refuses_without_blocking(mosquitto):
    connection = make(mosquitto)
    try:
        connection.start()
        assert until(lambda: connection.connected)
        mosquitto.process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        taken = [connection.publish("v", b"x" * 900, qos=1) for _ in range(100)]
        assert time.monotonic() - begin < 0.5
        assert sum(delivery is not None for delivery in taken) == 16
        assert connection.refused == 84
    finally:
        mosquitto.process.send_signal(signal.SIGCONT)
        connection.close()


def test_a_connection_given_up_is_made_anew_and_publishes_again(mosquitto):
    connection = make(mosquitto)
    connection.start()
    assert until(lambda: connection.connected)
    connection.renew("it confirms nothing")
    assert until(lambda: connection.reconnects == 2)
    assert connection.connected
    delivery = connection.publish("t", b"1", qos=1)
    assert delivery is not None
    assert until(lambda: delivery.done)
    connection.close()


def test_what_is_under_way_arrives_before_a_connection_is_given_up(mosquitto):
    """A gate acks a part and gives its connection up in the same moment."""
    listener = Listener(mosquitto.port, ["ack"])
    connection = make(mosquitto)
    try:
        connection.start()
        assert until(lambda: connection.connected)
        for number in range(1, 4):
            assert connection.publish("ack", b"%d" % number, qos=1) is not None
            connection.renew("no verdicts come on it")
            assert until(lambda n=number: connection.reconnects == n + 1 and connection.connected)
        assert listener.wait_for(lambda got: len(got) == 3), [one.payload for one in listener.got]
    finally:
        connection.close()
        listener.close()


@pytest.mark.parametrize("end", ["renew", "close"])
def test_a_connection_that_never_confirms_is_left_all_the_same(mosquitto, end):
    """TCP is well, pings are answered, and one confirmation was lost: paho alone would wait for it for ever."""
    proxy = Proxy(mosquitto.port)
    connection = Connection(Broker("127.0.0.1", proxy.port, "auto"), "onbelt-t")
    try:
        connection.start()
        assert until(lambda: connection.connected)
        proxy.deaf = True
        lost = connection.publish("t", b"1", qos=1)
        time.sleep(0.2)  # its confirmation comes, and vanishes
        proxy.deaf = False
        fresh = connection.publish("t", b"2", qos=1)
        assert until(lambda: fresh.done)
        assert not lost.done
        if end == "renew":
            connection.renew("it confirms nothing")
            assert until(lambda: connection.reconnects == 2, 3.0)
    finally:
        begin = time.monotonic()
        connection.close(0.5)
        assert time.monotonic() - begin < 2.0
        assert not connection.connected
        proxy.close()


def test_what_was_cleared_is_not_cleared_again_after_another_spoke_there(mosquitto):
    connection = make(mosquitto)
    listener = Listener(mosquitto.port, ["s/#"])
    try:
        connection.keep("s/alarm", b"mine")
        connection.start()
        assert listener.wait_for(lambda got: [m.payload for m in got] == [b"mine"])
        connection.keep("s/alarm", b"")
        assert listener.wait_for(lambda got: [m.payload for m in got] == [b"mine", b""])
        assert until(lambda: all(delivery.done for delivery in connection._cleared.values()))
        listener.client.publish("s/alarm", b"another's", 1, retain=True).wait_for_publish(5)
        connection.renew("the test wants another connection")
        assert until(lambda: connection.reconnects == 2 and connection.connected)
        connection.keep("s/end", b"x")
        assert listener.wait_for(lambda got: any(m.topic == "s/end" for m in got))
        assert [m.payload for m in listener.got if m.topic == "s/alarm"] == [b"mine", b"", b"another's"]
    finally:
        connection.close()
        listener.close()


def test_the_will_is_published_and_a_restart_follows_it(mosquitto):
    listener = Listener(mosquitto.port, ["s/status"])
    will = Message("s/status", b"offline", 1, True)
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from edge.mqtt.connection import Connection\nfrom edge.mqtt.message import Message\n"
        "from edge.mqtt.settings import Broker\n"
        "c = Connection(Broker('127.0.0.1', int(sys.argv[1])), 'onbelt-w', will=Message('s/status', b'offline', 1, True))\n"
        "c.keep('s/status', b'online 1'); c.start(); time.sleep(60)\n"
    )
    import sys

    process = subprocess.Popen([sys.executable, "-c", script, str(mosquitto.port), "."])
    connection = make(mosquitto, "onbelt-w", will=will)
    try:
        assert listener.wait_for(lambda got: any(m.payload == b"online 1" for m in got), 10)
        process.kill()
        connection.keep("s/status", b"online 2")
        connection.start()
        assert listener.wait_for(lambda got: any(m.payload == b"online 2" for m in got), 10)
        # The will of the killed one comes at the latest when its name is taken over: before the new one speaks.
        assert [m.payload for m in listener.got] == [b"online 1", b"offline", b"online 2"]
    finally:
        process.kill()
        process.wait(5)
        connection.close()
        listener.close()


def test_messages_reach_the_callback_and_a_bad_one_does_no_harm(mosquitto):
    got = []

    def on_message(incoming):
        if incoming.payload == b"bad":
            raise RuntimeError("cannot digest")
        got.append(incoming)

    connection = make(mosquitto, subscriptions=[("in/#", 1)], on_message=on_message)
    listener = Listener(mosquitto.port, ["out"])
    try:
        connection.start()
        assert until(lambda: connection.connected)
        for payload in (b"bad", b"good"):
            listener.client.publish("in/x", payload, qos=1).wait_for_publish(5)
        assert until(lambda: len(got) == 1)
        assert got[0].payload == b"good"
        assert not got[0].retain
    finally:
        connection.close()
        listener.close()


def test_bad_password_is_said_plainly(tmp_path, caplog):
    password = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(password), "box", "right"], check=True)
    password.chmod(0o644)
    port = free_port()
    config = tmp_path / "m.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {password}\nuser root\n")
    process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        with pytest.raises(BrokerError, match=r"Not authorized|Bad user name"):
            probe(Broker("127.0.0.1", port, user="box", password="wrong"), "p", 2.0)
        assert probe(Broker("127.0.0.1", port, user="box", password="right"), "p") == "5"
        assert "right" not in caplog.text
        assert "right" not in repr(Broker("h", 1, user="box", password="right"))
    finally:
        stop_process(process)


def test_a_failed_start_is_told_once():
    changes = []
    connection = Connection(Broker("127.0.0.1", free_port()), "p", on_change=lambda up, why: changes.append((up, why)))
    connection.start()
    time.sleep(1.0)
    connection.close()
    assert len(changes) == 1
    assert not changes[0][0]
    assert "refused" in changes[0][1]


def test_nobody_listens():
    with pytest.raises(BrokerError, match="refused"):
        probe(Broker("127.0.0.1", free_port()), "p", 1.0)


def test_close_is_quick_without_a_broker():
    connection = Connection(Broker("127.0.0.1", free_port()), "p")
    connection.start()
    begin = time.monotonic()
    connection.close()
    assert time.monotonic() - begin < 1.0
