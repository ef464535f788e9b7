"""What the station says of itself, and which commands it obeys."""

import os
import threading
from pathlib import Path

import pytest

from edge.daemon.stages.figures import Facts
from edge.daemon.stages.ledger import Ledger
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.phase import Station
from edge.daemon.talk import inbox
from edge.daemon.talk.announce import Announcer, will
from edge.daemon.talk.inbox import Inbox
from edge.mqtt.message import Incoming
from edge.page.live import LiveView
from edge.trigger.command import CommandTrigger
from edge.wire import station as wire
from edge.wire.trigger import TRIGGER, TRIGGER_SCHEMA, LineTrigger
from tests.support.desk import BOOT, CHECK, WHO
from tests.support.station import HandClock, RecordingConnection, station_config


class Office:
    """Announcer and inbox around a recorded connection."""

    def __init__(self, folder, bundle):
        self.clock = HandClock()
        self.station = Station(self.clock)
        self.connection = RecordingConnection()
        self.config = station_config(folder)
        self.names = self.config.topics()
        self.facts = Facts()
        self.view = LiveView(self.clock)
        self.announcer = Announcer(
            self.connection, self.names, WHO, bundle, self.config, self.facts, self.station, Ledger(), self.clock, self.view
        )
        self.station.listen(self.announcer.on_change)
        self.escape = EscapeWatch(self.station, "st2", BOOT, self.clock)
        self.rechecks = 0
        self.inbox = Inbox(
            self.names, "st2", BOOT, self.announcer, None, self.clock, self.view, self.connection, self.escape, self.recheck
        )

    def recheck(self):
        self.rechecks += 1

    def last(self, suffix):
        return self.connection.kept[f"{self.names.base}/{suffix}"]


@pytest.fixture
def office(tmp_path):
    from edge.bundle.reader import open_bundle
    from tests.support.bundles import make_tiny_bundle

    path, trust, _ = make_tiny_bundle(tmp_path)
    return Office(tmp_path, open_bundle(path, trust))


def test_state_uses_the_names_of_opc_40100(office):
    office.announcer.on_change()
    assert wire.STATE.decode(office.last("state")).state == "Preoperational"
    office.station.warming()
    assert wire.STATE.decode(office.last("state")).state == "Initialized"
    office.station.checked(CHECK, 1000)
    state = wire.STATE.decode(office.last("state"))
    assert (state.state, state.armed, state.check, state.reasons) == ("ContinuousExecution", True, CHECK, [])
    office.station.raise_("camera", "fault", "no frame", "check the cable")
    state = wire.STATE.decode(office.last("state"))
    assert (state.state, state.armed, state.reasons) == ("Error", False, ["no frame; check the cable"])


def test_birth_comes_before_the_state_that_carries_a_new_token(office):
    office.station.warming()
    office.connection.history.clear()
    office.station.checked(CHECK, 1000)
    assert [topic.rsplit("/", 1)[1] for topic, _ in office.connection.history] == ["birth", "state"]
    birth = wire.BIRTH.decode(office.last("birth"))
    assert (birth.boot, birth.check, birth.gates, birth.valid_ms) == (BOOT, CHECK, ["g1"], 400.0)
    assert (birth.model, birth.limit, birth.recipe) == (WHO.model, WHO.limit, WHO.recipe)


def test_alarms_are_raised_and_cleared_by_an_empty_payload(office):
    office.station.raise_("broker", "warning", "gone", "start it")
    alarm = wire.ALARM.decode(office.last("alarm/broker"))
    assert (alarm.code, alarm.severity, alarm.text, alarm.remedy) == ("broker", "warning", "gone", "start it")
    office.station.clear("broker")
    assert office.last("alarm/broker") == b""


def test_camera_state_is_told_when_it_changes_only(office):
    for _ in range(3):
        office.announcer.camera("frozen", "frame 7 came again")
    assert len(office.connection.history) == 1
    assert wire.CAMERA.decode(office.last("camera/c1/state")).state == "frozen"


def test_the_will_is_an_offline_status():
    names = station_config(Path("/")).topics()
    message = will(names, "st2", BOOT)
    assert (message.qos, message.retain) == (1, True)
    assert wire.STATUS.decode(message.payload).status == "offline"


def incoming(office, suffix, payload, *, retain=False, reply_to="", correlation=b""):
    office.inbox.take(Incoming(f"{office.names.base}/{suffix}", payload, retain, reply_to, correlation))


def command(office, not_after_ms=1000, nonce="n1"):
    not_after = office.clock.utc_us() + not_after_ms * 1000
    return wire.COMMAND.encode(wire.Command(wire.COMMAND_SCHEMA, nonce, "scada", not_after))


def test_rebirth_says_everything_again_and_answers(office):
    incoming(office, "cmd/rebirth", command(office), reply_to="answers/7", correlation=b"c")
    assert office.last("birth")
    (answer,) = office.connection.sent
    assert answer.topic == "answers/7"
    assert wire.RESULT.decode(answer.payload).ok


def test_a_self_check_on_command_and_a_quarantine_notice_reach_whom_they_concern(office):
    incoming(office, "cmd/selfcheck", command(office))
    assert office.rechecks == 1
    assert wire.RESULT.decode(office.connection.sent[-1].payload).ok
    incoming(office, "cmd/selfcheck", command(office), retain=True)
    assert office.rechecks == 1, "a retained command would come again at every connect"
    incoming(office, "quarantine", b'{"sch":"onbelt.else/1"}', retain=True)
    assert office.inbox.refused == 2


