"""The whole daemon where the camera is the trigger: no part comes from a dead camera, and still everybody is told."""

import time
from dataclasses import replace

import pytest

from edge.bundle.reader import open_bundle
from edge.daemon.daemon import Daemon
from edge.system.notify import Notifier
from tests.conftest import free_port
from tests.support.bundles import make_tiny_bundle
from tests.support.rig import TestCamera, until
from tests.support.station import station_config


class Paced(TestCamera):
    """Twenty good frames a second, as a camera that runs by itself gives them."""

    def grab(self, trigger, timeout_s):
        time.sleep(0.05)
        return super().grab(replace(trigger, count=1), timeout_s)


class Fed(Notifier):
    """Counts the signs of life."""

    def __init__(self):
        super().__init__("", 0)
        self.alives = 0

    def alive(self):
        self.alives += 1


@pytest.fixture(params=["camera", "motion"])
def station(request, tmp_path):
    path, trust, _ = make_tiny_bundle(tmp_path / "bundle")
    config = station_config(tmp_path, trigger={"kind": request.param}, mqtt={"port": free_port()}, model={"threads": 1})
    camera, notifier = Paced(), Fed()
    daemon = Daemon(config, open_bundle(path, trust), camera=camera, notifier=notifier)
    daemon.start()
    try:
        assert until(lambda: daemon.station.armed, 30), daemon.station.snapshot()
        yield daemon, camera, notifier
    finally:
        daemon.stop()


def conditions(daemon):
    return {one.code: one.severity for one in daemon.station.snapshot().conditions}


def test_a_dead_camera_disarms_and_is_proved_anew_when_it_is_back(station):
    daemon, camera, notifier = station
    token = daemon.station.snapshot().check.token
    camera.broken = True
    assert until(lambda: conditions(daemon).get("camera") == "fault", 10), conditions(daemon)
    assert not daemon.station.armed
    assert daemon.capture.state == "offline"
    fed = notifier.alives
    assert until(lambda: notifier.alives > fed + 3, 10), "it is opened again here: no restart mends a cable"
    camera.broken = False
    assert until(lambda: "camera" not in conditions(daemon), 10), conditions(daemon)
    assert (daemon.capture.state, daemon.capture.openings) == ("online", 1)
    assert until(lambda: daemon.station.snapshot().check.token != token, 20), "the self-check runs anew"
    assert until(lambda: daemon.station.armed, 10)


def test_a_driver_that_hangs_starves_the_watchdog(station):
    daemon, camera, notifier = station
    camera.hang.set()
    assert until(lambda: conditions(daemon).get("stuck") == "fault", 10), conditions(daemon)
    assert not daemon.station.armed
    fed = notifier.alives
    time.sleep(0.5)
    assert notifier.alives == fed
