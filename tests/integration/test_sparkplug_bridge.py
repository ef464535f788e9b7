"""The Sparkplug node of a real daemon, seen by a host over a real mosquitto: birth, data, rebirth, death said or by will."""

import threading
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.clock import SystemClock
from edge.mqtt.settings import Broker
from edge.mqtt.sparkplug import Node
from edge.wire.sparkplug import REBIRTH, DataType, Metric
from tests.support.rig import Process, Rig, until

pytest.importorskip("google.protobuf", reason="the independent decoder: pip install protobuf")
from tests.support import sparkplug

pytestmark = pytest.mark.broker
NODE = "spBv1.0/plant1/{}/line3-st2"


class Host:
    """A Sparkplug host: keeps every payload of the node, and checks what Sparkplug demands of their order."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, Any, int, bool]] = []
        ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        self.client.on_message = self._keep
        self.client.on_connect = lambda client, *_: client.subscribe("spBv1.0/#", 1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(10)

    def _keep(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        if kind != "NCMD":
            assert message.topic == NODE.format(kind)
            self.heard.append((kind, sparkplug.parse(bytes(message.payload)), message.qos, message.retain))

    def payloads(self, kind: str) -> list[Any]:
        return [payload for name, payload, _, _ in list(self.heard) if name == kind]

    def value(self, name: str) -> Any:
        """The newest value of a metric, from the births and data so far."""
        found = [sparkplug.values(payload) for kind, payload, _, _ in list(self.heard) if kind != "NDEATH"]
        return next((values[name] for values in reversed(found) if name in values), None)

    def bd_seqs(self, kind: str) -> list[int]:
        return [sparkplug.values(payload)["bdSeq"] for payload in self.payloads(kind)]

    def ask(self, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(NODE.format("NCMD"), payload, 1, retain).wait_for_publish(5)

    def check_order(self) -> None:
        """Births begin at 0, data go up by one and wrap, and name nothing a birth has not named; nothing is retained."""
        seq, names = None, set()
        for kind, payload, qos, retain in self.heard:
            assert not retain
            if kind == "NDEATH":
                seq = None
                assert not payload.HasField("seq")
                assert [metric.name for metric in payload.metrics] == ["bdSeq"]
                continue
            assert qos == 0
            assert payload.timestamp > 1_700_000_000_000
            assert all(metric.timestamp and metric.datatype for metric in payload.metrics)
            if kind == "NBIRTH":
                names = {metric.name for metric in payload.metrics}
                assert {"bdSeq", REBIRTH} <= names
                assert payload.seq == 0
            else:
                assert seq is not None, "data without a birth"
                assert payload.seq == (seq + 1) % 256
                assert {metric.name for metric in payload.metrics} <= names
            seq = payload.seq

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def host(mosquitto):
    host = Host(mosquitto.port)
    yield host
    host.close()


def test_a_daemon_is_born_tells_what_changes_is_born_again_when_asked_and_dies(tmp_path, mosquitto, host):
    rig = Rig(tmp_path, mosquitto.port, bridge={"sparkplug": True})
    try:
        rig.start()
        rig.parts(30)
        assert until(lambda: sum(rig.daemon.figures.verdicts().values()) == 30)
        verdicts = rig.daemon.figures.verdicts()
        assert verdicts["pass"] > 10
        assert until(lambda: host.value("Parts/Good") == verdicts["pass"]), host.value("Parts/Good")
        assert until(lambda: host.value("Parts/Bad") == verdicts["reject"])
        assert host.value("Armed") is True
        assert host.value("Model/Name") == rig.daemon.publisher.who.model
        assert host.value("Properties/Boot") == rig.daemon.boot
        births = len(host.payloads("NBIRTH"))
        assert births == 1
        host.ask(sparkplug.command("Node Control/Reboot", value=True))
        host.ask(sparkplug.command(REBIRTH, value=False))
        host.ask(b"\xff\xff")
        assert rig.daemon.station.armed
        for _ in range(20):
            host.ask(sparkplug.command(REBIRTH, value=True))
        assert until(lambda: len(host.payloads("NBIRTH")) == births + 1)
        assert sparkplug.values(host.payloads("NBIRTH")[1])["Parts/Good"] == verdicts["pass"], "a birth holds every value"
    finally:
        rig.stop()
    assert until(lambda: len(host.payloads("NDEATH")) == 1)
    assert host.bd_seqs("NDEATH") == host.bd_seqs("NBIRTH")[:1]
    assert len(host.payloads("NBIRTH")) <= births + 2, "twenty commands are one birth, or two where they fell on a tick"
    host.check_order()


def test_a_killed_daemon_dies_by_its_will_and_is_born_with_the_next_number(tmp_path, mosquitto, host):
    process = Process(tmp_path, mosquitto.port, bridge={"sparkplug": True})
    process.start()
    assert until(lambda: host.payloads("NBIRTH"), 30)
    process.kill()
    assert until(lambda: host.payloads("NDEATH"), 10)
    process.start()
    try:
        assert until(lambda: len(host.payloads("NBIRTH")) == 2, 30)
    finally:
        process.terminate()
    first, second = host.bd_seqs("NBIRTH")
    assert host.bd_seqs("NDEATH")[0] == first
    assert second == (first + 1) % 256
    host.check_order()


def test_numbers_wrap_a_retained_command_is_refused_and_an_unborn_metric_cannot_be_told(tmp_path, mosquitto, host):
    host.ask(sparkplug.command(REBIRTH, value=True), retain=True)
    (tmp_path / "bd").write_text("254\n")

    def metrics(n: int) -> dict[str, Metric]:
        return {"n": Metric("n", DataType.UINT64, n)}

    clock = SystemClock()
    node = Node(Broker("127.0.0.1", mosquitto.port), "spb-test", "plant1", "line3-st2", tmp_path / "bd", metrics(0), clock)
    node.start()
    try:
        assert until(lambda: node.births == 1)
        assert until(lambda: node.refused == 1)
        for n in range(1, 300):
            node.update(metrics(n))
        node.update(metrics(299))
        assert until(lambda: host.value("n") == 299)
        assert len(host.payloads("NDATA")) == 299
        with pytest.raises(ValueError, match="'m' was not there at the start"):
            node.update({"m": Metric("m", DataType.UINT64, 1)})
        assert node.births == 1
    finally:
        node.close()
    assert host.bd_seqs("NBIRTH") == [255]
    again = Node(Broker("127.0.0.1", mosquitto.port), "spb-test", "plant1", "line3-st2", tmp_path / "bd", metrics(0), clock)
    again.start()
    assert until(lambda: len(host.payloads("NBIRTH")) == 2)
    again.close()
    assert host.bd_seqs("NBIRTH") == [255, 0]
    assert until(lambda: len(host.payloads("NDEATH")) == 2)
    host.check_order()
