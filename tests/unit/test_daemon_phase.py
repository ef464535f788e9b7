"""Phases of the station: legal changes, tokens of the self-check, conditions, and what listeners hear."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.daemon.stages.parts import NS_PER_MS
from edge.daemon.state.phase import HANDOVER_NS, LEGAL, Phase, Station
from edge.wire.station import Check
from tests.support.station import T0_US, HandClock


def check(token="chk-1", at_us=T0_US):
    return Check(token, at_us, at_us + 1_000_000, 3)


def phase_of(station):
    return station.phase


def armed_station():
    clock = HandClock()
    station = Station(clock)
    station.warming()
    station.checked(check(), 60_000)
    return station, clock


def test_from_start_to_armed_and_back():
    station, _ = armed_station()
    assert phase_of(station) is Phase.RUNNING
    assert station.armed
    assert station.token() == "chk-1"
    assert station.snapshot().status == "RUNNING, armed: True: all well"
    station.raise_("broker", "warning", "gone", "start it")
    assert phase_of(station) is Phase.DEGRADED
    assert station.snapshot().status == "DEGRADED, armed: True: gone; start it"
    assert station.armed
    station.raise_("camera", "fault", "no frame", "cable")
    assert phase_of(station) is Phase.FAULT
    assert not station.armed
    assert station.token() == ""
    station.clear("camera")
    assert phase_of(station) is Phase.DEGRADED
    station.clear("broker")
    assert phase_of(station) is Phase.RUNNING
    station.stop()
    assert phase_of(station) is Phase.STOPPING
    station.raise_("camera", "fault", "no frame", "cable")
    assert phase_of(station) is Phase.STOPPING
    assert not station.armed


def test_a_self_check_runs_out_and_the_next_one_arms_again():
    station, clock = armed_station()
    clock.forward(59_999)
    station.tick()
    assert station.armed
    clock.forward(1)
    assert not station.armed, "without any tick: the clock alone decides"
    station.tick()
    assert phase_of(station) is Phase.FAULT
    assert "self-check has run out" in station.snapshot().reasons[0]
    station.checked(check("chk-2"), 60_000)
    assert phase_of(station) is Phase.RUNNING
    assert station.token() == "chk-2"


def test_a_new_token_goes_into_verdicts_only_after_the_gate_could_hear_of_it():
    station, clock = armed_station()
    clock.forward(30_000)
    station.checked(check("chk-2"), 60_000)
    assert station.snapshot().check.token == "chk-2"
    assert station.token() == "chk-1"
    clock.forward(HANDOVER_NS / NS_PER_MS)
    assert station.token() == "chk-2"


def test_revoked_means_no_token_at_all():
    station, _ = armed_station()
    station.revoke()
    assert not station.armed
    assert station.token() == ""
    assert station.check_left_ms() == 0.0
    assert station.snapshot().check is None


def test_listeners_hear_changes_only():
    clock = HandClock()
    station, heard = Station(clock), []
    station.listen(lambda snapshot: heard.append((snapshot.phase, len(snapshot.conditions))))
    station.warming()
    station.warming()
    station.raise_("a", "warning", "t", "r")
    station.raise_("a", "warning", "t again", "r")
    station.raise_("a", "fault", "worse", "r")
    station.clear("a")
    station.clear("a")
    station.checked(check(), 1000)
    assert heard == [(Phase.WARMING, 0), (Phase.WARMING, 1), (Phase.FAULT, 1), (Phase.WARMING, 0), (Phase.RUNNING, 0)]


def test_a_condition_that_comes_and_goes_is_logged_once_a_minute(caplog):
    station, clock = armed_station()
    caplog.clear()
    caplog.set_level("INFO")
    for _ in range(100):
        station.raise_("broker", "warning", "gone", "start it")
        station.clear("broker")
    assert len(caplog.records) == 4, [record.message for record in caplog.records]
    clock.forward(59_000)
    station.checked(check("chk-2"), 3_600_000)
    clock.forward(2_000)
    station.raise_("broker", "warning", "gone", "start it")
    assert [record.levelname for record in caplog.records[4:]].count("WARNING") == 1


def test_reasons_are_bounded():
    station, _ = armed_station()
    for number in range(20):
        station.raise_(f"c{number}", "warning", "x" * 500, "y" * 500)
    reasons = station.snapshot().reasons
    assert len(reasons) == 8
    assert max(map(len, reasons)) <= 240


class StationMachine(RuleBasedStateMachine):
    """Any events in any order: only legal changes, armed only where it is deserved."""

    def __init__(self):
        super().__init__()
        self.clock = HandClock()
        self.station = Station(self.clock)
        self.before = self.station.phase
        self.checked_until = 0
        self.rounds = 0
        self.stopped = False
        self.faults = set()

    @rule()
    def warm(self):
        if self.checked_until == 0:
            self.station.warming()

    @rule(valid_ms=st.integers(1, 5000))
    def pass_check(self, valid_ms):
        self.station.warming() if self.checked_until == 0 else None
        self.station.checked(check(), valid_ms)
        self.checked_until = self.clock.now_ns + valid_ms * NS_PER_MS
        self.faults.discard("check-expired")

    @rule(code=st.sampled_from(["a", "b"]), severity=st.sampled_from(["warning", "fault"]))
    def fail(self, code, severity):
        self.station.raise_(code, severity, "text", "remedy")
        (self.faults.add if severity == "fault" else self.faults.discard)(code)

    @rule(code=st.sampled_from(["a", "b"]))
    def mend(self, code):
        self.station.clear(code)
        self.faults.discard(code)

    @rule(ms=st.integers(0, 3000))
    def wait(self, ms):
        self.clock.forward(ms)
        self.station.tick()

    @precondition(lambda self: self.stopped or self.rounds > 10)
    @rule()
    def stop(self):
        self.station.stop()
        self.stopped = True

    @rule()
    def revoke(self):
        self.station.revoke()
        self.checked_until = min(self.checked_until, self.clock.now_ns)

    @invariant()
    def legal(self):
        self.rounds += 1
        phase = self.station.phase
        assert (phase is Phase.STOPPING) == self.stopped
        # One rule may change twice (warming and checked): the way there must be legal in at most two steps.
        steps = {self.before} | LEGAL[self.before] | {far for near in LEGAL[self.before] for far in LEGAL[near]}
        assert phase in steps
        self.before = phase

    @invariant()
    def armed_only_when_deserved(self):
        if self.station.armed:
            assert not self.faults
            assert not self.stopped
            assert self.clock.now_ns < self.checked_until
            assert self.station.token()
        else:
            assert self.station.token() == ""


TestStationMachine = StationMachine.TestCase
TestStationMachine.settings = settings(max_examples=40, deadline=None)
