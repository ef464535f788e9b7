"""The simulated belt's camera: frames belong to their parts, and every knob does what it says."""

import itertools
import threading
import time

import numpy as np
import pytest

from edge.belt.scene import render
from edge.camera.base import Camera, Frame, MissedError, Trigger
from edge.camera.belt import BeltCamera
from edge.camera.belt_faults import KNOBS, Fault, FaultKind
from edge.errors import CameraError, ConfigError

SIZE = 128  # small frames: the tests are about the camera, not about the picture
PATIENT_S = 30.0  # this machine may be busy; nothing below waits for it to pass


def make(**settings) -> BeltCamera:
    return BeltCamera("vials", 3, **({"size": SIZE} | settings))


def take(camera: Camera, count: int, timeout_s: float = PATIENT_S) -> Frame:
    return camera.grab(Trigger(count, time.monotonic_ns()), timeout_s)


def scene(count: int, **settings) -> np.ndarray:
    return render("vials", 3, count, size=SIZE, **settings).frame


@pytest.fixture
def camera():
    with make() as made:
        made.start()
        yield made


def test_each_trigger_gets_the_part_of_its_count(camera):
    for count in (0, 1, 2, 7, 5):  # a jump ahead and one back: parts lost and asked for again
        frame = take(camera, count)
        assert np.array_equal(frame.pixels, scene(count))
        assert frame.complete
        assert not frame.pixels.flags.writeable


def test_frame_numbers_follow_each_other_and_exposure_follows_the_trigger(camera):
    before_ns = time.monotonic_ns()
    frames = [take(camera, count) for count in range(4)]
    assert [frame.frame_id for frame in frames] == [1, 2, 3, 4]
    for earlier, later in itertools.pairwise(frames):
        assert before_ns <= earlier.sof_ns < earlier.eof_ns
        assert earlier.sof_ns < later.sof_ns


def test_shares_of_defects_reach_the_scene():
    with make(logical_share=1.0, structural_share=0.0) as camera:
        camera.start()
        assert np.array_equal(take(camera, 4).pixels, scene(4, kind="logical"))


def wait_until_drawn(camera: BeltCamera, indices: list[int]) -> None:
    """Wait for the drawing thread, and no longer."""
    drawing = camera._drawing
    with drawing._changed:
        assert drawing._changed.wait_for(lambda: sorted(view.index for view in drawing._drawn) == indices, PATIENT_S)


def test_frames_ahead_are_bounded_and_ready_when_asked_for():
    with make(ahead=2) as camera:
        camera.start()
        wait_until_drawn(camera, [1, 2])
        take(camera, 1)
        assert camera.counts.ready == 1
        wait_until_drawn(camera, [2, 3])
        take(camera, 500)
        assert camera.counts.ready == 1
        wait_until_drawn(camera, [501, 502])
        assert camera.waiting == 2
        assert camera.counts.drawn == 6  # nothing was drawn that nobody could ask for


def test_a_frame_drawn_ahead_costs_less_than_a_millisecond():
    with make() as camera:
        camera.start()
        times = []
        for count in range(1, 12):
            wait_until_drawn(camera, list(range(count, count + 4)))
            begin_ns = time.perf_counter_ns()
            take(camera, count)
            times.append(time.perf_counter_ns() - begin_ns)
        assert min(times) < 1_000_000, times  # the best of eleven: other work on the machine must not fail it


def test_no_frame_comes_before_its_exposure_has_ended():
    with make() as camera:
        camera.start()
        for count in range(1, 5):
            wait_until_drawn(camera, list(range(count, count + 4)))
            frame = take(camera, count)
            assert frame.eof_ns <= time.monotonic_ns()


def test_truth_is_known_without_drawing():
    camera = make(logical_share=0.3, structural_share=0.3)
    told = [camera.truth(count) for count in range(12)]
    drawn = [render("vials", 3, count, size=SIZE, logical_share=0.3, structural_share=0.3).truth for count in range(12)]
    assert told == [(truth.kind, truth.defect) for truth in drawn]
    assert {kind.value for kind, _ in told} == {"good", "logical", "structural"}
    assert camera.counts.drawn == 0


