"""From configuration to cameras and triggers: pipelines as text, views from files, and what is refused in which words."""

from pathlib import Path

import pytest

from edge.camera.pipelines import StreamWish, pipeline_of
from edge.camera.several import SeveralCameras
from edge.camera.view import ViewedCamera
from edge.clock import SystemClock
from edge.config.file import load_config
from edge.daemon import build, build_camera
from edge.daemon.stages.compose import _have
from edge.daemon.stages.parts import Outcome
from edge.errors import ConfigError
from edge.gate.config import load_config as load_gate
from edge.trigger.frames import FrameTrigger
from edge.trigger.pitch import PitchTrigger
from tests.support.station import station_config, ticket

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def text(kind, source, **wish):
    return pipeline_of(StreamWish(kind, source, **wish)).pipeline


def test_pipelines_fix_what_would_drift():
    assert text("v4l2", "/dev/video2", width=640, height=480, rate_hz=30, exposure_us=5000, gain=12) == (
        'v4l2src name=source device="/dev/video2" extra-controls="c,auto_exposure=1,exposure_time_absolute=50,gain=12" ! '
        '"video/x-raw,width=640,height=480,framerate=30000/1000;image/jpeg,width=640,height=480,framerate=30000/1000" ! decodebin'
    )
    csi = text("csi", "1", width=1280, height=720, exposure_us=800, gain=2)
    assert 'sensor-id=1 aelock=true exposuretimerange="800000 800000" gainrange="2 2"' in csi
    assert '"video/x-raw(memory:NVMM),width=1280,height=720" ! nvvidconv' in csi
    assert "protocols=tcp latency=5" in text("rtsp", "rtsp://cam/1", latency_ms=5)


def test_a_password_is_in_no_text():
    made = pipeline_of(StreamWish("rtsp", "rtsp://cam/1", user="box", password="s3cret"))
    assert "s3cret" not in made.pipeline + made.name
    assert made.properties == (("source.user-id", "box"), ("source.user-pw", "s3cret"))


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        ("v4l2", "video0", "expected a device node such as /dev/video0"),
        ("csi", "left", "expected a sensor's number"),
        ("rtsp", "http://cam", "expected an address such as rtsp://"),
        ("rtsp", "rtsp://box:s3cret@cam/1", r"no user or password in rtsp://\*\*\*@cam/1"),
        ("video", "/nowhere.avi", "expected a video file"),
        ("gstreamer", "", "expected one for camera.kind"),
    ],
)
def test_sources_that_are_none(kind, source, words):
    with pytest.raises(ConfigError, match=words) as caught:
        text(kind, source)
    assert "s3cret" not in str(caught.value)


def test_a_path_cannot_add_elements_to_a_pipeline(tmp_path):
    odd = tmp_path / 'a" ! fakesink name="b.avi'
    odd.touch()
    assert text("video", str(odd)).count(" ! ") == 2, "the one inside the quotes, and ours"


def test_the_example_of_two_cameras_is_one_camera_of_two():
    config = load_config(EXAMPLES / "station-two-cameras.toml")
    assert build_camera.names_of(config.camera) == ("c1", "c2")
    assert [view.genicam.device for view in build_camera.views_of(config.camera)] == ["192.168.10.20", "192.168.10.21"]


def test_the_gate_of_the_pins_hears_what_its_station_listens_to():
    gate, station = load_gate(EXAMPLES / "gate-gpio.toml"), load_config(EXAMPLES / "station-csi-gpio.toml")
    pins = gate.pins()
    assert pins is not None
    assert pins.forward == station.listen_address()
    assert gate.topics() == station.topics()
    assert station.deadline.valid_ms <= gate.settings().deadline_ms


def test_the_full_examples_of_gate_and_station_belong_together():
    gate, station = load_gate(EXAMPLES / "gate.toml"), load_config(EXAMPLES / "station.toml")
    assert gate.topics() == station.topics()
    assert gate.station.gate == station.station.gate
    assert station.deadline.valid_ms <= gate.settings().deadline_ms


@pytest.fixture
def views(tmp_path):
    """Two simulated belts, each in a file of its own."""
    for name, seed in (("c1", 1), ("c2", 2)):
        (tmp_path / f"{name}.toml").write_text(
            f'[camera]\nkind = "belt"\nid = "{name}"\n[camera.belt]\nseed = {seed}\nsize = 128\n'
        )
    return [str(tmp_path / "c1.toml"), str(tmp_path / "c2.toml")]


def test_views_are_made_from_their_files(tmp_path, views):
    config = station_config(tmp_path, camera={"kind": "several", "views": views})
    camera = build.make_camera(config)
    assert isinstance(camera, SeveralCameras)
    assert camera.name.startswith("c1: ")


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"kind": "several"}, "expected two to four files"),
        ({"kind": "belt", "views": ["x.toml", "y.toml"]}, "expected two to four files"),
        ({"kind": "v4l2"}, r"camera\.stream\.source: expected one"),
        ({"kind": "rtsp", "stream": {"source": "rtsp://c", "password": "p"}}, r"expected camera\.stream\.user beside it"),
        ({"kind": "belt", "region": [0, 0, 5]}, r"camera\.region: expected \[x, y, width, height\]"),
    ],
)
def test_cameras_that_cannot_be(tmp_path, camera, words):
    with pytest.raises(ConfigError, match=words):
        station_config(tmp_path, camera=camera)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[camera]\nkind = "several"\nviews = ["a", "b"]\n', "expected one camera here"),
        ('[camera]\nkindd = "belt"\n', "kindd"),
        ("[camera", "camera.views"),
        ('[camera]\nkind = "belt"\nid = "c2"\n', "a camera.id of its own"),
        ('[camera]\nid = "c1"\n', r"camera\.kind: this key must be given"),
    ],
)
def test_view_files_that_are_none(tmp_path, views, content, words):
    Path(views[0]).write_text(content)
    config = station_config(tmp_path, camera={"kind": "several", "views": views})
    with pytest.raises(ConfigError, match=words):
        build_camera.names_of(config.camera)


def test_a_region_and_a_rotation_stand_before_any_camera(tmp_path):
    config = station_config(tmp_path, camera={"kind": "belt", "region": [0, 0, 64, 32], "rotate": 90, "belt": {"size": 128}})
    assert isinstance(build.make_camera(config), ViewedCamera)


def test_a_camera_that_triggers_is_both(tmp_path):
    config = station_config(tmp_path, trigger={"kind": "motion", "min_pitch_ms": 40.0})
    trigger, camera = build.make_trigger(config, SystemClock(), build.make_camera(config))
    assert isinstance(trigger, PitchTrigger)
    assert isinstance(camera, FrameTrigger)
    assert trigger.source is camera


def test_a_verdict_names_the_cameras_that_came(tmp_path, views):
    from dataclasses import replace

    from tests.support.desk import WHO

    who = replace(WHO, cameras=("c1", "c2"))
    assert _have(Outcome(ticket(), "camera", have=("c1",)), who) == ["c1"]
    assert _have(Outcome(ticket(), "camera"), who) == []
    assert _have(Outcome(ticket(), "", exp_ns=5), who) == ["c1", "c2"]
