"""Outcome to verdict to journal to broker: what may say pass, what is written when, and what is never sent live."""

import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.daemon.announce import Announcer, will
from edge.daemon.backfill import Backfill
from edge.daemon.clocksync import ClockState
from edge.daemon.compose import Moment, check_room, compose
from edge.daemon.drift import DriftWatch
from edge.daemon.escape import EscapeWatch
from edge.daemon.figures import Facts, Figures
from edge.daemon.identity import Identity
from edge.daemon.inbox import Inbox
from edge.daemon.ledger import Ledger
from edge.daemon.masters import Master, MasterWatch
from edge.daemon.parts import NS_PER_MS, Outcome, Shot
from edge.daemon.phase import Station
from edge.daemon.publish import Publisher
from edge.daemon.queues import Backlog
from edge.drift.monitor import DriftMonitor
from edge.errors import ConfigError
from edge.journal.chain import verify_chain
from edge.journal.reader import Reader
from edge.journal.store import Journal
from edge.judge import Judgement
from edge.mqtt.message import Incoming
from edge.page.live import LiveView
from edge.regions import Region
from edge.trigger.command import CommandTrigger
from edge.wire import station as wire
from edge.wire.trigger import TRIGGER, TRIGGER_SCHEMA, LineTrigger
from edge.wire.verdict import GENESIS, decode_verdict, encode_verdict, payload_hash, verify_mac
from tests.support.station import T0_NS, HandClock, RecordingConnection, frame, station_config, ticket

BOOT = "01JD8Q7ZK30000000000000000"
KEY = b"sixteen bytes ok"
WHO = Identity(
    "st2", BOOT, "g1", "L1", "c1", 400.0, "m@sha256:" + "9f" * 16, "bottle@7", "sha256:" + "77" * 16, None
)  # fmt: skip
FREE = ClockState("free", None, None)
TOKEN = "chk-20261122-010633"
CHECK = wire.Check(TOKEN, 1, 2, 3)


def judgement(verdict="pass", cal=0.4, cause=None, regions=()):
    return Judgement(verdict, cal / 2, cal, 0.3, cal, cal / 2, cal / 3, cause, regions, np.zeros((8, 8), np.float32))


def outcome(seq=1, judged=None, reason="", **options):
    shot = Shot(ticket(seq, **options), frame(seq))
    judged = judged if judged is not None or reason else judgement()
    return Outcome.of(shot, reason, T0_NS + 20 * NS_PER_MS, begun_ns=T0_NS + 5 * NS_PER_MS, judgement=judged, infer_ms=9.81)


def moment(after_ms=30.0, token=TOKEN, forced=""):
    return Moment(T0_NS + round(after_ms * NS_PER_MS), token, GENESIS, FREE, forced)


# --- compose ------------------------------------------------------------------------------------------------------------


def test_a_pass_in_full():
    verdict = compose(outcome(7), WHO, moment())
    assert (verdict.verdict, verdict.reason, verdict.seq, verdict.id) == ("pass", [], 7, f"st2/{BOOT}/7")
    assert verdict.part.trig == 1007
    assert (verdict.part.id, verdict.part.src) == ("1007", "counter")
    assert verdict.t.slack_ms == 370.0
    assert verdict.t.pub_us - verdict.t.trig_us == 30_000
    assert verdict.t.exp_us - verdict.t.trig_us == 2_000
    assert verdict.cam.frame_age_ms == 3.0
    assert verdict.clk.mono_us == T0_NS // 1000
    assert len(encode_verdict(verdict)) < 1024


def test_a_serial_number_is_a_barcode():
    part = compose(outcome(1, part_id="SN-7"), WHO, moment()).part
    assert (part.id, part.src) == ("SN-7", "barcode")


@pytest.mark.parametrize(
    ("given", "when", "expected"),
    [
        (outcome(judged=judgement("reject", 1.4, "logical")), moment(), ("reject", ["logical"])),
        (outcome(judged=judgement("uncertain", 1.0, "structural")), moment(), ("uncertain", ["near-limit"])),
        (outcome(reason="frozen"), moment(), ("invalid", ["frozen"])),
        (outcome(), moment(after_ms=400.1), ("invalid", ["late"])),
        (outcome(), moment(token=""), ("invalid", ["not-armed"])),
        (outcome(judged=judgement("reject", 1.4, "logical")), moment(token=""), ("invalid", ["not-armed"])),
        (outcome(), moment(forced="journal"), ("invalid", ["journal"])),
        (outcome(reason="camera"), moment(after_ms=500, forced="journal"), ("invalid", ["journal"])),
    ],
)
def test_what_is_not_a_pass(given, when, expected):
    verdict = compose(given, WHO, when)
    assert (verdict.verdict, verdict.reason) == expected
    encode_verdict(verdict)