@pytest.mark.parametrize("ahead", [0, 3])
def test_drawing_ahead_changes_no_pixel(ahead):
    with make(ahead=ahead) as camera:
        camera.start()
        assert all(np.array_equal(take(camera, count).pixels, scene(count)) for count in range(5))


def test_frozen_repeats_the_frame_and_its_number(camera):
    camera.fail(FaultKind.FROZEN, parts=range(1, 3))
    frames = [take(camera, count) for count in range(4)]
    assert [frame.frame_id for frame in frames] == [1, 1, 1, 2]
    assert frames[2] is frames[0]
    assert np.array_equal(frames[3].pixels, scene(3))


def test_frozen_from_the_first_part_on_still_gives_one_frame(camera):
    camera.fail(FaultKind.FROZEN)
    assert take(camera, 0) is take(camera, 1)


def test_repeated_sends_old_pixels_under_a_new_number(camera):
    camera.fail(FaultKind.REPEATED, parts=range(1, 3))
    frames = [take(camera, count) for count in range(4)]
    assert [frame.frame_id for frame in frames] == [1, 2, 3, 4]
    assert np.array_equal(frames[2].pixels, scene(0))
    assert np.array_equal(frames[3].pixels, scene(3))


def test_stale_shows_the_part_before_with_its_times(camera):
    camera.fail(FaultKind.STALE, parts=range(1, 3))
    frames = [take(camera, count) for count in range(4)]
    assert np.array_equal(frames[1].pixels, scene(0))
    assert np.array_equal(frames[2].pixels, scene(1))
    assert frames[1].sof_ns == frames[0].sof_ns < frames[2].sof_ns
    assert np.array_equal(frames[3].pixels, scene(3))