@pytest.mark.parametrize(
    ("name", "not_after_ms", "words"),
    [
        ("rebirth", -1, "not_after has passed"),
        ("rebirth", 300_001, "more than 5 minutes ahead"),
        ("reboot", 1000, "no other command"),
    ],
)
def test_commands_that_are_refused_with_an_answer(office, name, not_after_ms, words):
    incoming(office, f"cmd/{name}", command(office, not_after_ms))
    (answer,) = office.connection.sent
    assert answer.topic.endswith(f"cmd/{name}/result")
    result = wire.RESULT.decode(answer.payload)
    assert not result.ok
    assert words in result.detail
    assert office.inbox.refused == 1
    assert office.connection.kept == {}


def test_a_command_is_carried_out_once_however_often_it_is_sent(office):
    heard = command(office, 300_000)
    for _ in range(3):
        incoming(office, "cmd/selfcheck", heard)
        incoming(office, "cmd/rebirth", heard)
        office.clock.forward(60_000)
    assert office.rechecks == 1
    assert office.connection.kept == {}
    assert office.inbox.refused == 5
    results = [wire.RESULT.decode(one.payload) for one in office.connection.sent]
    assert [result.ok for result in results] == [True] + 5 * [False]
    assert "this nonce was carried out before" in results[-1].detail
    incoming(office, "cmd/selfcheck", command(office, nonce="n2"))
    assert office.rechecks == 2


def test_a_clock_set_back_makes_no_old_command_good_again(office):
    heard = command(office)
    incoming(office, "cmd/selfcheck", heard)
    office.clock.stepped_us = 10_000_000
    incoming(office, "cmd/selfcheck", command(office, nonce="n2"))
    office.clock.stepped_us = 0
    incoming(office, "cmd/selfcheck", heard)
    assert office.rechecks == 2


def test_what_is_remembered_of_commands_is_bounded_and_frees_itself(office, caplog):
    caplog.set_level("INFO")
    office.connection.room = 10 * inbox.NONCES
    for number in range(inbox.NONCES):
        incoming(office, "cmd/selfcheck", command(office, 60_000, f"n{number}"))
    incoming(office, "cmd/selfcheck", command(office, 60_000, "one more"))
    assert office.rechecks == inbox.NONCES
    assert "look who sends them" in wire.RESULT.decode(office.connection.sent[-1].payload).detail
    office.clock.forward(60_001)
    incoming(office, "cmd/selfcheck", command(office, 60_000, "later"))
    assert office.rechecks == inbox.NONCES + 1
    assert len(office.inbox._obeyed) == 1
    said = [one.message for one in caplog.records if one.levelname == "INFO"]
    assert said == ["command selfcheck from scada", f"command selfcheck from scada ({inbox.NONCES - 1} more were not said)"]


def test_retained_and_malformed_commands_are_refused(office, caplog):
    incoming(office, "cmd/rebirth", command(office), retain=True)
    incoming(office, "cmd/rebirth", b"{}")
    incoming(office, "cmd/trigger", b"{}")
    incoming(office, "gate/g1/ack", os.urandom(50))
    assert office.inbox.refused == 4
    assert office.connection.sent == []
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1, "said once in ten seconds"
    office.clock.forward(10_001)
    incoming(office, "cmd/rebirth", b"{}")
    assert caplog.records[-1].message.endswith("(3 more were not said)")


def test_a_trigger_by_command_is_delivered_where_so_configured(office):
    source, stop = CommandTrigger(), threading.Event()
    got: list[int] = []
    office.inbox = Inbox(
        office.names, "st2", BOOT, office.announcer, source, office.clock, None, office.connection, office.escape, office.recheck
    )
    incoming(office, "cmd/trigger", TRIGGER.encode(LineTrigger(TRIGGER_SCHEMA, 7, 5, 0, "SN7")))
    incoming(office, "cmd/trigger", b"{}")

    def take(trigger):
        got.append(trigger.count)
        stop.set()

    source.run(stop, take)
    assert got == [7]
    assert office.inbox.refused == 1


def test_acks_reach_the_page(office):
    ack = wire.Ack(wire.ACK_SCHEMA, "st2", "g1", f"st2/{BOOT}/5", 1005, "", "pass", "verdict", 200.0, False, None, 1)
    incoming(office, "gate/g1/ack", wire.ACK.encode(ack))
    other = wire.Ack(wire.ACK_SCHEMA, "st9", "g1", "", 1005, "", "reject", "missing", None, False, None, 1)
    incoming(office, "gate/g1/ack", wire.ACK.encode(other))
    assert office.view.snapshot().gate == {"pass/verdict": 1}


def test_an_alarm_of_an_earlier_start_is_cleared_and_a_standing_one_is_not(office):
    office.station.raise_("broker", "warning", "gone", "start it")
    standing = office.last("alarm/broker")
    incoming(office, "alarm/camera", b"old", retain=True)
    incoming(office, "alarm/broker", standing, retain=True)
    incoming(office, "alarm/engine", b"our own echo")
    assert office.last("alarm/camera") == b""
    assert office.last("alarm/broker") == standing
    assert f"{office.names.base}/alarm/engine" not in office.connection.kept


def test_an_alarm_that_a_gate_has_raised_is_the_gates_to_clear(office):
    """Cleared here it would be cleared again at every connect, and who must take a part out by hand would not hear of it."""
    incoming(office, "alarm/gate-g1-quarantine", b"take part 7 out by hand", retain=True)
    assert office.connection.history == []