@pytest.mark.parametrize("reason", ["camera", "frozen", "incomplete", "stale"])
def test_a_frame_that_cannot_be_trusted_is_no_frame(reason):
    assert compose(outcome(reason=reason), WHO, moment()).cam.have == []


def test_regions_are_in_pixels_of_the_frame():
    found = (Region(0.25, 0.5, 0.125, 0.25, 1.87654, "ae"),)
    (roi,) = compose(outcome(judged=judgement("reject", 1.4, "logical", found)), WHO, moment()).roi
    assert (roi.x, roi.y, roi.w, roi.h, roi.peak, roi.branch) == (16, 32, 8, 16, 1.877, "ae")


@given(
    reason=st.sampled_from(["", "", "camera", "late", "engine"]),
    kind=st.sampled_from(["pass", "reject", "uncertain", None]),
    after_ms=st.floats(0, 1000),
    token=st.sampled_from(["", TOKEN]),
    forced=st.sampled_from(["", "journal", "stopping"]),
)
def test_pass_needs_everything(reason, kind, after_ms, token, forced):
    judged = None if kind is None else judgement(kind, 0.4 if kind == "pass" else 1.4, None if kind == "pass" else "global")
    given = replace(outcome(judged=judged, reason=reason or ("x" if judged is None else "")), reason=reason, judgement=judged)
    verdict = compose(given, WHO, moment(after_ms, token, forced))
    deserved = not reason and kind == "pass" and after_ms <= 400 and bool(token) and not forced
    assert (verdict.verdict == "pass") == deserved
    encode_verdict(verdict)


def test_names_that_cannot_fit_are_refused_at_start():
    check_room(WHO)
    check_room(replace(WHO, key=KEY))
    with pytest.raises(ConfigError, match="too long together for a verdict"):
        check_room(replace(WHO, station="s" * 32, gate="g" * 32, lot="l" * 24))


# --- publisher ----------------------------------------------------------------------------------------------------------


class Desk:
    """A publisher with a real journal and a recorded connection."""

    def __init__(self, folder, who=WHO, *, armed=True, **connection):
        self.path = folder / "j.db"
        self.clock = HandClock()
        self.station = Station(self.clock)
        if armed:
            self.station.warming()
            self.station.checked(CHECK, 3_600_000)
        self.journal = Journal(self.path, "st2", 4 * 2**20)
        self.line = RecordingConnection(**connection)
        self.figures = Figures()
        self.view = LiveView(self.clock)
        self.publisher = Publisher(
            Backlog[Outcome](32), self.journal, self.line, "verdict/g1", who, self.station, self.clock, self.figures, self.view
        )

    def step(self, *outcomes, after_ms=30.0):
        self.clock.now_ns = T0_NS + round(after_ms * NS_PER_MS)
        self.publisher.step(list(outcomes))

    def rest(self, ms=2000.0):
        self.clock.forward(ms)
        self.publisher._rest()

    def sent(self):
        return [decode_verdict(one.payload) for one in self.line.sent]

    def rows(self):
        with Reader(self.path) as reader:
            return reader.rows(0, 1000)

    def unsent(self):
        with Reader(self.path) as reader:
            return [row.n for row in reader.unsent(0, 1000, 1000)]


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.journal.close()


def noted(order, name, function):
    def call(*args, **options):
        order.append(name)
        return function(*args, **options)

    return call


def test_what_is_sent_is_what_is_on_the_disk(desk):
    order: list[str] = []
    desk.journal.append = noted(order, "disk", desk.journal.append)
    desk.line.publish = noted(order, "broker", desk.line.publish)
    desk.step(outcome(1), outcome(2), outcome(3, reason="lost"))
    assert order == ["disk", "broker", "broker", "broker"]
    assert [row.payload for row in desk.rows()] == [one.payload for one in desk.line.sent]
    assert [one.verdict for one in desk.sent()] == ["pass", "pass", "invalid"]
    assert [one.prev for one in desk.sent()] == [GENESIS, *(payload_hash(one.payload) for one in desk.line.sent[:2])]
    assert desk.figures.verdicts() == {"pass": 2, "invalid": 1}
    with Reader(desk.path) as reader:
        assert verify_chain(reader).rows == 3


def test_sealed_verdicts_verify(tmp_path):
    desk = Desk(tmp_path, replace(WHO, key=KEY))
    desk.step(outcome(1))
    assert verify_mac(desk.line.sent[0].payload, KEY)
    desk.journal.close()