def test_torn_shows_two_parts_in_one_picture(camera):
    camera.fail(FaultKind.TORN, strength=0.25, parts=range(1, 2))
    take(camera, 0)
    pixels = take(camera, 1).pixels
    assert np.array_equal(pixels[: SIZE // 4], scene(1)[: SIZE // 4])
    assert np.array_equal(pixels[SIZE // 4 :], scene(0)[SIZE // 4 :])


def test_incomplete_says_so_and_lacks_rows(camera):
    camera.fail(FaultKind.INCOMPLETE, strength=0.5, parts=range(1))
    frame = take(camera, 0)
    assert not frame.complete
    assert frame.pixels[: SIZE // 2].any()
    assert not frame.pixels[SIZE // 2 :].any()
    assert take(camera, 1).complete


def test_black_and_overexposed_leave_nothing_to_judge(camera):
    camera.fail(FaultKind.BLACK, parts=range(1))
    camera.fail(FaultKind.OVEREXPOSED, strength=64.0, parts=range(1, 2))
    assert take(camera, 0).pixels.max() <= 2
    assert np.median(take(camera, 1).pixels) == 255


def test_defocused_loses_detail_and_keeps_brightness(camera):
    camera.fail(FaultKind.DEFOCUSED, parts=range(1))
    blurred, sharp = take(camera, 0).pixels.astype(float), scene(0).astype(float)
    assert np.abs(np.diff(blurred, axis=0)).mean() < 0.5 * np.abs(np.diff(sharp, axis=0)).mean()
    assert abs(blurred.mean() - sharp.mean()) < 1.5


def test_a_burst_of_noise_has_the_deviation_asked_for(camera):
    camera.fail(FaultKind.NOISY, strength=20.0, parts=range(1))
    added = take(camera, 0).pixels.astype(float) - scene(0)
    middle = (scene(0) > 70) & (scene(0) < 185)  # away from where clipping hides it
    assert added[middle].std() == pytest.approx(20.0, rel=0.15)
    assert np.array_equal(take(camera, 0).pixels - scene(0), added.astype(np.uint8))


def test_late_frames_are_held_back_by_the_time_asked_for(camera):
    take(camera, 0)
    camera.fail(FaultKind.LATE, strength=0.3)
    begin_ns = time.monotonic_ns()
    frame = take(camera, 1)
    assert time.monotonic_ns() - begin_ns >= 300_000_000
    assert frame.eof_ns - begin_ns < 300_000_000  # exposed in time, delivered late


def test_a_frame_later_than_the_timeout_is_an_error(camera):
    camera.fail(FaultKind.LATE, strength=60.0)
    with pytest.raises(CameraError, match=r"no frame within 0\.05 s"):
        take(camera, 0, timeout_s=0.05)


def test_dropped_frames_use_the_time_and_a_number(camera):
    camera.fail(FaultKind.DROPPED, parts=range(1, 2))
    assert take(camera, 0).frame_id == 1
    begin_ns = time.monotonic_ns()
    with pytest.raises(CameraError, match=r"no frame for part 1 within 0\.1 s"):
        take(camera, 1, timeout_s=0.1)
    assert time.monotonic_ns() - begin_ns >= 100_000_000
    assert take(camera, 2).frame_id == 3


def test_unplugged_raises_at_once_until_plugged_in_again(camera):
    take(camera, 0)
    camera.fail(FaultKind.UNPLUGGED)
    with pytest.raises(CameraError, match="device gone at part 1"):
        take(camera, 1)
    camera.close()
    with pytest.raises(CameraError, match="no device"):
        camera.start()
    camera.heal(FaultKind.UNPLUGGED)
    camera.start()
    assert np.array_equal(take(camera, 2).pixels, scene(2))


def test_absent_shifted_and_light_change_the_scene(camera):
    camera.fail(FaultKind.ABSENT, parts=range(1))
    camera.fail(FaultKind.SHIFTED, strength=0.25, parts=range(1, 2))
    camera.fail(FaultKind.LIGHT, strength=0.1, parts=range(2, 5))
    assert np.array_equal(take(camera, 0).pixels, scene(0, present=False))
    assert np.array_equal(take(camera, 1).pixels, scene(1, shift=(0.25, 0.0)))
    assert np.array_equal(take(camera, 2).pixels, scene(2, light=0.9))
    assert np.array_equal(take(camera, 4).pixels, scene(4, light=1.0 - 0.1 * 3))
    assert np.array_equal(take(camera, 5).pixels, scene(5))


@pytest.mark.parametrize("share", [-1.0, 1.0])
def test_a_part_shifted_out_of_the_picture_still_gives_a_frame(camera, share):
    camera.fail(FaultKind.SHIFTED, strength=share)
    assert take(camera, 0).pixels.shape == (SIZE, SIZE, 3)


def test_a_fault_set_while_running_reaches_parts_drawn_ahead(camera):
    take(camera, 0)
    wait_until_drawn(camera, [1, 2, 3, 4])
    camera.fail(FaultKind.ABSENT)
    assert np.array_equal(take(camera, 1).pixels, scene(1, present=False))
    camera.heal()
    assert np.array_equal(take(camera, 2).pixels, scene(2))


PITCH_NS = 100_000_000


def line(camera, parts):
    """What each part of a line gets, its triggers long ago and 100 ms apart: its picture's part, or the error."""
    begin_ns = time.monotonic_ns() - 20 * PITCH_NS
    found: dict[int, Frame | CameraError] = {}
    for part in parts:
        trigger = Trigger(part, begin_ns + part * PITCH_NS)
        try:
            found[part] = camera.grab(trigger, PATIENT_S)
        except CameraError as exc:
            found[part] = exc
    return found


def test_a_missed_exposure_leaves_one_part_without_a_picture(camera):
    camera.fail(FaultKind.MISSED, parts=range(3, 4))
    found = line(camera, range(1, 8))
    assert isinstance(found.pop(3), MissedError)
    for part, frame in found.items():
        assert isinstance(frame, Frame)
        assert np.array_equal(frame.pixels, scene(part))
    assert [frame.frame_id for frame in found.values() if isinstance(frame, Frame)] == [1, 2, 3, 4, 5, 6]
    assert camera.counts.faults == {"missed": 1}


def test_a_missed_exposure_believed_once_gives_every_later_part_its_neighbours_picture():
    with make(late_ns=60_000_000_000) as camera:
        camera.start()
        camera.fail(FaultKind.MISSED, parts=range(3, 4))
        found = line(camera, range(1, 7))
        for part, frame in found.items():
            assert isinstance(frame, Frame)
            assert np.array_equal(frame.pixels, scene(part + (part >= 3)))
        again = line(camera, range(1, 3))  # the line counts anew
        assert np.array_equal(again[2].pixels, scene(2))


def test_exposures_missed_in_a_row_and_for_good(camera):
    camera.fail(FaultKind.MISSED, parts=range(3, 5))
    found = line(camera, range(1, 7))
    assert [part for part, frame in found.items() if isinstance(frame, MissedError)] == [3, 4]
    camera.fail(FaultKind.MISSED)
    with pytest.raises(CameraError, match=r"no frame within 0\.05 s for part 7") as caught:
        take(camera, 7, timeout_s=0.05)
    assert not isinstance(caught.value, MissedError)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.MISSED])
def test_every_fault_is_counted_and_ends_with_its_range(camera, kind):
    camera.fail(kind, parts=range(1, 2))
    take(camera, 0)
    try:
        take(camera, 1, timeout_s=1.0)
    except CameraError:
        assert kind in {FaultKind.DROPPED, FaultKind.UNPLUGGED, FaultKind.LATE}
    assert camera.counts.faults[kind.value] >= 1
    hits = camera.counts.faults[kind.value]
    assert np.array_equal(take(camera, 2).pixels, scene(2))
    assert camera.counts.faults[kind.value] == hits


def test_counts_tell_frames_from_errors(camera):
    take(camera, 0)
    camera.fail(FaultKind.UNPLUGGED)
    with pytest.raises(CameraError):
        take(camera, 1)
    counts = camera.counts
    assert (counts.starts, counts.grabs, counts.frames, counts.errors) == (1, 2, 1, 1)
    assert counts.faults == {"unplugged": 1}


@pytest.mark.parametrize("kind", [FaultKind.DROPPED, FaultKind.LATE])
def test_interrupt_ends_a_waiting_grab_at_once(camera, kind):
    camera.fail(kind, strength=60.0 if kind is FaultKind.LATE else None)
    ended: list[tuple[str, int]] = []

    def wait() -> None:
        try:
            take(camera, 0)
        except CameraError as exc:
            ended.append((str(exc), time.monotonic_ns()))

    waiting = threading.Thread(target=wait)
    waiting.start()
    while camera.counts.faults.get(kind.value, 0) == 0:
        assert waiting.is_alive()
        time.sleep(0.005)
    asked_ns = time.monotonic_ns()
    camera.interrupt()
    waiting.join(timeout=10.0)
    assert len(ended) == 1
    assert "interrupted" in ended[0][0]
    assert ended[0][1] - asked_ns < 1_000_000_000
    with pytest.raises(CameraError, match="interrupted"):
        take(camera, 1)


def test_a_camera_not_started_or_closed_says_so():
    before = set(threading.enumerate())
    camera = make()
    with pytest.raises(CameraError, match="not started"):
        take(camera, 0)
    camera.start()
    take(camera, 0)
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="not started"):
        take(camera, 1)
    assert not [thread.name for thread in threading.enumerate() if thread not in before]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 8}, "128 to 2048 px"),
        ({"ahead": 65}, "0 to 64 parts ahead"),
        ({"logical_share": 0.7, "structural_share": 0.4}, "shares of defects"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_an_unknown_product_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="expected one of harness, tray, vials, got 'screws'"):
        BeltCamera("screws", 1)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_strengths_outside_a_knob_are_refused(camera, kind):
    with pytest.raises(ValueError, match=f"{kind.value}: expected a strength from"):
        camera.fail(kind, strength=KNOBS[kind].high + 1.0)
    assert KNOBS[kind].low <= KNOBS[kind].default <= KNOBS[kind].high


def test_ranges_of_parts_that_make_no_sense_are_refused(camera):
    with pytest.raises(ValueError, match="at least one part"):
        camera.fail(FaultKind.BLACK, parts=range(3, 3))
    with pytest.raises(ValueError, match="step of 1"):
        camera.fail(FaultKind.BLACK, parts=range(0, 10, 2))
    with pytest.raises(ValueError, match="a first to a later last"):
        Fault(FaultKind.BLACK, 1.0, first=5, last=4)
