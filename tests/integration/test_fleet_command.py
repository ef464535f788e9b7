"""`onbelt fleet status` and `roll` over a real mosquitto: boxes hear the signed desired states and answer as boxes do."""

import argparse
import json
import threading
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.bundle.signing import TrustStore, generate_key
from edge.commands import fleet
from edge.errors import BrokerError, ConfigError
from edge.wire.station import BIRTH, STATE, STATUS
from edge.wire.update import REPORTED, REPORTED_SCHEMA, Reported, ReportedModel, open_desired
from tests.support.gate_messages import BOOT, make_birth, make_state, make_status

pytestmark = pytest.mark.broker
AREA = "onbelt/v1/plant1/hall2"


class Boxes:
    """Stations on a broker, all behind one connection.

    Attributes:
        heard: (station, mode, version, to) of each desired state that was signed by the operator and meant for its station.
        refuse: stations that refuse whatever they are told.
    """

    def __init__(self, folder, port, count):
        generate_key(folder / "operator.key")
        (folder / "operators").mkdir()
        (folder / "operator.key.pub").rename(folder / "operators" / "operator.pub")
        self.trust = TrustStore.from_folders([folder / "operators"])
        self.names = [f"{AREA}/line{number % 3}/box{number}" for number in range(count)]
        self.heard = []
        self.refuse = set()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.on_message = self._take
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe(f"{AREA}/+/+/update/desired", 1)
        self.client.loop_start()
        assert ready.wait(10)
        for name in self.names:
            self.say(name, "birth", BIRTH.encode(make_birth(BOOT)))
            self.say(name, "status", STATUS.encode(make_status("online", BOOT)))
            self.say(name, "state", STATE.encode(make_state(BOOT)))
            self.report(name, 1)
        self.last.wait_for_publish(30)

    def say(self, name, suffix, payload):
        self.last = self.client.publish(f"{name}/{suffix}", payload, 1, retain=True)

    def report(self, name, version, **changes):
        plain = Reported(
            REPORTED_SCHEMA,
            name.rpartition("/")[2],
            1,
            "onbelt",
            "plant1",
            "tiny",
            "idle",
            ReportedModel(version, "0" * 64, ""),
            None,
            0,
            "follow",
            "stable",
            "",
            "",
            [],
        )
        self.say(name, "update/reported", REPORTED.encode(msgspec.structs.replace(plain, **changes)))

    def _take(self, _client, _data, message):
        name = message.topic.removesuffix("/update/desired")
        desired = open_desired(message.payload, self.trust)
        if desired.to != name:
            return
        self.heard.append((name, desired.mode, desired.version, desired.serial))
        if desired.mode == "pause":
            return
        if name in self.refuse:
            self.report(name, 1, serial=desired.serial, reason="golden", text="golden frame 3", refused=["7 golden"])
        else:
            self.report(name, 7, serial=desired.serial)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def boxes(tmp_path, mosquitto):
    one = Boxes(tmp_path, mosquitto.port, 12)
    yield one
    one.close()


def onbelt_fleet(*words):
    parser = argparse.ArgumentParser()
    fleet.add_arguments(parser)
    return fleet.run(parser.parse_args(list(map(str, words))))


def roll(tmp_path, port, *words):
    given = ("--key", tmp_path / "operator.key", "--site", "plant1", "--product", "tiny", "--version", 7)
    return onbelt_fleet("roll", "--mqtt", f"127.0.0.1:{port}", *given, "--soak-minutes", 0, *words)


def test_a_rollout_reaches_every_box_once_and_says_so(tmp_path, mosquitto, boxes, capsys, monkeypatch):
    monkeypatch.setattr(fleet, "LOOK_S", 0.05)
    assert roll(tmp_path, mosquitto.port, "--waves", "10,50,100", "--canary", boxes.names[5]) == 0
    text = capsys.readouterr().out
    assert "wave 1 of 3: 2 boxes" in text
    assert "wave 3 of 3, 12 of 12 boxes told: 12 done, 0 failed; complete" in text
    assert sorted(name for name, *_ in boxes.heard) == sorted(boxes.names)
    assert {(mode, version) for _, mode, version, _ in boxes.heard} == {("pin", 7)}
    assert boxes.heard[0][0] in {boxes.names[5], boxes.heard[1][0]}
    # Given again there is nothing left to do but to look.
    assert roll(tmp_path, mosquitto.port, "--json") == 0
    assert json.loads(capsys.readouterr().out)["done"] == 12


def test_a_refused_model_stops_with_the_canaries(tmp_path, mosquitto, boxes, capsys, monkeypatch):
    monkeypatch.setattr(fleet, "LOOK_S", 0.05)
    boxes.refuse = set(boxes.names)
    assert roll(tmp_path, mosquitto.port, "--waves", "20,100", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["wave"], report["done"]) == (False, 1, 0)
    assert len({name for name, *_ in boxes.heard}) == 3
    assert set(report["failed"].values()) == {"golden: golden frame 3"}


def test_boxes_that_are_offline_are_left_out(tmp_path, mosquitto, boxes, capsys, monkeypatch):
    monkeypatch.setattr(fleet, "LOOK_S", 0.05)
    boxes.say(boxes.names[3], "status", STATUS.encode(make_status("offline", BOOT)))
    assert roll(tmp_path, mosquitto.port, "--waves", "100", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["done"], report["offline"]) == (11, [boxes.names[3]])


def test_status_lists_what_is_not_well(mosquitto, boxes, capsys):
    boxes.say(boxes.names[0], "status", STATUS.encode(make_status("offline", BOOT)))
    boxes.say(boxes.names[1], "state", STATE.encode(make_state(BOOT, armed=False, reasons=["camera: no frame"])))
    boxes.report(boxes.names[2], 1, reason="disk-full", text="the disk is full")
    where = ("--mqtt", f"127.0.0.1:{mosquitto.port}")
    assert onbelt_fleet("status", *where) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "offline" in lines[0]
    assert any("not armed" in line and "camera: no frame" in line for line in lines)
    assert any("disk-full: the disk is full" in line for line in lines)
    assert lines[-1] == "12 boxes: 11 online, 10 armed; 12 run version 1"
    assert onbelt_fleet("status", *where, "--json", "--product", "other") == 0
    assert json.loads(capsys.readouterr().out)["boxes"] == []


def test_what_cannot_be_done_says_so(tmp_path):
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        onbelt_fleet("status", "--mqtt", "broker")
    generate_key(tmp_path / "operator.key")
    with pytest.raises(ConfigError, match="expected percentages"):
        roll(tmp_path, 1, "--waves", "1,many")
    assert Path(tmp_path / "operator.key").exists()


def test_no_broker(monkeypatch):
    from edge.fleet import link

    monkeypatch.setattr(link, "CONNECT_S", 0.3)
    with pytest.raises(BrokerError, match="is the broker running there"):
        onbelt_fleet("status", "--mqtt", "127.0.0.1:9")