def test_a_passed_deadline_is_never_published_live(desk):
    desk.step(outcome(1), after_ms=400.5)
    assert desk.line.sent == []
    (row,) = desk.rows()
    verdict = decode_verdict(row.payload)
    assert (verdict.verdict, verdict.reason) == ("invalid", ["late"])
    assert desk.unsent() == [1]
    assert desk.figures.late == 1


def test_a_deadline_that_passes_while_the_disk_writes_is_not_published_either(desk):
    append = desk.journal.append

    def slow(*args):
        desk.clock.forward(500)
        return append(*args)

    desk.journal.append = slow
    desk.step(outcome(1))
    assert decode_verdict(desk.rows()[0].payload).verdict == "pass"
    assert desk.line.sent == []
    assert desk.unsent() == [1]


def test_disconnected_means_journal_only(desk):
    desk.line.connected = False
    desk.step(outcome(1), outcome(2))
    assert desk.line.sent == []
    assert desk.unsent() == [1, 2]
    assert desk.publisher.settled_n == 2, "the back-fill may take them"


def test_confirmed_rows_leave_the_outbox_and_unconfirmed_ones_stay(desk):
    desk.step(outcome(1), outcome(2))
    assert desk.publisher.settled_n == 0
    desk.line.sent[0].done = True
    desk.rest()
    assert desk.unsent() == [2]
    assert desk.publisher.settled_n == 1
    desk.line.reconnects += 1
    desk.rest()
    assert desk.publisher.settled_n == 2, "what the old session held will never be confirmed: the back-fill's now"
    assert desk.unsent() == [2]


def test_a_broker_that_confirms_nothing_is_taken_for_gone(desk):
    desk.step(outcome(1))
    desk.clock.now_ns += 2_000 * NS_PER_MS
    late_ns = desk.clock.now_ns
    desk.publisher.step([outcome(2, at_ns=late_ns)])
    assert len(desk.line.sent) == 1
    assert [one.code for one in desk.station.snapshot().conditions] == ["broker-stalled"]
    desk.line.sent[0].done = True
    desk.publisher.step([outcome(3, at_ns=late_ns)])
    assert len(desk.line.sent) == 2
    assert desk.station.snapshot().conditions == ()


def test_one_lost_confirmation_does_not_silence_the_station_for_good(desk):
    began_ns = desk.clock.now_ns
    desk.step(outcome(1))
    for after_ms, renewals in ((2_000, 0), (4_500, 1), (6_000, 1), (9_500, 2)):
        at_ns = began_ns + after_ms * NS_PER_MS
        desk.clock.now_ns = at_ns
        desk.publisher.step([outcome(2, at_ns=at_ns)])
        assert len(desk.line.renewed) == renewals, after_ms
    desk.line.reconnects += 1
    desk.step(outcome(3, at_ns=desk.clock.now_ns))
    assert len(desk.line.sent) == 2, "on the new connection verdicts go out again"


def test_a_picture_that_comes_again_puts_the_part_before_it_in_quarantine(desk):
    escape = EscapeWatch(desk.station, "st2", BOOT, desk.clock)
    desk.publisher._escape = escape
    desk.step(outcome(1), outcome(2), outcome(3, reason="frozen"), outcome(4, reason="frozen"), outcome(5))
    (window,) = escape.found
    assert (window.cause, window.first, window.last, window.trig_first) == ("frozen", 2, 2, 1002)


def test_a_master_part_counts_for_itself_alone(desk):
    escape = EscapeWatch(desk.station, "st2", BOOT, desk.clock)
    desk.publisher._escape = escape
    desk.publisher.drift = DriftWatch(DriftMonitor(9, 0.005), desk.station, (WHO.model, WHO.limit))
    desk.publisher.masters = MasterWatch((Master.parse("M-GOOD=pass"),), desk.station, escape, desk.clock, 3.6e6, 0.0)
    assert not desk.station.armed
    desk.step(outcome(1, part_id="M-GOOD"))
    assert desk.sent()[0].reason == ["not-armed"], "it proves, and does not pass before it has proven"
    assert desk.station.armed
    desk.step(outcome(2))
    assert (desk.sent()[1].verdict, escape.newest, desk.publisher.drift._part) == ("pass", 2, 1)


def test_parts_of_the_model_before_do_not_reach_the_alarms_of_the_new_one(desk):
    """Their p-values are of another calibration, perhaps of another size: such a p is none of the new one's."""
    desk.publisher.drift = DriftWatch(DriftMonitor(100, 0.005), desk.station, ("other", "other"))
    desk.step(outcome(1))
    desk.publisher.drift = DriftWatch(DriftMonitor(9, 0.005), desk.station, (WHO.model, WHO.limit))
    desk.step(outcome(2))
    assert desk.publisher.drift._part == 1


