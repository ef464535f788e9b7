"""Frames of a camera that runs by itself: each trigger gets its own, or none."""

import time

import numpy as np
import pytest

from edge.camera.base import Frame, MissedError, Trigger
from edge.camera.several import SeveralCameras
from edge.camera.stream import LATE_NS, FrameStream, late_bound_ns
from edge.errors import CameraError
from tests.support.station import ScriptedCamera
from tests.support.station import frame as any_frame

MS = 1_000_000
PITCH_NS = 40 * MS


def frame(number, at_ns, *, complete=True):
    return Frame(np.zeros((4, 4, 3), np.uint8), number, at_ns, at_ns + MS, complete)


def streamed(*frames):
    stream = FrameStream()
    stream.begin(0)
    for one in frames:
        stream.put(one)
    return stream


def test_one_missed_exposure_costs_one_part_and_not_its_neighbours():
    begin_ns = time.monotonic_ns() - 10 * PITCH_NS
    stream = streamed()
    taken: list[tuple[int, int]] = []
    for part in range(1, 8):
        # Exposure 3 never comes; whoever waits for it waits until the next part's is there.
        if part != 4:
            number = 4 if part == 3 else part
            stream.put(frame(number, begin_ns + number * PITCH_NS + MS))
        trigger = Trigger(part, begin_ns + part * PITCH_NS)
        if part == 3:
            with pytest.raises(MissedError, match=r"no exposure for part 3: the next one began 41\.0 ms .* at most 10\.0 ms"):
                stream.take("c1", trigger, 1.0, early_ns=20 * MS, late_ns=LATE_NS)
        else:
            taken.append((stream.take("c1", trigger, 1.0, early_ns=20 * MS, late_ns=LATE_NS).frame_id, part))
    assert [number for number, part in taken] == [part for _, part in taken] == [1, 2, 4, 5, 6, 7]
    assert stream.skipped == 0


def test_a_frame_too_late_stays_for_its_own_part_and_is_given_with_its_bound():
    now_ns = time.monotonic_ns()
    stream = streamed(frame(4, now_ns))
    with pytest.raises(MissedError):
        stream.take("c1", Trigger(3, now_ns - PITCH_NS), 1.0, late_ns=LATE_NS)
    assert stream.waiting == 1
    found = stream.take("c1", Trigger(4, now_ns - LATE_NS), 1.0, late_ns=LATE_NS)
    assert (found.frame_id, found.late_ns) == (4, LATE_NS)


def test_a_damaged_frame_that_is_too_late_stays_too():
    now_ns = time.monotonic_ns()
    stream = streamed(frame(4, now_ns, complete=False))
    with pytest.raises(MissedError):
        stream.take("c1", Trigger(3, now_ns - PITCH_NS), 1.0, late_ns=LATE_NS)
    assert not stream.take("c1", Trigger(4, now_ns), 1.0, late_ns=LATE_NS).complete


@pytest.mark.parametrize("pitch_ms", [8, 15, 20, 25, 40])
@pytest.mark.parametrize("delay_ms", [0.5, 3.0])
def test_a_part_nobody_asked_for_leaves_its_frame_to_no_other(pitch_ms, delay_ms):
    begin_ns, pitch_ns = time.monotonic_ns() - 10**9, pitch_ms * MS
    stream = streamed()
    taken = []
    for part in (1, 2, 4, 5, 6, 7):  # part 3 gave way to a newer one before the camera was asked for it
        for number in (3, 4) if part == 4 else (part,):
            stream.put(frame(number, begin_ns + number * pitch_ns + round(delay_ms * MS)))
        found = stream.take("c1", Trigger(part, begin_ns + part * pitch_ns), 1.0, early_ns=20 * MS, late_ns=LATE_NS)
        taken.append(found.frame_id)
    assert taken == [1, 2, 4, 5, 6, 7]
    assert stream.skipped == 1


def test_a_bound_wider_than_from_part_to_part_does_not_let_the_next_parts_frame_through():
    begin_ns = time.monotonic_ns() - 10**9
    stream = streamed(*(frame(n, begin_ns + n * PITCH_NS) for n in (1, 2, 4, 5)))
    ask = {"early_ns": 20 * MS, "late_ns": 60 * MS}
    taken = [stream.take("c1", Trigger(part, begin_ns + part * PITCH_NS), 1.0, **ask).frame_id for part in (1, 2)]
    with pytest.raises(MissedError, match=r"began 40\.0 ms after its trigger, at most 20\.0 ms"):
        stream.take("c1", Trigger(3, begin_ns + 3 * PITCH_NS), 1.0, **ask)
    taken += [stream.take("c1", Trigger(part, begin_ns + part * PITCH_NS), 1.0, **ask).frame_id for part in (4, 5)]
    assert taken == [1, 2, 4, 5]


def test_triggers_of_one_moment_are_bounded_too():
    now_ns = time.monotonic_ns()
    stream = streamed(frame(1, now_ns), frame(2, now_ns + MS))
    assert stream.take("c1", Trigger(1, now_ns), 1.0, early_ns=20 * MS, late_ns=LATE_NS).frame_id == 1
    with pytest.raises(MissedError):
        stream.take("c1", Trigger(2, now_ns), 1.0, early_ns=20 * MS, late_ns=LATE_NS)


def test_who_asks_for_any_following_frame_gets_it_however_late():
    now_ns = time.monotonic_ns()
    stream = streamed(frame(1, now_ns - PITCH_NS), frame(2, now_ns))
    asked = Trigger(0, now_ns - PITCH_NS // 2, following=True)
    assert stream.take("c1", asked, 1.0, late_ns=LATE_NS).frame_id == 2
    assert stream.skipped == 1


def test_without_a_frame_it_waits_and_says_so():
    with pytest.raises(CameraError, match="no frame within 20 ms") as caught:
        streamed().take("c1", Trigger(1, time.monotonic_ns()), 0.02, late_ns=LATE_NS)
    assert not isinstance(caught.value, MissedError)


def test_the_bound_is_the_one_set_or_follows_from_how_the_camera_is_triggered():
    assert late_bound_ns(3 * MS, 50 * MS, triggered=True) == late_bound_ns(3 * MS, 50 * MS, triggered=False) == 3 * MS
    assert late_bound_ns(0, 0, triggered=True) == LATE_NS
    assert late_bound_ns(0, 50 * MS, triggered=False) == 100 * MS
    assert late_bound_ns(0, 0, triggered=False) == 0


@pytest.mark.parametrize(("other", "kind"), [(MissedError("nothing"), MissedError), (CameraError("gone"), CameraError)])
def test_of_several_cameras_one_that_missed_is_no_broken_one(other, kind):
    views = [ScriptedCamera([MissedError("nothing")]), ScriptedCamera([other]), ScriptedCamera([any_frame(1)])]
    with SeveralCameras([(f"c{n}", view) for n, view in enumerate(views)]) as camera:
        camera.start()
        with pytest.raises(CameraError) as caught:
            camera.grab(Trigger(1, time.monotonic_ns()), 1.0)
    assert type(caught.value) is kind
    assert caught.value.have == ("c2",)
