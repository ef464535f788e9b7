"""What casts doubt on verdicts puts exactly the parts since its last good proof in quarantine, and says how many may be bad."""

import pytest

from edge.daemon.state.escape import CONDITION, EscapeWatch
from edge.daemon.state.phase import Station
from edge.errors import ContractError
from edge.system.clocksync import StepWatch
from edge.wire.quarantine import QUARANTINE_CODEC, QUARANTINE_SCHEMA, QuarantineNotice, SuspectRange
from edge.wire.station import Check
from edge.wire.suspects import MAX_GATE_RANGES, MAX_WINDOWS, SUSPECTS, SUSPECTS_SCHEMA, SuspectNotice
from tests.support.station import HandClock

BOOT, OTHER = "01JD8Q7ZK3" + "0" * 16, "01JD8Q7ZK3" + "1" * 16


class Box:
    """A station with its watch, and what left on `quarantine`."""

    def __init__(self, boot=BOOT):
        self.clock = HandClock()
        self.station = Station(self.clock)
        self.sent: list[bytes] = []
        self.watch = EscapeWatch(self.station, "st2", boot, self.clock, self.sent.append)
        self.station.listen(self.watch.on_change)
        self.station.warming()

    def check(self, name):
        self.station.checked(Check(name, 1, 2, 3), 1000.0)

    def judge(self, first, last, every=0):
        for seq in range(first, last + 1):
            self.watch.judged(seq, 1000 + seq, passed=not every or seq % every != 0)

    def golden_fails(self, text="golden frame good-1: wrong"):
        self.station.revoke()
        self.station.raise_("golden", "fault", text, "run onbelt check")

    @property
    def alarm(self):
        return [one.text for one in self.station.snapshot().conditions if one.code == CONDITION]

    @property
    def notice(self):
        return SUSPECTS.decode(self.sent[-1])


def test_parts_since_the_last_token_are_suspect_and_those_before_are_not():
    box = Box()
    box.check("chk-1")
    box.judge(1, 50, every=10)
    box.check("chk-2")
    box.judge(51, 60)
    box.golden_fails()
    (window,) = box.notice.windows
    assert (window.cause, window.boot, window.first, window.last) == ("self-check", BOOT, 51, 60)
    assert (window.trig_first, window.trig_last, window.passed, window.known_parts) == (1051, 1060, 10, 50)
    assert 0 < window.expected < window.bound <= window.passed
    (text,) = box.alarm
    assert "parts 51-60 are suspect" in text
    assert "1051-1060 on the line" in text
    # It stands while the station recovers, and the next window is named beside it.
    box.station.clear("golden")
    box.check("chk-3")
    box.watch.judged(70, 1070, passed=True)
    box.golden_fails("again")
    assert [(one.first, one.last) for one in box.notice.windows] == [(51, 60), (70, 70)]
    (text,) = box.alarm
    assert "parts 70-70" in text
    assert "51-60" in text


def test_a_failure_with_no_part_since_the_proof_says_nothing():
    box = Box()
    box.check("chk-1")
    box.golden_fails()
    assert (box.sent, box.alarm) == ([], [])


def test_other_conditions_cast_no_doubt():
    box = Box()
    box.check("chk-1")
    box.watch.judged(1, 1, passed=True)
    for code in ("camera", "broker", "drift-creep-up", "slow"):
        box.station.raise_(code, "warning", "x", "y")
    assert box.sent == []


def test_a_frozen_camera_puts_the_part_with_the_picture_in_doubt_once():
    box = Box()
    box.check("chk-1")
    box.judge(1, 30)
    for seq in range(31, 36):
        box.watch.repeated(f"the camera gave the picture before part {seq} again")
    box.judge(36, 40)
    box.watch.repeated("again")
    assert [(one.cause, one.first, one.last) for one in box.notice.windows] == [("frozen", 30, 30), ("frozen", 40, 40)]


def test_a_clock_that_was_set_puts_the_parts_since_the_last_look_in_doubt():
    box = Box()
    steps = StepWatch(box.clock)
    box.watch.clock_looked(steps.look())
    box.judge(1, 20)
    box.clock.forward(1000)
    box.watch.clock_looked(steps.look())
    box.judge(21, 28)
    box.clock.forward(1000)
    box.clock.stepped_us = 5_000_000
    box.watch.clock_looked(steps.look())
    (window,) = box.notice.windows
    assert (window.cause, window.first, window.last) == ("clock", 21, 28)
    assert "+5.000 s" in window.why
    box.clock.forward(1000)
    box.clock.stepped_us = -5_000_000
    box.watch.clock_looked(steps.look())
    assert len(box.notice.windows) == 1, "no part was judged in between"


