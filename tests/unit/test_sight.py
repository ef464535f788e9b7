"""What a camera should see: learned from good parts, and every way of not seeing told from a defect."""

import time

import numpy as np
import pytest

from edge.camera.base import Frame, MissedError, SilentError, Trigger
from edge.camera.belt import BeltCamera
from edge.camera.belt_faults import FaultKind
from edge.camera.several import SeveralCameras
from edge.camera.sight import Sight, learn, read_sight, write_sight
from edge.cli import main
from edge.daemon.stages.framecheck import FrameCheck
from edge.errors import CameraError, ConfigError
from tests.support.station import ticket

EXPECTED = {
    "absent": {"absent", "shifted"},
    "shifted": {"shifted"},
    "black": {"light"},
    "overexposed": {"exposure"},
    "noisy": {"exposure"},
    "defocused": {"defocus"},
}


def frames(count, kind="", seed=1, product="tray"):
    camera = BeltCamera(product, seed, size=256, logical_share=0.0, structural_share=0.0)
    if kind:
        camera.fail(FaultKind(kind), None, None)
    camera.start()
    return [camera.grab(Trigger(n, time.monotonic_ns()), 10.0) for n in range(1, count + 1)]


@pytest.fixture(scope="module")
def learned():
    return learn([one.pixels for seed in (1, 2, 3) for one in frames(8, seed=seed)])


def test_good_parts_are_seen(learned):
    sight = Sight(learned)
    refused = [seen for one in frames(8, seed=9) if (seen := sight.look(one.pixels)) is not None]
    assert len(refused) <= 1, refused


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_way_of_not_seeing_has_its_reason(learned, kind):
    sight = Sight(learned)
    reasons = [seen.reason if (seen := sight.look(one.pixels)) else "" for one in frames(4, kind, seed=4)]
    assert sum(reason in EXPECTED[kind] for reason in reasons) >= 3, reasons


