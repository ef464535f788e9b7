"""Which frames are believed to show the part they were taken for."""

from dataclasses import replace

import numpy as np
import pytest

from edge.daemon.stages.framecheck import FrameCheck
from edge.daemon.stages.parts import NS_PER_MS
from tests.support.bundles import good_frame
from tests.support.station import T0_NS, frame, ticket


def test_a_fresh_whole_frame_in_its_time_is_good():
    look = FrameCheck(20.0)
    assert look.look(frame(1), ticket()) is None
    assert look.look(frame(2), ticket()) is None
    assert look.look(frame(9), ticket()) is None
    assert look.dropped == 6


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (frame(1, seed=5), "frozen"),
        (frame(2, seed=1), "frozen"),
        (frame(2, complete=False), "incomplete"),
        (frame(2, T0_NS - 25 * NS_PER_MS), "stale"),
        (frame(2, T0_NS + 500 * NS_PER_MS), "stale"),
    ],
)
def test_bad_frames(second, reason):
    look = FrameCheck(20.0)
    look.look(frame(1), ticket())
    finding = look.look(second, ticket())
    assert finding is not None
    assert finding.reason == reason
    assert "frame" in finding.text


@pytest.mark.parametrize(("after_ms", "stale"), [(-15, False), (9, False), (10, False), (11, True), (300, True)])
def test_a_frame_exposed_later_than_its_camera_may_is_another_parts(after_ms, stale):
    late = replace(frame(1), sof_ns=T0_NS + after_ms * NS_PER_MS, late_ns=10 * NS_PER_MS)
    finding = FrameCheck(20.0).look(late, ticket())
    assert (finding is not None) == stale
    if finding is not None:
        assert finding.reason == "stale"
        assert f"exposed {after_ms} ms after its trigger, 10 ms at most are allowed (camera.late_ms)" in finding.text
    assert FrameCheck(20.0).look(replace(late, late_ns=0), ticket()) is None, "a camera that cannot say is bound by the deadline"


def test_a_frame_that_differs_in_one_pixel_off_the_sampled_grid_is_not_frozen():
    look, pixels = FrameCheck(20.0), good_frame()
    other = pixels.copy()
    other[3, 5, 1] ^= 1
    look.look(frame(1, pixels=pixels), ticket())
    assert look.look(frame(2, pixels=other), ticket()) is None
    again = look.look(frame(3, pixels=other.copy()), ticket())
    assert again is not None
    assert again.reason == "frozen"
    assert look.look(frame(4, pixels=np.zeros((8, 8, 3), np.uint8)), ticket()) is None
