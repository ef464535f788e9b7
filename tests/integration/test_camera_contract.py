"""One contract for all cameras: simulated belt, folder, GigE Vision over a real network stack, GStreamer and the rest.

The rest: a video file, an RTSP server, two cameras on one part, and picamera2's documented interface.
"""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from edge.camera.base import Camera, Trigger
from edge.camera.belt import BeltCamera
from edge.camera.folder import FolderCamera
from edge.camera.pipelines import StreamWish, pipeline_of
from edge.camera.several import SeveralCameras
from edge.camera.view import ViewedCamera
from edge.errors import CameraError
from tests.conftest import skip_unless
from tests.support import aravis, gstreamer
from tests.support.picamera2 import fake_picamera2

TIMEOUT_S = 10.0
KINDS = ("belt", "folder", "genicam", "gstreamer", "video", "rtsp", "picamera2", "several", "viewed")


@pytest.fixture
def gigevision(tmp_path_factory):
    lack = aravis.missing(tmp_path_factory.mktemp("gi"))
    skip_unless(not lack, f"no GigE Vision camera here: {lack}")
    with aravis.FakeCamera("GV07") as fake:
        yield fake


@pytest.fixture
def gst(tmp_path_factory):
    lack = gstreamer.missing(tmp_path_factory.mktemp("gi"))
    skip_unless(not lack, f"no GStreamer here: {lack}")


@pytest.fixture
def rtsp(gst):
    lack = gstreamer.missing_server()
    skip_unless(not lack, f"no RTSP server here: {lack}")
    with gstreamer.RtspServer() as server:
        yield server


def _streamed(request, kind, tmp_path):
    """A GStreamer camera, with the pipeline the configuration would write where there is one."""
    request.getfixturevalue("gst")
    from edge.camera.gstreamer import GstreamerCamera

    if kind == "gstreamer":
        wish = StreamWish("gstreamer", "videotestsrc is-live=true pattern=snow ! video/x-raw,width=98,height=64,framerate=20/1")
    elif kind == "video":
        wish = StreamWish("video", str(gstreamer.make_video(tmp_path / "parts.avi")))
    else:
        wish = StreamWish("rtsp", request.getfixturevalue("rtsp").address, latency_ms=0)
    return GstreamerCamera(pipeline_of(wish))


@pytest.fixture(params=KINDS)
def camera(request, tmp_path, monkeypatch):
    made: Camera
    if request.param == "belt":
        made = BeltCamera("tray", 1, size=128)
    elif request.param == "folder":
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (32, 48, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        made = FolderCamera(tmp_path)
    elif request.param in {"gstreamer", "video", "rtsp"}:
        made = _streamed(request, request.param, tmp_path)
    elif request.param == "picamera2":
        fake_picamera2(monkeypatch)
        from edge.camera.picamera2 import Picamera2Camera, Picamera2Settings

        made = Picamera2Camera(Picamera2Settings(width=64, height=48, rate_hz=20.0))
    elif request.param == "several":
        made = SeveralCameras([("c1", BeltCamera("tray", 1, size=128)), ("c2", BeltCamera("vials", 2, size=128))])
    elif request.param == "viewed":
        made = ViewedCamera(BeltCamera("tray", 1, size=128), (8, 4, 100, 60), 90)
    else:
        fake = request.getfixturevalue("gigevision")
        from edge.camera.genicam import GenicamCamera, GenicamSettings

        made = GenicamCamera(GenicamSettings(fake.device, rate_hz=10.0, exposure_us=1000.0, region=(0, 0, 128, 96)))
    yield made
    made.close()


def take(camera, count):
    return camera.grab(Trigger(count, time.monotonic_ns()), TIMEOUT_S)


def test_it_has_a_name_before_and_after_start(camera):
    assert camera.name
    camera.start()
    assert camera.name


def test_a_frame_without_start_is_an_error(camera):
    with pytest.raises(CameraError):
        take(camera, 1)


def test_frames_are_rgb_read_only_numbered_and_stamped(camera):
    camera.start()
    numbers = []
    for count in range(1, 5):
        asked_ns = time.monotonic_ns()
        frame = take(camera, count)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.ndim == 3
        assert frame.pixels.shape[2] == 3
        assert not frame.pixels.flags.writeable
        assert frame.complete
        assert asked_ns - 50_000_000 < frame.sof_ns <= frame.eof_ns <= time.monotonic_ns()
        numbers.append(frame.frame_id)
    assert numbers == sorted(set(numbers)), "a repeat is a frozen camera"


def test_interrupt_ends_a_waiting_grab_and_start_makes_it_well_again(camera):
    camera.start()
    take(camera, 1)
    failed = threading.Event()

    def wait_for_ever():
        try:
            while True:
                take(camera, 2)
        except CameraError:
            failed.set()

    thread = threading.Thread(target=wait_for_ever, daemon=True)
    thread.start()
    time.sleep(0.05)
    camera.interrupt()
    assert failed.wait(2.0)
    thread.join(2.0)
    camera.close()
    camera.start()
    assert take(camera, 3).complete


def test_close_may_be_called_twice_and_a_frame_outlives_it(camera):
    camera.start()
    frame = take(camera, 1)
    before = frame.pixels.copy()
    camera.close()
    camera.close()
    assert (frame.pixels == before).all()
    with pytest.raises(CameraError):
        take(camera, 2)
