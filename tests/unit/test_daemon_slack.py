"""The closed loop: the station disarms while verdicts are still in time, and arms itself again."""

import random

from edge.daemon.state.phase import Station
from edge.daemon.state.slack import CONDITION, NEAR, PAUSE_NS, SlackWatch
from tests.support.station import HandClock


def conditions(station):
    return {one.code: one for one in station.snapshot().conditions}


def test_a_way_that_grows_slower_disarms_before_the_first_late_part():
    dice, station = random.Random(1), Station(HandClock())
    watch = SlackWatch(station, HandClock())
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
    watch = SlackWatch(station, HandClock())
    for _ in range(20_000):
        watch.acked(dice.gauss(100.0, 10.0))
    assert conditions(station) == {}


def test_it_arms_again_when_there_is_time():
    dice, station = random.Random(3), Station(HandClock())
    watch = SlackWatch(station, HandClock())
    for mean in (100.0, 5.0, 100.0):
        for _ in range(300):
            watch.acked(dice.gauss(mean, 5.0))
        assert (CONDITION in conditions(station)) == (mean == 5.0)


def test_a_few_parts_say_nothing():
    station = Station(HandClock())
    watch = SlackWatch(station, HandClock())
    for slack in (-50.0, 80.0, 3.0):
        watch.acked(slack)
    assert conditions(station) == {}


def test_parts_that_a_frozen_broker_made_late_do_not_disarm():
    dice, station = random.Random(4), Station(HandClock())
    watch = SlackWatch(station, HandClock())
    for part in range(600):
        watch.acked(-400.0 if part % 200 in {150, 151, 152, 153} else dice.gauss(500.0, 8.0))
        assert conditions(station) == {}, part


def test_after_a_pause_the_way_is_judged_anew():
    dice, station, clock = random.Random(5), Station(HandClock()), HandClock()
    watch = SlackWatch(station, clock)
    for _ in range(100):
        watch.acked(dice.gauss(5.0, 5.0))
    assert CONDITION in conditions(station)
    clock.now_ns += PAUSE_NS + 1
    watch.acked(100.0)
    assert conditions(station) == {}
    for _ in range(100):
        watch.acked(dice.gauss(5.0, 5.0))
    assert CONDITION in conditions(station)


def test_it_warns_when_one_part_in_a_thousand_comes_near_the_deadline_and_stays_armed():
    dice, station = random.Random(5), Station(HandClock())
    watch = SlackWatch(station, HandClock())
    for part in range(6000):
        watch.acked(30.0 if part < 4000 and part % 200 == 0 else dice.gauss(300.0, 8.0))
    left = watch.look(400.0)
    assert left is not None
    assert left[1] == 30.0
    assert [one.severity for one in conditions(station).values()] == ["warning"]
    assert "30 ms before its deadline" in conditions(station)[NEAR].text
    for _ in range(5000):
        watch.acked(dice.gauss(300.0, 8.0))
    left = watch.look(400.0)
    assert left is not None
    assert left[1] > 250
    assert conditions(station) == {}


def test_a_few_acks_give_no_warning():
    station = Station(HandClock())
    watch = SlackWatch(station, HandClock())
    assert watch.look(400.0) is None
    for _ in range(20):
        watch.acked(5.0)
    assert watch.look(400.0) == [5.0, 5.0]
    assert conditions(station) == {}
