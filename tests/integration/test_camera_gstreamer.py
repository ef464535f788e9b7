"""GStreamer cameras: what is a stall, and what is only a line without parts."""

import time

import pytest

from edge.camera.base import Trigger
from edge.camera.pipelines import StreamWish, pipeline_of
from edge.errors import CameraError
from tests.conftest import skip_unless
from tests.support import gstreamer

# Says 20 frames a second, as a sensor's mode does, and gives two: as many parts as there are.
SLOW = "videotestsrc is-live=true pattern=snow ! video/x-raw,width=96,height=64,framerate=20/1 ! identity sleep-time=500000"


@pytest.fixture
def make(tmp_path_factory):
    lack = gstreamer.missing(tmp_path_factory.mktemp("gi"))
    skip_unless(not lack, f"no GStreamer here: {lack}")
    from edge.camera.gstreamer import GstreamerCamera

    return lambda **wish: GstreamerCamera(pipeline_of(StreamWish("gstreamer", SLOW, **wish)))


def following(camera):
    return camera.grab(Trigger(1, time.monotonic_ns() - 10**9, following=True), 10.0)


def drain(camera):
    for _ in range(8):
        following(camera)


def test_a_sensor_triggered_by_hardware_is_silent_between_parts(make):
    with make(triggered=True) as camera:
        camera.start()
        assert [following(camera).complete for _ in range(4)] == [True] * 4


def test_a_camera_that_runs_by_itself_and_is_silent_stalls(make):
    with make() as camera:
        camera.start()
        with pytest.raises(CameraError, match=r"no frame for \d+ ms, expected one every 50 ms"):
            drain(camera)