def test_a_drift_reaches_back_to_the_part_it_names_and_is_estimated_from_those_before():
    box = Box()
    box.judge(1, 100, every=10)
    box.watch.drifted(81, "drift (creep-down): scores lower")
    (window,) = box.notice.windows
    assert (window.cause, window.first, window.last, window.passed, window.known_parts) == ("drift", 81, 100, 18, 80)
    assert window.expected == pytest.approx(18 * 9 / 82, abs=1e-3)


def test_a_master_part_never_judged_rightly_leaves_every_part_in_doubt():
    box = Box()
    box.judge(5, 9)
    box.watch.master_failed(1, "master part dent: expected reject, got pass")
    (window,) = box.notice.windows
    assert (window.first, window.last, window.known_parts, window.bound) == (5, 9, 0, 5)


def test_ranges_of_gates_are_said_with_our_own_and_neither_is_lost():
    box = Box()
    box.judge(1, 3)
    box.watch.drifted(2, "x")
    gate = QuarantineNotice(QUARANTINE_SCHEMA, "st2", "g1", [SuspectRange(1002, 1002, "reject after the part")], 0, 7)
    box.watch.heard(QUARANTINE_CODEC.encode(gate))
    assert box.notice.gates == {"g1": gate.ranges}
    assert len(box.notice.windows) == 1
    sent = len(box.sent)
    box.watch.heard(QUARANTINE_CODEC.encode(QuarantineNotice(QUARANTINE_SCHEMA, "other", "g1", [], 0, 7)))
    box.watch.heard(box.sent[-1])  # our own, back from the broker
    assert len(box.sent) == sent
    with pytest.raises(ContractError):
        box.watch.heard(b'{"sch":"onbelt.suspects/1"}')


def gate_notice(*parts, gate="g1"):
    ranges = [SuspectRange(n, n, "reject after the part") for n in parts]
    return QUARANTINE_CODEC.encode(QuarantineNotice(QUARANTINE_SCHEMA, "st2", gate, ranges, 0, 7))


def named(box, gate="g1"):
    return [one.first for one in box.notice.gates[gate]]


def test_parts_a_gate_named_before_it_started_anew_stay_suspect():
    """Its new list begins empty: put in place of the old one it would take bad parts off the list of those to be found."""
    box = Box()
    box.watch.heard(gate_notice(7, 8))
    box.watch.heard(gate_notice(5, gate="g2"))
    box.watch.heard(gate_notice(31))
    assert named(box) == [7, 8, 31]
    box.watch.heard(gate_notice(7, 8, 31, 40))
    box.watch.heard(gate_notice())
    assert (named(box), named(box, "g2")) == ([7, 8, 31, 40], [5])
    again = Box(OTHER)
    again.watch.heard(gate_notice(50))
    again.watch.heard(box.sent[-1])
    assert named(again) == [7, 8, 31, 40, 50], "what the broker held of the start before comes first"
    box.watch.heard(b"")
    assert box.alarm == []


def test_ranges_of_a_gate_are_bounded_and_those_that_are_gone_are_counted_once():
    box = Box()
    box.watch.heard(gate_notice(*range(1, MAX_GATE_RANGES + 1)))
    for _ in range(3):
        box.watch.heard(gate_notice(100, 101))
    assert named(box) == [*range(3, MAX_GATE_RANGES + 1), 100, 101]
    assert box.notice.dropped == 2


def test_a_gate_that_names_no_part_raises_nothing():
    box = Box()
    box.watch.heard(gate_notice())
    assert (box.sent, box.alarm) == ([], [])


def test_what_an_earlier_start_found_stands_until_somebody_empties_the_topic():
    before, box = Box(), Box(OTHER)
    before.judge(1, 9)
    before.watch.drifted(4, "x")
    box.watch.heard(before.sent[-1])
    assert [(one.boot, one.first, one.last) for one in box.notice.windows] == [(BOOT, 4, 9)]
    assert box.alarm
    box.watch.heard(b"")
    assert box.alarm == []
    assert box.sent[-1] == b"", "or the connection would say it again"
    assert box.watch.found == []


def test_windows_are_bounded_and_the_notice_says_how_many_are_gone(caplog):
    box = Box()
    for seq in range(1, MAX_WINDOWS + 6):
        box.judge(seq, seq)
        box.watch.drifted(seq, "y" * 500)
    assert len(box.notice.windows) == MAX_WINDOWS
    assert box.notice.dropped == 5
    assert box.notice.windows[-1].last == MAX_WINDOWS + 5
    assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 1, "said once a minute, published each time"


def test_a_notice_that_contradicts_itself_is_refused():
    box = Box()
    box.judge(1, 9)
    box.watch.drifted(4, "x")
    text = box.sent[-1].replace(b'"bound":6', b'"bound":60')
    assert text != box.sent[-1]
    with pytest.raises(ContractError, match="bound"):
        SUSPECTS.decode(text)
    assert SUSPECTS.decode(SUSPECTS.encode(SuspectNotice(SUSPECTS_SCHEMA, "st2", [], {}, 0, 1))).windows == []
