"""The closed loop: the station disarms while verdicts are still in time, and arms itself again."""

import random

from edge.daemon.phase import Station
from edge.daemon.slack import CONDITION, SlackWatch
from tests.support.station import HandClock


def conditions(station):
    return {one.code: one for one in station.snapshot().conditions}


def test_a_way_that_grows_slower_disarms_before_the_first_late_part():
    dice, station = random.Random(1), Station(HandClock())
    watch = SlackWatch(station)
    for part in range(2000):
        slack = 150.0 - 0.1 * part + dice.gauss(0.0, 8.0)
        watch.acked(slack)
        if CONDITION in conditions(station):
            break
        assert slack > 0, "a verdict was late before the station noticed"
    assert 800 < part < 1400
    assert conditions(station)[CONDITION].severity == "fault"


def test_a_steady_way_never_disarms():
    dice, station = random.Random(2), Station(HandClock())
    watch = SlackWatch(station)
    for _ in range(20_000):
        watch.acked(dice.gauss(100.0, 10.0))
    assert conditions(station) == {}


def test_it_arms_again_when_there_is_time():
    dice, station = random.Random(3), Station(HandClock())
    watch = SlackWatch(station)
    for mean in (100.0, 5.0, 100.0):
        for _ in range(300):
            watch.acked(dice.gauss(mean, 5.0))
        assert (CONDITION in conditions(station)) == (mean == 5.0)


def test_a_few_parts_say_nothing():
    station = Station(HandClock())
    watch = SlackWatch(station)
    for slack in (-50.0, 80.0, 3.0):
        watch.acked(slack)
    assert conditions(station) == {}
