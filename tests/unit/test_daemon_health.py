"""What the station says of itself: every counter and measure of the message, and the same in the page's metrics."""

from collections import deque

import pytest

from edge.camera.counts import FrameCounts, counts_of
from edge.camera.several import SeveralCameras
from edge.camera.view import ViewedCamera
from edge.daemon.stages.backfill import Backfill
from edge.daemon.stages.capture import Capture
from edge.daemon.stages.framecheck import FrameCheck
from edge.daemon.stages.ledger import Answers, Ledger
from edge.daemon.stages.parts import Outcome, Shot, Ticket
from edge.daemon.state.slack import SlackWatch
from edge.daemon.talk import health
from edge.daemon.talk.health import HealthReport
from edge.page.metrics import metrics_text
from edge.queues import Backlog, Newest
from edge.system.clocksync import ClockState
from edge.trigger.frames import FrameTrigger
from edge.wire import station as wire
from edge.wire.topics import Topics
from tests.support.desk import WHO, Desk, outcome
from tests.support.station import RecordingConnection, ScriptedCamera, frame, ticket

NAMES = Topics("plant", "hall", "line3", "st2")


class CountingCamera(ScriptedCamera):
    """A camera that runs by itself, and counts."""

    def __init__(self, script=(), skipped=0, incomplete=0):
        super().__init__(script)
        self.skipped = skipped
        self.incomplete = incomplete


class Ward:
    """A health report around a desk and a scripted camera."""

    def __init__(self, folder, camera):
        self.desk = Desk(folder)
        self.rest = RecordingConnection()
        self.refused = 0
        ledger = Ledger()
        answers = Answers(ledger, Backlog[Outcome](8), self.desk.clock)
        self.capture = Capture(
            camera, Newest[Ticket](2), Newest[Shot](1), answers, FrameCheck(20.0), self.desk.station, self.desk.clock, 400.0
        )
        self.slack = SlackWatch(self.desk.station, self.desk.clock)
        backfill = Backfill(self.desk.path, self.rest, "verdict-late/g1", None, deque(), lambda: 0)
        backfill.unsent = 4
        self.report = HealthReport(
            WHO, NAMES, self.desk.line, self.rest, ledger, self.desk.figures, self.capture, self.desk.publisher,
            backfill, self.slack, lambda: self.refused, self.desk.path, self.desk.clock, self.desk.view,
        )  # fmt: skip

    def say(self):
        self.report.report(self.desk.clock.monotonic_ns())
        return wire.HEALTH.decode(self.rest.sent[-1].payload)


@pytest.fixture(autouse=True)
def _cool(monkeypatch):
    monkeypatch.setattr(health, "temperatures", lambda: None)


def test_it_says_what_was_refused_and_how_the_clock_stands(tmp_path, monkeypatch):
    ward = Ward(tmp_path, ScriptedCamera([]))
    said = ward.say()
    assert (said.refused, said.temp_c, said.clk) == (0, None, wire.ClockHealth("free", None, None))
    ward.refused = 3
    ward.desk.publisher.clock_state = ClockState("ntp", -12, 180)
    monkeypatch.setattr(health, "temperatures", lambda: {"CPU-therm": 61.5})
    said = ward.say()
    assert (said.refused, said.temp_c, said.clk) == (3, {"CPU-therm": 61.5}, wire.ClockHealth("ntp", -12, 180))
    assert said.unsent == 4


def test_it_says_what_time_verdicts_had_left_at_the_gate(tmp_path):
    ward = Ward(tmp_path, ScriptedCamera([]))
    assert ward.say().gate_slack_ms is None
    for part in range(999):
        ward.slack.acked(20.0 if part < 2 else 300.0)
    assert ward.say().gate_slack_ms == [300.0, 20.0]
    assert not ward.desk.station.snapshot().conditions


def test_it_counts_frames_that_became_no_parts_picture(tmp_path):
    frames = [frame(1), frame(2, complete=False), frame(9, seed=5)]
    ward = Ward(tmp_path, CountingCamera(frames, skipped=4))
    for seq in (1, 2, 3):
        ward.capture.step(ticket(seq))
    assert ward.say().camera == wire.CameraCounts(skipped=4, incomplete=1, dropped=2)


def test_wrapped_cameras_count_too():
    left, right = CountingCamera(skipped=1, incomplete=2), CountingCamera(skipped=10, incomplete=20)
    both = SeveralCameras([("l", ViewedCamera(left, (0, 0, 0, 0), 90)), ("r", FrameTrigger(right))])
    assert counts_of(both) == FrameCounts(skipped=11, incomplete=22)
    assert counts_of(ScriptedCamera([])) == FrameCounts(0, 0)


def test_the_metrics_have_it_by_reason_and_by_kind(tmp_path, monkeypatch):
    ward = Ward(tmp_path, CountingCamera(skipped=7))
    assert "onbelt_invalid_total" not in metrics_text(ward.desk.view)
    ward.desk.step(outcome(1, reason="frozen"), outcome(2, reason="late"), outcome(3, reason="late"))
    ward.refused = 3
    ward.slack.acked(120.0)
    ward.desk.view.set_state({"gate_deadline_ms": 400.0})
    ward.desk.publisher.clock_state = ClockState("ntp", -12, 180)
    monkeypatch.setattr(health, "temperatures", lambda: {"CPU-therm": 61.5})
    ward.say()
    lines = metrics_text(ward.desk.view).splitlines()
    for line in (
        'onbelt_invalid_total{reason="frozen"} 1',
        'onbelt_invalid_total{reason="late"} 2',
        'onbelt_camera_frames_total{kind="skipped"} 7',
        "onbelt_refused_total 3",
        "onbelt_unsent_verdicts 4",
        "onbelt_clock_synchronized 1",
        "onbelt_gate_slack_p999_seconds 0.12",
        "onbelt_deadline_seconds 0.4",
        "onbelt_clock_offset_seconds -1.2e-05",
        "onbelt_clock_error_seconds 0.00018",
        'onbelt_temperature_celsius{zone="CPU-therm"} 61.5',
    ):
        assert line in lines
    ward.desk.publisher.clock_state = ClockState("free", None, None)
    monkeypatch.setattr(health, "temperatures", lambda: None)
    ward.say()
    text = metrics_text(ward.desk.view)
    assert "onbelt_clock_synchronized 0" in text
    assert "offset" not in text
    assert "celsius" not in text


def test_a_message_with_everything_at_its_longest_has_room(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "temperatures", lambda: {f"{n:024d}": 123.4 for n in range(8)})
    ward = Ward(tmp_path, ScriptedCamera([]))
    for n in range(24):
        ward.desk.figures.count("invalid", [f"{n:014d}"])
    for rolling in (ward.desk.figures.own_ms, ward.desk.figures.slack_ms, ward.slack.recent_ms):
        rolling.add(12345.678)
    ward.say()
    assert len(ward.rest.sent[-1].payload) < wire.MAX_HEALTH_BYTES - 200
