"""The station's other messages, the datagrams and the topic table: exact bytes and exact refusals."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError, ContractError
from edge.wire import station, topics, trigger
from edge.wire.topics import CHANNELS, Overflow, Topics

ACL = Path(__file__).resolve().parents[2] / "docs" / "examples" / "mosquitto" / "acl"
BOOT = "01JD8Q7ZK30000000000000000"
CHECK = station.Check("chk-20261121-0600", 1795302862123456, 1795331662123456, 8)
MODEL, LIMIT = "m@sha256:" + "9f" * 16, "sha256:" + "77" * 16

GOLDEN: list[tuple[Any, Any, bytes]] = [
    (
        station.BEAT,
        station.Beat(station.BEAT_SCHEMA, "st2", BOOT, 17, 5, True, 28800000.0, 310.5, 88231455120),
        b'{"sch":"onbelt.beat/1","station":"st2","boot":"01JD8Q7ZK30000000000000000","n":17,"seq":5,"armed":true,'
        b'"check_left_ms":28800000.0,"slack_p999_ms":310.5,"mono_us":88231455120}',
    ),
    (
        station.STATE,
        station.State(
            station.STATE_SCHEMA, "st2", BOOT, "ContinuousExecution", "RUNNING", True, [], "bottle@7", MODEL, LIMIT, CHECK, 1
        ),
        b'{"sch":"onbelt.state/1","station":"st2","boot":"01JD8Q7ZK30000000000000000","state":"ContinuousExecution",'
        b'"phase":"RUNNING","armed":true,"reasons":[],"recipe":"bottle@7","model":"m@sha256:' + b"9f" * 16 + b'",'
        b'"limit":"sha256:' + b"77" * 16 + b'","check":{"token":"chk-20261121-0600","at_us":1795302862123456,'
        b'"until_us":1795331662123456,"frames":8},"since_us":1}',
    ),
    (
        station.STATUS,
        station.Status(station.STATUS_SCHEMA, "st2", BOOT, "offline", "connection lost"),
        b'{"sch":"onbelt.status/1","station":"st2","boot":"01JD8Q7ZK30000000000000000","status":"offline",'
        b'"why":"connection lost"}',
    ),
    (
        station.CAMERA,
        station.CameraState(station.CAMERA_SCHEMA, "st2", "c1", "frozen", "frame 7 came again", 5),
        b'{"sch":"onbelt.camera/1","station":"st2","camera":"c1","state":"frozen","detail":"frame 7 came again","since_us":5}',
    ),
    (
        station.ALARM,
        station.Alarm(station.ALARM_SCHEMA, "st2", BOOT, "camera", "fault", "no frame", "check the cable", 5),
        b'{"sch":"onbelt.alarm/1","station":"st2","boot":"01JD8Q7ZK30000000000000000","code":"camera","severity":"fault",'
        b'"text":"no frame","remedy":"check the cable","since_us":5}',
    ),
    (
        station.ACK,
        station.Ack(station.ACK_SCHEMA, "st2", "g1", f"st2/{BOOT}/5", 912044, "SN1", "pass", "verdict", 205.0, False, None, 6),
        b'{"sch":"onbelt.ack/1","station":"st2","gate":"g1","id":"st2/01JD8Q7ZK30000000000000000/5","trig":912044,'
        b'"part":"SN1","decision":"pass","why":"verdict","slack_ms":205.0,"fired":false,"confirmed":null,"at_us":6}',
    ),
    (
        station.COMMAND,
        station.Command(station.COMMAND_SCHEMA, "n-1", "scada", 7),
        b'{"sch":"onbelt.command/1","nonce":"n-1","issuer":"scada","not_after_us":7}',
    ),
    (
        station.EVIDENCE,
        station.EvidenceKept(
            station.EVIDENCE_SCHEMA, "st2", BOOT, 5, "SN1", "reject", LIMIT, "/evidence/" + "77" * 16, 38211, True
        ),
        b'{"sch":"onbelt.evidence/1","station":"st2","boot":"01JD8Q7ZK30000000000000000","seq":5,"part":"SN1","verdict":"reject",'
        b'"sha256":"sha256:' + b"77" * 16 + b'","url":"/evidence/' + b"77" * 16 + b'","size":38211,"map":true}',
    ),
    (
        station.RESULT,
        station.Result(station.RESULT_SCHEMA, "st2", "rebirth", "n-1", True, "born again"),
        b'{"sch":"onbelt.result/1","station":"st2","name":"rebirth","nonce":"n-1","ok":true,"detail":"born again"}',
    ),
    (
        trigger.TRIGGER,
        trigger.LineTrigger(trigger.TRIGGER_SCHEMA, 912044, 88231455120, 88412377, "SN-0049122"),
        b'{"sch":"onbelt.trigger/1","count":912044,"mono_us":88231455120,"enc":88412377,"part":"SN-0049122"}',
    ),
    (
        trigger.OUTPUT,
        trigger.GateOutput(trigger.OUTPUT_SCHEMA, "g1", 912044, "open", True, False, 88231455120),
        b'{"sch":"onbelt.output/1","gate":"g1","count":912044,"output":"open","toggle":true,"stop":false,"mono_us":88231455120}',
    ),
    (
        trigger.OUTPUT,
        trigger.GateOutput(trigger.OUTPUT_SCHEMA, "g1", None, "closed", False, True, 1),
        b'{"sch":"onbelt.output/1","gate":"g1","count":null,"output":"closed","toggle":false,"stop":true,"mono_us":1}',
    ),
]


@pytest.mark.parametrize(("codec", "message", "payload"), GOLDEN, ids=[codec.schema for codec, _, _ in GOLDEN])
def test_golden_bytes(codec, message, payload):
    assert codec.encode(message) == payload
    assert codec.decode(payload) == message


@pytest.mark.parametrize(("codec", "message", "payload"), GOLDEN, ids=[codec.schema for codec, _, _ in GOLDEN])
def test_each_field_is_required_and_no_other_allowed(codec, message, payload):
    plain = msgspec.json.decode(payload)
    optional = {"enc", "part"} if codec is trigger.TRIGGER else set()
    for field in plain:
        missing = msgspec.json.encode({name: value for name, value in plain.items() if name != field})
        if field in optional:
            codec.decode(missing)
        else:
            with pytest.raises(ContractError, match=field):
                codec.decode(missing)
    with pytest.raises(ContractError, match="unknown field `more`"):
        codec.decode(msgspec.json.encode(plain | {"more": 1}))
    with pytest.raises(ContractError, match="expected schema"):
        codec.decode(msgspec.json.encode(plain | {"sch": codec.schema[:-1] + "2"}))


def test_birth_round_trip_names_everything_a_gate_arms_on():
    birth = station.Birth(
        sch=station.BIRTH_SCHEMA, station="st2", boot=BOOT, at_us=5, first_seq=1, software="onbelt 0.1.0", model=MODEL,
        bundle="sha256:" + "9f" * 32, limit=LIMIT, recipe="bottle@7",
        promise=station.Promise(0.005, 0.95, "guarantee", 600), check=CHECK, engine="openvino", size=128, gates=["g1"],
        cameras=["c1"], trigger="udp", valid_ms=400.0, budget_ms=100.0, infer_p99_ms=55.0, beat_hz=10.0, sealed=False,
        clk="ntp", mqtt="5", page="http://127.0.0.1:8080/", schemas=["onbelt.verdict/1"],
    )  # fmt: skip
    assert station.BIRTH.decode(station.BIRTH.encode(birth)) == birth
    unloaded = msgspec.structs.replace(birth, model="", bundle="", limit="", recipe="", promise=None, check=None)
    assert station.BIRTH.decode(station.BIRTH.encode(unloaded)) == unloaded


def test_a_datagram_larger_than_its_cap_is_refused():
    with pytest.raises(ContractError, match="at most 512 bytes"):
        trigger.TRIGGER.decode(b" " * 513)


@given(st.binary(max_size=600))
def test_random_datagrams_give_a_contract_error(payload):
    for codec in (trigger.TRIGGER, trigger.OUTPUT, station.BEAT, station.BIRTH):
        with pytest.raises(ContractError):
            codec.decode(payload)


TOPICS = Topics("plant1", "hall2", "line3", "st2")


@pytest.mark.parametrize(
    ("channel", "name", "expected"),
    [
        (topics.VERDICT, "g1", "onbelt/v1/plant1/hall2/line3/st2/verdict/g1"),
        (topics.VERDICT_LATE, "g1", "onbelt/v1/plant1/hall2/line3/st2/verdict-late/g1"),
        (topics.BEAT, "", "onbelt/v1/plant1/hall2/line3/st2/beat"),
        (topics.CAMERA_STATE, "c1", "onbelt/v1/plant1/hall2/line3/st2/camera/c1/state"),
        (topics.ACK, "g1", "onbelt/v1/plant1/hall2/line3/st2/gate/g1/ack"),
        (topics.RESULT, "rebirth", "onbelt/v1/plant1/hall2/line3/st2/cmd/rebirth/result"),
    ],
)
def test_topics(channel, name, expected):
    assert TOPICS.topic(channel, name) == expected
    assert TOPICS.name_in(channel, expected) == name


def test_a_topic_of_another_station_or_channel_is_not_ours():
    assert TOPICS.name_in(topics.ACK, "onbelt/v1/plant1/hall2/line3/st9/gate/g1/ack") is None
    assert TOPICS.name_in(topics.ACK, TOPICS.base + "/gate/g1/x/ack") is None
    assert TOPICS.name_in(topics.ACK, TOPICS.base + "/gate//ack") is None
    assert TOPICS.name_in(topics.COMMAND, TOPICS.base + "/cmd/rebirth/result") is None
    assert TOPICS.name_in(topics.BEAT, TOPICS.base + "/beat/x") is None


def test_the_table_is_the_contract():
    rows = {c.suffix: (c.qos, c.retain, c.live) for c in CHANNELS}
    assert rows["verdict/{name}"] == (1, False, True)
    assert rows["beat"] == (0, False, True)
    assert rows["verdict-late/{name}"] == (1, False, False)
    for suffix in ("status", "state", "birth", "camera/{name}/state", "alarm/{name}", "quarantine"):
        assert rows[suffix] == (1, True, False), suffix
    assert rows["gate/{name}/ack"][:2] == (1, False)
    assert rows["evidence"] == (1, False, False), "never on the connection of verdicts"
    assert [c.suffix for c in CHANNELS if c.overflow is Overflow.JOURNAL] == ["verdict/{name}", "verdict-late/{name}"]
    assert len(rows) == len(CHANNELS)


def test_the_shipped_acl_lets_a_station_write_what_the_table_names_and_nothing_else():
    rights = [line.split() for line in ACL.read_text().splitlines() if line.startswith("pattern ")]
    written = {topic.removeprefix("onbelt/v1/+/+/+/%u/") for _, right, topic in rights if right != "read"}
    assert written == {c.suffix.replace("{name}", "+") for c in CHANNELS if c.out} - {"update/reported"} | {"update/#"}


@pytest.mark.parametrize("bad", ["", "a/b", "a+b", "#", "a b", "-a", "a" * 33, "a\n", "ä"])
def test_a_level_that_mqtt_would_misread_is_refused(bad):
    with pytest.raises(ConfigError, match="station: expected 1 to 32"):
        Topics("plant1", "hall2", "line3", bad)
    with pytest.raises(ConfigError):
        TOPICS.topic(topics.VERDICT, bad) if bad else Topics("p", "h", "l", "s", prefix=bad)


def test_wrong_use_of_the_table_is_a_value_error():
    with pytest.raises(ValueError, match="does not fit"):
        TOPICS.topic(topics.BEAT, "g1")
    with pytest.raises(ValueError, match="does not fit"):
        TOPICS.topic(topics.VERDICT)
