"""Over a real broker: doubt names the exact parts, late comers and the next start hear of it, masters arm the station."""

import dataclasses
import json
import time

import pytest

from edge.limits.audit import read_record
from edge.wire import station as wire
from edge.wire.suspects import SUSPECTS
from edge.wire.trigger import TRIGGER, TRIGGER_SCHEMA, LineTrigger
from tests.support.rig import BASE, Ear, Rig, until

pytestmark = pytest.mark.broker


@pytest.fixture
def ear(mosquitto):
    heard = Ear(mosquitto.port)
    yield heard
    heard.client.publish(f"{BASE}/quarantine", b"", qos=1, retain=True).wait_for_publish(5)
    heard.close()


def command(ear, name):
    body = wire.Command(wire.COMMAND_SCHEMA, "n1", "test", time.time_ns() // 1000 + 60_000_000)
    ear.client.publish(f"{BASE}/cmd/{name}", wire.COMMAND.encode(body), qos=1)


def windows(ear):
    payloads = ear.payloads("quarantine")
    return SUSPECTS.decode(payloads[-1]).windows if payloads and payloads[-1] else []


def test_a_blind_engine_is_found_on_command_and_the_parts_since_the_last_check_are_named(tmp_path, mosquitto, ear):
    rig = Rig(tmp_path, mosquitto.port).start()
    try:
        rig.parts(9, rate_hz=10)
        token = ear.last("state")["check"]["token"]
        command(ear, "selfcheck")
        assert until(lambda: ear.last("state")["check"]["token"] != token), "a check on command gives a token of its own"
        engine = rig.daemon.inference._engine
        seeing = engine.infer
        # From here on it sees nothing: every part scores as a good one does.
        engine.infer = lambda frame: dataclasses.replace(seeing(frame), raw=0.05)
        before = rig.daemon.ledger.last_seq
        rig.parts(6, rate_hz=10)
        command(ear, "selfcheck")
        assert until(lambda: windows(ear))
        (window,) = windows(ear)
        assert window.cause == "self-check"
        # A keep-warm frame may have found it before the sixth part: what came before the blindness is never in it.
        assert before < window.first <= window.last <= before + 6
        assert (window.trig_first, window.trig_last) == (window.first, window.last)
        seen = [one for one in ear.verdicts() if window.first <= one.seq <= window.last]
        assert window.passed == sum(one.verdict == "pass" for one in seen)
        assert 0 < window.known_parts <= before
        assert 0 < window.expected <= window.bound <= window.passed
        assert until(lambda: ear.last("state")["armed"] is False)
        late = Ear(mosquitto.port)
        assert until(lambda: late.payloads("quarantine")), "retained: who comes later hears it"
        late.close()
    finally:
        rig.stop()
    again = Rig(tmp_path / "again", mosquitto.port).start()
    try:
        assert until(lambda: any(one.code == "suspect-parts" for one in again.daemon.station.snapshot().conditions))
        assert [one.boot for one in again.daemon.escape.found] == [rig.daemon.boot]
        ear.client.publish(f"{BASE}/quarantine", b"", qos=1, retain=True)
        assert until(lambda: again.daemon.escape.found == [])
        assert again.daemon.station.armed
    finally:
        again.stop()


def test_master_parts_arm_the_station_and_every_limit_in_force_is_on_record(tmp_path, mosquitto, ear):
    masters = {"masters": ["M-GOOD=pass", "M-BAD=reject@1.5-3"]}
    rig = Rig(tmp_path, mosquitto.port, selfcheck=masters).start(armed=False)
    try:

        def part(count, part_id=""):
            sent = LineTrigger(TRIGGER_SCHEMA, count, time.monotonic_ns() // 1000, 0, part_id)
            rig.line._socket.sendto(TRIGGER.encode(sent), rig.line._address)
            assert until(lambda: count in {one.part.trig for one in ear.verdicts()})
            return next(one for one in ear.verdicts() if one.part.trig == count)

        assert until(lambda: "master parts are due" in json.dumps(ear.last("state").get("reasons", [])), 30)
        assert until(lambda: rig.daemon.facts.infer_p99_ms is not None, 30)
        assert part(1, "M-GOOD").verdict == "invalid", "it proves, and does not pass before it has proven"
        part(3, "M-BAD")  # every third part of the test camera is bad
        assert until(lambda: rig.daemon.station.armed)
        assert (part(4).verdict, part(6).verdict) == ("pass", "reject")
        part(7, "M-BAD")  # a good part where the bad master should be
        assert until(lambda: not rig.daemon.station.armed)
        assert until(lambda: windows(ear))
        (window,) = windows(ear)
        assert (window.cause, window.trig_first, window.trig_last) == ("master", 4, 6)
        record = read_record(tmp_path / "journal.limits")
        assert [one.limit for one in record.changes] == [ear.last("birth")["limit"]]
    finally:
        rig.stop()