def test_the_file_is_read_back_and_anything_else_refused(learned, tmp_path):
    path = tmp_path / "sight.json"
    write_sight(path, learned)
    pixels = frames(1, seed=5)[0].pixels
    assert read_sight(path).figures(pixels) == Sight(learned).figures(pixels)
    for content, words in (
        (b"{}", "not a sight"),
        (path.read_bytes().replace(b"onbelt.sight/1", b"onbelt.sight/2"), "expected a sight of schema"),
        (b"[" * 100_000, "at most 65536 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            read_sight(path)
    with pytest.raises(ConfigError, match="make it with onbelt sight"):
        read_sight(tmp_path / "none.json")


def test_too_few_pictures_teach_nothing():
    with pytest.raises(ConfigError, match="at least 20 good pictures"):
        learn([np.zeros((32, 32, 3), np.uint8)] * 19)


def test_the_command_learns_and_tells_how_many_good_ones_it_would_refuse(tmp_path, capsys):
    from PIL import Image

    good = tmp_path / "good"
    good.mkdir()
    for number, one in enumerate(frames(24)):
        Image.fromarray(one.pixels).save(good / f"{number:03}.png")
    assert main(["sight", str(good), "--out", str(tmp_path / "none" / "s.json")]) == 2
    assert "expected a file in a folder that exists" in capsys.readouterr().err
    assert main(["sight", str(good), "--out", str(tmp_path / "s.json"), "--check", str(good)]) == 0
    assert "refuses 0 of 24 others: with 95 % confidence at most" in capsys.readouterr().out
    assert read_sight(tmp_path / "s.json").look(frames(1)[0].pixels) is None


# --- the frame check ---------------------------------------------------------------------------------------------------------


def taken(pixels, number):
    now_ns = time.monotonic_ns()
    return Frame(pixels, number, now_ns, now_ns)


def test_a_torn_frame_is_not_judged():
    old, new = (one.pixels for one in frames(2))
    check = FrameCheck(1000.0)
    assert check.look(taken(old, 1), ticket(1, time.monotonic_ns())) is None
    torn = new.copy()
    torn[128:] = old[128:]
    finding = check.look(taken(torn, 2), ticket(2, time.monotonic_ns()))
    assert finding is not None
    assert finding.reason == "incomplete"
    assert "50% of its rows are those of frame 1" in finding.text
    assert check.look(taken(new, 3), ticket(3, time.monotonic_ns())) is not None, "its upper half is the torn frame's"
    assert FrameCheck(1000.0, torn=False).look(taken(torn, 2), ticket(2, time.monotonic_ns())) is None


def test_a_black_border_that_repeats_is_not_torn():
    pictures = [one.pixels.copy() for one in frames(2)]
    for one in pictures:
        one[:80] = 0
    check = FrameCheck(1000.0)
    assert check.look(taken(pictures[0], 1), ticket(1, time.monotonic_ns())) is None
    assert check.look(taken(pictures[1], 2), ticket(2, time.monotonic_ns())) is None


def test_what_the_station_should_see_is_asked_last(learned):
    check = FrameCheck(1000.0, {"": Sight(learned)})
    assert check.look(taken(frames(1)[0].pixels, 1), ticket(1, time.monotonic_ns())) is None
    finding = check.look(taken(np.zeros((256, 256, 3), np.uint8), 2), ticket(2, time.monotonic_ns()))
    assert finding is not None
    assert finding.reason == "light"


# --- several cameras ---------------------------------------------------------------------------------------------------------


class Views:
    """A camera whose pictures the test makes."""

    def __init__(self, name, value):
        self.name = name
        self.value = value
        self.number = 0
        self.frozen = False
        self.broken: type[CameraError] | None = None
        self.started = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        self.started += 1

    def grab(self, trigger, timeout_s):
        if self.broken is not None:
            raise self.broken(f"{self.name}: no frame within 100 ms")
        if not self.frozen:
            self.number += 1
        pixels = np.random.default_rng(self.number).integers(0, 9, (40, 60, 3), np.uint8) + self.value
        return Frame(pixels.astype(np.uint8), self.number, trigger.mono_ns, trigger.mono_ns + 5)

    def interrupt(self):
        return

    def close(self):
        self.started -= 1


@pytest.fixture
def pair():
    left, right = Views("left", 50), Views("right", 150)
    with SeveralCameras([("c1", left), ("c2", right)]) as camera:
        camera.start()
        yield camera, left, right


def grab(camera):
    return camera.grab(Trigger(1, time.monotonic_ns()), 1.0)


def test_two_cameras_give_one_picture_side_by_side(pair):
    camera, _, _ = pair
    one = grab(camera)
    assert one.pixels.shape == (40, 120, 3)
    assert one.pixels[:, :60].mean() < 60 < 140 < one.pixels[:, 60:].mean()
    assert [name for name, _ in one.views] == ["c1", "c2"]
    assert one.complete
    assert not one.pixels.flags.writeable


def test_a_missing_view_is_no_picture_and_says_which_came(pair):
    camera, _, right = pair
    right.broken = SilentError
    with pytest.raises(CameraError, match="c2: right: no frame") as caught:
        grab(camera)
    assert caught.value.have == ("c1",)


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ((SilentError, SilentError), SilentError),
        ((MissedError, MissedError), MissedError),
        ((SilentError, CameraError), CameraError),
        ((MissedError, SilentError), CameraError),
    ],
)
def test_what_is_wrong_with_all_is_told_as_that_and_nothing_worse_is_hidden_by_silence(pair, kinds, told):
    camera, *views = pair
    for view, kind in zip(views, kinds, strict=True):
        view.broken = kind
    with pytest.raises(CameraError, match=r"c1: .*; c2: ") as caught:
        grab(camera)
    assert type(caught.value) is told


def test_one_frozen_camera_of_two_is_seen_although_the_picture_changes(pair):
    camera, _, right = pair
    check = FrameCheck(1000.0)
    assert check.look(grab(camera), ticket(1, time.monotonic_ns())) is None
    right.frozen = True
    finding = check.look(grab(camera), ticket(2, time.monotonic_ns()))
    assert finding is not None
    assert (finding.reason, finding.view) == ("frozen", "c2")


def test_the_first_camera_that_cannot_be_opened_closes_all(pair):
    left, right = Views("left", 1), Views("right", 2)
    right.start = lambda: (_ for _ in ()).throw(CameraError("right: gone"))
    with pytest.raises(CameraError, match="c2: right: gone"):
        SeveralCameras([("c1", left), ("c2", right)]).start()
    assert left.started == 0
