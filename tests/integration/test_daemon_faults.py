"""Faults inside the daemon: a stage that hangs is answered for, a stage that crashes ends the daemon, and nothing passes."""

import threading
import time

import pytest

from edge.daemon.main import run_daemon
from edge.errors import EngineError, OnbeltError
from edge.installation import InstallationReport
from tests.support.rig import Ear, Process, Rig, until

pytestmark = pytest.mark.broker


@pytest.fixture
def ear(mosquitto):
    heard = Ear(mosquitto.port)
    yield heard
    heard.close()


def test_a_hanging_engine_is_answered_for_in_time_and_left_behind_at_the_end(tmp_path, mosquitto, ear):
    rig = Rig(tmp_path, mosquitto.port).start()
    never = threading.Event()
    try:
        rig.parts(3)

        def infer(_frame):
            never.wait(60)
            raise EngineError("came back at last")

        rig.daemon.inference._engine.infer = infer
        rig.parts(6, rate_hz=10)
        assert until(lambda: len(ear.verdicts()) == 9)
        hung = sorted(ear.verdicts(), key=lambda one: one.seq)[3:]
        assert {one.verdict for one in hung} == {"invalid"}
        assert {one.reason[0] for one in hung} <= {"late", "lost"}
        assert min(one.t.slack_ms for one in hung) > 0
        assert until(lambda: "stuck" in {one.code for one in rig.daemon.station.snapshot().conditions}, 15)
        assert until(lambda: ear.last("beat")["armed"] is False)
    finally:
        assert rig.stop() < 2.5
        assert rig.daemon.left_behind == ["engine"]
        never.set()
        assert until(lambda: not rig.daemon._threads.alive("engine"))


def test_a_stage_that_crashes_ends_the_daemon_disarmed(tmp_path, mosquitto, ear, caplog):
    rig = Rig(tmp_path, mosquitto.port).start()
    try:

        def grab(_trigger, _timeout_s):
            raise ZeroDivisionError("a driver's own bug")

        rig.camera.grab = grab
        rig.line.part()
        assert rig.daemon.done.wait(5)
        assert rig.daemon.crashed == "camera"
        assert not rig.daemon.station.armed
        assert until(lambda: len(ear.verdicts()) == 1), "even this part is answered"
        assert ear.verdicts()[0].verdict == "invalid"
        assert "a driver's own bug" in caplog.text
    finally:
        rig.stop()
    assert until(lambda: ear.last("status").get("status") == "offline")


def test_a_changed_installation_does_not_start(tmp_path, monkeypatch):
    report = InstallationReport("wheel", ("edge/judge.py: differs from what onbelt 0.1.0 installed; reinstall onbelt",))
    monkeypatch.setattr("edge.daemon.main.verify_installation", lambda: report)
    with pytest.raises(OnbeltError, match=r"edge/judge.py: differs"):
        run_daemon(Process(tmp_path, 1883).config)


def test_two_daemons_of_one_name_are_told_by_the_broker(tmp_path, mosquitto, caplog):
    first = Rig(tmp_path / "a", mosquitto.port).start()
    second = Rig(tmp_path / "b", mosquitto.port)
    try:
        second.daemon.start()
        assert until(lambda: "is a second daemon running for this station?" in caplog.text, 30)
        assert len(caplog.text) < 20_000, "said, not shouted"
    finally:
        second.stop()
        first.stop()


def test_parts_that_come_while_it_starts_are_answered_invalid(tmp_path, mosquitto, ear):
    rig = Rig(tmp_path, mosquitto.port, model={"work": 40})  # it must still be starting when the last part comes
    rig.start(armed=False)
    try:
        rig.line.parts(5, 50)
        assert until(lambda: len(ear.verdicts()) + len(ear.verdicts("verdict-late")) == 5, 30)
        assert {one.verdict for one in ear.verdicts() + ear.verdicts("verdict-late")} == {"invalid"}
        assert until(lambda: rig.daemon.station.armed, 30)
        time.sleep(0.1)
    finally:
        rig.stop()
