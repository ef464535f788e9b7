"""Master parts: until each is judged rightly the station is not armed, and one judged wrongly names the parts since."""

import datetime

import numpy as np
import pytest

from edge.config.masters import Master, parse_shift
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.masters import MasterWatch, ShiftWatch
from edge.daemon.state.phase import Station
from edge.errors import ConfigError
from edge.judge import Judgement
from edge.wire.station import Check
from tests.support.station import T0_US, HandClock

BOOT = "01JD8Q7ZK3" + "0" * 16
HOUR_MS = 3_600_000.0
GOOD, DENT = "M-GOOD", "M-DENT"


def judgement(cal):
    return Judgement("pass" if cal <= 1 else "reject", cal, cal, 0.5, cal, cal, cal, None, (), np.zeros((1, 1), np.float32))


class Line:
    """A station with two masters: a good part, and a dent that must score 1.3 to 4 times the limit."""

    def __init__(self):
        self.clock = HandClock()
        self.station = Station(self.clock)
        self.escape = EscapeWatch(self.station, "st2", BOOT, self.clock)
        masters = (Master.parse(f"{GOOD}=pass"), Master.parse(f"{DENT}=reject@1.3-4.0"))
        self.watch = MasterWatch(masters, self.station, self.escape, self.clock, 8 * HOUR_MS, 15 * 60_000.0)
        self.station.warming()
        self.station.checked(Check("chk-1", 1, 2, 3), 100 * HOUR_MS)

    def codes(self):
        return {one.code for one in self.station.snapshot().conditions}

    def run_masters(self, seq=1):
        self.watch.judged(seq, GOOD, judgement(0.2))
        self.watch.judged(seq + 1, DENT, judgement(2.0))

    def parts(self, first, last):
        for seq in range(first, last + 1):
            self.escape.judged(seq, seq, passed=True)


def test_not_armed_until_every_master_was_judged_rightly():
    line = Line()
    assert (line.station.armed, line.codes()) == (False, {"master-due"})
    line.watch.judged(1, GOOD, judgement(0.2))
    assert not line.station.armed
    line.watch.judged(2, DENT, None)  # no picture of it: nothing is proven, nothing is wrong
    assert (line.station.armed, line.codes()) == (False, {"master-due"})
    line.watch.judged(3, DENT, judgement(2.0))
    assert (line.station.armed, line.codes()) == (True, set())


@pytest.mark.parametrize(
    ("part", "cal", "says"),
    [
        (DENT, 0.9, "expected reject, got pass at 0.90 of the limit"),
        (GOOD, 1.2, "expected pass, got reject"),
        (DENT, 1.1, "expected a score of 1.3 to 4 of the limit, got 1.10"),
        (DENT, 9.0, "got 9.00"),
    ],
)
def test_a_master_judged_wrongly_disarms_and_quarantines_the_parts_since_it_was_right(part, cal, says):
    line = Line()
    line.run_masters(seq=1)
    line.parts(3, 20)
    line.run_masters(seq=21)
    line.parts(23, 40)
    line.watch.judged(41, part, judgement(cal))
    assert not line.station.armed
    assert {"master", "master-due", "suspect-parts"} == line.codes()
    (text,) = [one.text for one in line.station.snapshot().conditions if one.code == "master"]
    assert says in text
    (window,) = line.escape.found
    assert (window.cause, window.first, window.last) == ("master", 23, 40)
    # Again wrong: the same parts are not named twice. Right again: armed again, the parts stay suspect.
    line.watch.judged(42, part, judgement(cal))
    assert len(line.escape.found) == 1
    line.run_masters(seq=43)
    assert (line.station.armed, line.codes()) == (True, {"suspect-parts"})


def test_a_proof_grows_old():
    line = Line()
    line.run_masters()
    line.clock.forward(8 * HOUR_MS - 1)
    line.watch.tick()
    assert line.station.armed
    line.clock.forward(2)
    line.watch.tick()
    assert (line.station.armed, line.codes()) == (False, {"master-due"})


def test_a_shift_gives_grace_and_a_camera_opened_again_none():
    line = Line()
    line.run_masters()
    line.watch.again(at_once=False)
    line.clock.forward(14 * 60_000)
    line.watch.tick()
    assert line.station.armed
    line.clock.forward(2 * 60_000)
    line.watch.tick()
    assert not line.station.armed
    line.run_masters()
    assert line.station.armed
    line.watch.again(at_once=True)
    assert not line.station.armed


def test_shifts_begin_once_each_over_midnight_and_over_a_clock_that_is_set():
    clock = HandClock()
    start = datetime.datetime.fromtimestamp(T0_US / 1e6, datetime.timezone.utc)
    shift = (60 * start.hour + start.minute + 30) % 1440
    shifts = ShiftWatch([shift, (shift + 720) % 1440], clock, datetime.timezone.utc)
    begun = []
    for minute in range(1, 2 * 1440):
        clock.forward(60_000)
        if shifts.begun():
            begun.append(minute)
    assert len(begun) == 4
    assert np.diff(begun).tolist() == [720, 720, 720]
    clock.stepped_us = -3_600_000_000
    assert not shifts.begun()
    clock.stepped_us = 13 * 3_600_000_000
    assert shifts.begun(), "a clock set forward over a shift's start begins it"
    assert not ShiftWatch([], clock).begun()


@pytest.mark.parametrize(
    "text", ["", "M", "M=maybe", "M=reject@3-2", "M=reject@0.1-0.9", "M=pass@1.1-2", "x" * 25 + "=pass", "a=b=pass"]
)
def test_masters_that_cannot_be_meant_are_refused(text):
    with pytest.raises(ConfigError, match=r"selfcheck\.masters"):
        Master.parse(text)


def test_shift_times_that_are_none_are_refused():
    assert parse_shift("06:30") == 390
    for text in ("6:30", "24:00", "06:60", "", "06:30 "):
        with pytest.raises(ConfigError, match=r"selfcheck\.shifts"):
            parse_shift(text)
