"""Station and gate out of step: a verdict with a part's number that is of another part opens nothing, and the cause is named."""

import msgspec
import pytest

from edge.errors import ConfigError
from edge.gate.actions import ClearAlarm, Open, RaiseAlarm, Reinspect
from edge.gate.config import load_config
from edge.wire.verdict import Clk
from tests.support.gate_messages import BOOT, OTHER_BOOT, make_beat
from tests.support.gate_world import D_MS, World, acks, opened
from tests.unit.test_gate_config import SMALL, write

PITCH_MS = 100.0
ALARM = "gate-g1-counts"


class Camera(World):
    """A station whose camera counts its own frames: `missed` exposures behind the light barrier, or ahead of it.

    It reads the gate's clock, or another machine's, `clock_ms` ahead.
    """

    def __init__(self, clock_ms: float = 0.0, **changes) -> None:
        self.clock_ms = clock_ms
        self.missed = 0
        self.late_ms = 0.0
        self.stamps: dict[int, float] = {}
        super().__init__(**changes)

    def beat(self, boot=BOOT, **changes):
        self.beats += 1
        beat = make_beat(self.beats, boot, **changes)
        stamp_us = round(self.ns / 1000 + (self.clock_ms - 3.0) * 1000)  # 3 ms under way
        return self.keep(self.gate.beat(msgspec.structs.replace(beat, mono_us=stamp_us), self.ns))

    def judged(self, verdict="pass", after_ms=60.0, **changes):
        """A part comes and is judged; the number is the camera's."""
        start, stamp_ns = self.ms, self.ns
        count = self.part()
        self.to(start + after_ms)
        stamp_us = round(stamp_ns / 1000 + (self.clock_ms + self.late_ms) * 1000)
        self.verdict(count - self.missed, verdict, clk=Clk("free", None, None, stamp_us), **changes)
        return self.to(start + PITCH_MS)


def camera(**given) -> Camera:
    world = Camera(**given)
    world.birth()
    world.to(100)
    for _ in range(10):
        world.judged()
    world.to(world.ms + 1000)
    assert world.gate.armed
    assert len(opened(world.actions)) >= 6
    world.actions.clear()
    return world


def alarms(world: World) -> list[str]:
    return [a.text for a in world.actions if isinstance(a, RaiseAlarm) and a.code == ALARM]


@pytest.mark.parametrize("missed", [1, -1])
def test_one_exposure_missed_or_too_many_opens_nothing_on_a_shared_clock(missed):
    world = camera()
    world.missed = missed
    for verdict in ("pass", "reject", "pass", "pass"):
        world.judged(verdict)
    world.to(world.ms + 1000)
    assert opened(world.actions) == []
    assert len(alarms(world)) == 1
    if missed == 1:  # the other way the verdict names a part that has not come yet
        assert world.gate.counts["other-part"] == 4
        assert "the verdict for part 10 is of one triggered 1100.0 ms after it" in alarms(world)[0]
    world.missed = 0
    for _ in range(10):
        world.judged()
    world.to(world.ms + 1000)
    assert opened(world.actions), "in step again"
    assert [a.code for a in world.actions if isinstance(a, ClearAlarm) and a.code == ALARM] == [ALARM]


@pytest.mark.parametrize(("late_ms", "opens"), [(0.0, 1), (19.9, 1), (-19.9, 1), (20.1, 0), (-20.1, 0)])
def test_a_stamp_may_differ_by_what_the_file_says(late_ms, opens):
    world = camera()
    world.late_ms = late_ms
    world.judged()
    world.to(world.ms + 500)
    assert len(opened(world.actions)) == opens
    assert bool(alarms(world)) != bool(opens)


def test_a_reject_with_another_parts_time_still_keeps_the_part_out():
    world = camera()
    start, stamp_us = world.ms, world.ns // 1000
    count = world.part()
    world.verdict(count, "reject", seq=901, clk=Clk("free", None, None, stamp_us - 100_000))
    world.verdict(count, "pass", seq=902, clk=Clk("free", None, None, stamp_us))
    assert opened(world.to(start + D_MS)) == []
    assert acks(world.actions) == [("reject", "verdict")]


def test_a_doubtful_part_is_not_sent_to_a_person_by_another_parts_verdict():
    world = camera(on_uncertain="reinspect")
    world.judged("uncertain")
    world.missed = 1
    world.judged("uncertain")
    world.to(world.ms + 1000)
    assert len([a for a in world.actions if isinstance(a, Reinspect)]) == 1


@pytest.mark.parametrize("clock_ms", [5_000.0, -5_000.0, 40.0])
def test_another_machines_clock_is_not_compared(clock_ms):
    """40 ms ahead: a beat comes before it was sent, which no shared clock does."""
    world = camera(clock_ms=clock_ms)
    assert not world.gate.shares_clock
    world.judged()
    world.to(world.ms + 500)
    assert len(opened(world.actions)) == 1


def test_nothing_is_compared_where_the_file_says_so():
    world = camera(stamp_apart_ms=0.0)
    world.late_ms = 90.0
    world.judged()
    assert len(opened(world.to(world.ms + 500))) == 1


def test_a_permit_taken_before_the_clock_was_known_is_asked_again_at_d():
    world = camera()
    world.birth(OTHER_BOOT)
    start, stamp_us = world.ms, world.ns // 1000
    count = world.part()
    world.verdict(count, boot=OTHER_BOOT, clk=Clk("free", None, None, stamp_us - 100_000))
    assert world.gate.counts["other-part"] == 0
    world.beats = 0
    while world.ms < start + D_MS:
        world.ms += 10.0
        if round(world.ms) % 100 == 0:
            world.beat(OTHER_BOOT)
        world.tick()
    assert world.gate.armed
    assert not [a for a in world.actions if isinstance(a, Open)]


def test_parts_without_verdicts_while_others_numbers_get_them_are_said_to_be_counted_apart():
    world = camera(clock_ms=5_000.0)
    world.missed = -1000  # a camera that was opened anew, say
    world.judged()
    world.judged()
    world.to(world.ms + 1000)
    assert alarms(world) == [], "two may be lost"
    world.judged()
    world.to(world.ms + 1000)
    (text,) = alarms(world)
    assert "3 parts in a row, the last with number 13, got no verdict, while 3 came for numbers no part here has" in text
    assert "the last for 1013" in text


def test_a_station_that_says_nothing_is_not_said_to_count_apart():
    world = camera()
    for _ in range(5):
        world.part()
        world.to(world.ms + PITCH_MS)
    world.to(world.ms + 1000)
    assert alarms(world) == []


def test_a_tolerance_as_wide_as_the_pitch_is_refused(tmp_path):
    text = SMALL.replace("gate_ms = 300", "gate_ms = 300\nmin_pitch_ms = 40") + "[rules]\nstamp_apart_ms = 40\n"
    with pytest.raises(ConfigError, match=r"expected stamp_apart_ms below min_pitch_ms, 40, got 40"):
        load_config(write(tmp_path, text))
