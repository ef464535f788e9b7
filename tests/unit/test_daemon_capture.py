"""Trigger to frame: each part gets its own picture or none, and a camera that is the trigger itself is watched as well."""

from edge.belt.scene import render
from edge.camera.base import MissedError
from edge.camera.belt import BeltCamera
from edge.camera.belt_faults import FaultKind
from edge.clock import SystemClock
from edge.daemon.stages.ledger import Ledger
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Shot
from edge.daemon.state.phase import Station
from edge.trigger.frames import FrameTrigger
from tests.support.stages import make_capture
from tests.support.station import HandClock, ScriptedCamera, frame, ticket

# --- a missed exposure ----------------------------------------------------------------------------------------------------


def test_after_a_missed_exposure_every_part_is_judged_on_its_own_picture():
    clock = SystemClock()
    station = Station(clock)
    pitch_ns = 100 * NS_PER_MS  # less than the 360 ms after which a part is given up
    begin_ns = clock.monotonic_ns()
    camera = BeltCamera("tray", 3, size=128, first=1001)
    camera.fail(FaultKind.MISSED, parts=range(1003, 1004))
    capture = make_capture(camera, clock, station, valid_ms=60_000.0)
    with camera:
        capture.open()
        results = {}
        for seq in range(1, 8):
            part = ticket(seq, begin_ns + seq * pitch_ns, 60_000.0, 54_000.0)
            results[part.trigger.count] = capture.step(part)
    missed = results.pop(1003)
    assert isinstance(missed, Outcome)
    assert (missed.reason, missed.pixels) == ("lost", None)
    for count, shot in results.items():
        assert isinstance(shot, Shot)
        assert (shot.frame.pixels == render("tray", 3, count, size=128).frame).all(), f"part {count}"
        assert abs(shot.frame.sof_ns - shot.ticket.trigger.mono_ns) < 10 * NS_PER_MS
    assert (camera.counts.starts, capture.openings) == (1, 0), "it lives: opening it anew would lose the next part's picture too"
    assert capture.state == "online"
    assert station.snapshot().conditions == ()


def test_a_camera_that_misses_part_after_part_is_a_fault_and_not_opened_again():
    clock = HandClock()
    station, camera = Station(clock), ScriptedCamera([MissedError("no exposure")] * 5)
    capture = make_capture(camera, clock, station)
    for seq in range(1, 6):
        clock.forward(33)
        outcome = capture.step(ticket(seq, clock.now_ns))
        assert isinstance(outcome, Outcome)
        assert outcome.reason == "lost"
    (condition,) = station.snapshot().conditions
    assert (condition.code, condition.severity) == ("camera", "fault")
    assert "camera.late_ms" in condition.remedy
    assert (capture.state, camera.opened) == ("degraded", 0)


# --- a camera that is the trigger -----------------------------------------------------------------------------------------


def self_triggered(clock, station):
    camera = FrameTrigger(ScriptedCamera([]))
    capture = make_capture(camera, clock, station)
    capture.open()
    return camera, capture


def test_a_dead_camera_that_is_the_trigger_is_a_fault_though_no_part_comes():
    clock = HandClock()
    station, ledger = Station(clock), Ledger()
    camera, capture = self_triggered(clock, station)
    assert capture.state == "online"
    capture.failed("cable pulled")
    (condition,) = station.snapshot().conditions
    assert (condition.code, condition.severity, condition.text) == ("camera", "fault", "camera: cable pulled")
    assert (capture.state, capture.state_detail) == ("offline", "cable pulled")
    # A part whose frame came before the end neither mends it nor makes it less.
    camera._parts[1001] = frame(1, clock.now_ns)
    assert isinstance(capture.step(ledger.open(lambda seq: ticket(seq, clock.now_ns))), Shot)
    assert isinstance(capture.step(ledger.open(lambda seq: ticket(seq, clock.now_ns))), Outcome)
    assert [one.severity for one in station.snapshot().conditions] == ["fault"]
    assert capture.state == "offline"
    assert capture.openings == 0
    capture.reopened()
    capture.recovered()
    assert (capture.state, capture.openings) == ("online", 1)
    assert station.snapshot().conditions == ()


def test_only_the_triggers_thread_opens_a_camera_that_is_the_trigger():
    clock = HandClock()
    station, ledger = Station(clock), Ledger()
    camera, capture = self_triggered(clock, station)
    for _ in range(5):  # frames that gave way to newer ones
        assert isinstance(capture.step(ledger.open(lambda seq: ticket(seq, clock.now_ns))), Outcome)
    assert (camera._camera.opened, camera._camera.closed) == (1, 0)
    assert [one.severity for one in station.snapshot().conditions] == ["fault"]


def test_a_driver_that_hangs_in_the_triggers_thread_is_seen():
    clock = HandClock()
    _, capture = self_triggered(clock, Station(clock))
    capture.begin(1250.0)
    clock.forward(1200)
    assert [one.stuck_ms() for one in capture.watched] == [0, 0]
    clock.forward(100)
    assert [one.stuck_ms() for one in capture.watched] == [0, 1300]
    capture.end()
    assert [one.stuck_ms() for one in capture.watched] == [0, 0]
