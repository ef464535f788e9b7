"""GigE Vision over loopback against Aravis' fake camera: damaged frames, a stall, an unplugged camera, refused settings."""

import contextlib
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.camera.base import Trigger
from edge.daemon.stages.framecheck import FrameCheck
from edge.errors import CameraError
from tests.conftest import skip_unless
from tests.support import aravis
from tests.support.station import ticket

RATE_HZ = 10.0  # slow enough for a machine that does other things
PERIOD_S = 1 / RATE_HZ


@pytest.fixture(scope="module", autouse=True)
def _aravis(tmp_path_factory):
    lack = aravis.missing(tmp_path_factory.mktemp("gi"))
    skip_unless(not lack, f"no GigE Vision camera here: {lack}")


def make(fake, **settings):
    from edge.camera.genicam import GenicamCamera, GenicamSettings

    wanted: dict[str, Any] = {"rate_hz": RATE_HZ, "exposure_us": 2000.0, "region": (0, 0, 256, 256)} | settings
    return GenicamCamera(GenicamSettings(fake.device, **wanted))


def take(camera, timeout_s=5.0):
    return camera.grab(Trigger(1, time.monotonic_ns()), timeout_s)


def take_patiently(camera):
    """(frame, when it was asked for, ns). Waits for a camera that is late because the machine does other things."""
    until = time.monotonic() + 20
    while True:
        asked_ns = time.monotonic_ns()
        try:
            return take(camera), asked_ns
        except CameraError:
            if time.monotonic() > until:
                raise


def test_each_frame_is_taken_or_counted_and_begun_after_its_trigger():
    with aravis.FakeCamera("GV11") as fake, make(fake) as camera:
        camera.start()
        first, _ = take_patiently(camera)
        taken = 1
        while taken < 15:
            frame, asked_ns = take_patiently(camera)
            assert frame.sof_ns >= asked_ns
            taken += 1
        lost = frame.frame_id - first.frame_id + 1 - taken - camera.skipped - camera.incomplete
        # What was skipped before the first frame was taken counts as well, so it may only be less.
        assert lost <= 0, "every frame of the camera is judged, skipped or damaged, and counted"
        assert frame.eof_ns - frame.sof_ns == 2_000_000


def test_damaged_frames_are_never_complete_and_never_judged():
    with aravis.FakeCamera("GV12", lost=20) as fake, make(fake, region=(0, 0, 384, 384)) as camera:
        camera.start()
        check = FrameCheck(20.0)
        found: list[str] = []
        until = time.monotonic() + 20
        while time.monotonic() < until and found.count("incomplete") < 5:
            frame, asked_ns = take_patiently(camera)
            finding = check.look(frame, ticket(1, asked_ns, valid_ms=5000.0))
            found.append(finding.reason if finding else "judged")
            assert frame.complete == (finding is None or finding.reason != "incomplete")
            if frame.complete:
                assert frame.pixels.shape == (384, 384, 3)
        assert found.count("incomplete") >= 5
        assert camera.incomplete >= 5


def test_a_stall_is_said_within_two_periods_and_the_stream_goes_on_by_itself():
    with aravis.FakeCamera("GV13") as fake, make(fake) as camera:
        camera.start()
        take_patiently(camera)
        fake.freeze()
        time.sleep(4 * PERIOD_S)
        begin = time.monotonic()
        with pytest.raises(CameraError, match=r"no frame for \d+ ms, expected one every 100 ms"):
            drain(camera)
        assert time.monotonic() - begin < 1.5, "at once, not at the part's deadline"
        fake.thaw()
        assert recovers(camera, restart=False) < 2.0


def test_an_unplugged_camera_is_said_and_comes_back():
    with aravis.FakeCamera("GV14") as fake, make(fake) as camera:
        camera.start()
        take_patiently(camera)
        fake.unplug()
        with pytest.raises(CameraError):
            drain(camera)
        with pytest.raises(CameraError):
            camera.start()
        fake.start()
        assert recovers(camera, restart=True) < 5.0


def drain(camera):
    """Frames that were under way when the fault came, and then its error."""
    for _ in range(10):
        take(camera)


def recovers(camera, *, restart):
    """Seconds until a frame comes again; opened anew at each failure, as the daemon does."""
    begin = time.monotonic()
    while time.monotonic() - begin < 20:
        with contextlib.suppress(CameraError):
            if restart:
                camera.start()
            take(camera)
            return time.monotonic() - begin
        time.sleep(0.05)
    raise AssertionError("no frame any more")


def test_a_colour_frame_rests_on_the_bytes_the_binding_has_copied():
    from gi.repository import Aravis

    from edge.camera.genicam import _pixels

    assert type(Aravis.Buffer.new_allocate(48).get_data()) is bytes, "bytes never change: the buffer may go back to its stream"
    data = bytes(range(48))
    buffer = SimpleNamespace(
        get_image_pixel_format=lambda: 0x02180014,
        get_image_height=lambda: 4,
        get_image_width=lambda: 4,
        get_data=lambda: data,
    )
    pixels = _pixels(buffer)
    assert pixels is not None
    assert pixels.tobytes() == data
    assert np.shares_memory(pixels, np.frombuffer(data, np.uint8)), "copied once more"


def test_a_software_trigger_makes_one_frame():
    with aravis.FakeCamera("GV15") as fake, make(fake, mode="software", rate_hz=0.0) as camera:
        camera.start()
        frames = [take(camera) for _ in range(3)]
        assert all(frame.complete for frame in frames)


def test_a_trigger_line_the_camera_does_not_have_is_said():
    with aravis.FakeCamera("GV17") as fake, pytest.raises(CameraError, match="Line99"):
        make(fake, mode="hardware", line="Line99").start()


def test_no_camera_and_a_format_we_do_not_take_are_said():
    from edge.camera.genicam import GenicamCamera, GenicamSettings

    with pytest.raises(CameraError, match="check power, network"):
        GenicamCamera(GenicamSettings("Nobody-0000")).start()
    with aravis.FakeCamera("GV16") as fake, make(fake, pixel_format="Mono16") as camera:
        with pytest.raises(CameraError, match="expected pixel format Mono8, RGB8, BGR8, got Mono16"):
            camera.start()
        with pytest.raises(CameraError):
            make(fake, pixel_format="NoSuchFormat").start()