def test_a_journal_that_cannot_be_written_disarms_and_still_answers(desk):
    desk.step(outcome(1))
    blocker = sqlite3.connect(desk.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    desk.step(outcome(2))
    assert not desk.station.armed
    assert [(one.verdict, one.reason) for one in desk.sent()[1:]] == [("invalid", ["journal"])]
    blocker.execute("ROLLBACK")
    blocker.close()
    desk.step(outcome(3))
    assert desk.sent()[2].reason == ["not-armed"], "written before the journal was known to be well"
    desk.step(outcome(4))
    assert desk.sent()[3].verdict == "pass"
    assert [row.seq for row in desk.rows()] == [1, 3, 4]
    with Reader(desk.path) as reader:
        assert verify_chain(reader).rows == 3


def test_scores_that_cannot_be_written_are_an_invalid_not_a_crash(desk, caplog):
    broken = replace(judgement(), raw=float("nan"))
    desk.step(outcome(1, judged=broken), outcome(2))
    assert [(one.verdict, one.score is None) for one in desk.sent()] == [("invalid", True), ("pass", False)]
    assert "cannot be written" in caplog.text


def test_the_page_sees_what_was_published(desk):
    desk.step(outcome(1), outcome(2, reason="frozen"))
    shown = desk.view.snapshot()
    assert [(part.seq, part.verdict, part.pic) for part in shown.parts] == [(1, "pass", True), (2, "invalid", True)]
    assert shown.parts[0].verdict_ms == pytest.approx(30.0)


# --- back-fill ----------------------------------------------------------------------------------------------------------


def test_an_outage_is_back_filled_as_history_oldest_first_once(desk):
    desk.line.connected = False
    desk.step(*[outcome(seq) for seq in range(1, 41)])
    rest = RecordingConnection(connected=False)
    fill = Backfill(desk.path, rest, "late", None, desk.publisher.acked, lambda: desk.publisher.settled_n)
    with Reader(desk.path) as reader:
        fill.step(reader)
        assert rest.sent == []
        rest.connected = True
        fill.step(reader)
        assert len(rest.sent) == 32
        fill.step(reader)
        assert len(rest.sent) == 32, "the next ones when these are confirmed"
        for one in rest.sent:
            one.done = True
        fill.step(reader)
        assert len(rest.sent) == 40
        for one in rest.sent:
            one.done = True
        fill.step(reader)
        desk.rest()
        fill.step(reader)
        assert desk.unsent() == []
    late = [decode_verdict(one.payload) for one in rest.sent]
    assert [one.seq for one in late] == list(range(1, 41))
    assert all(one.hist is True for one in late)
    assert desk.line.sent == []


def test_a_verdict_still_on_its_live_way_is_not_back_filled(desk):
    desk.step(outcome(1), outcome(2))
    rest = RecordingConnection()
    fill = Backfill(desk.path, rest, "late", None, desk.publisher.acked, lambda: desk.publisher.settled_n)
    with Reader(desk.path) as reader:
        fill.step(reader)
    assert rest.sent == []


def test_a_reconnect_sends_again_what_was_not_confirmed(desk):
    desk.line.connected = False
    desk.step(outcome(1))
    rest = RecordingConnection()
    fill = Backfill(desk.path, rest, "late", None, desk.publisher.acked, lambda: desk.publisher.settled_n)
    with Reader(desk.path) as reader:
        fill.step(reader)
        fill.step(reader)
        assert len(rest.sent) == 1
        rest.reconnects += 1
        fill.step(reader)
        assert len(rest.sent) == 2


# --- announcements and inbox -----------------------------------------------------------------------------------------------


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


def command(office, not_after_ms=1000):
    not_after = office.clock.utc_us() + not_after_ms * 1000
    return wire.COMMAND.encode(wire.Command(wire.COMMAND_SCHEMA, "n1", "scada", not_after))


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
    ("name", "not_after_ms", "words"), [("rebirth", -1, "not_after has passed"), ("reboot", 1000, "no other command")]
)
def test_commands_that_are_refused_with_an_answer(office, name, not_after_ms, words):
    incoming(office, f"cmd/{name}", command(office, not_after_ms))
    (answer,) = office.connection.sent
    assert answer.topic.endswith(f"cmd/{name}/result")
    result = wire.RESULT.decode(answer.payload)
    assert not result.ok
    assert words in result.detail


def test_retained_and_malformed_commands_are_refused(office, caplog):
    incoming(office, "cmd/rebirth", command(office), retain=True)
    incoming(office, "cmd/rebirth", b"{}")
    incoming(office, "cmd/trigger", b"{}")
    incoming(office, "gate/g1/ack", os.urandom(50))
    assert office.inbox.refused == 4
    assert office.connection.sent == []
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1, "said once, counted from then on"


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
