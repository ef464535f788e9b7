"""A wrong golden score puts exactly the parts since the last passed self-check in doubt, and says how many may be bad."""

from edge.daemon.escape import CONDITION, EscapeWatch
from edge.daemon.phase import Station
from edge.wire.station import Check
from tests.support.station import HandClock


def make() -> tuple[Station, EscapeWatch]:
    station = Station(HandClock())
    watch = EscapeWatch(station)
    station.listen(watch.on_change)
    station.warming()
    return station, watch


def check(station: Station, name: str) -> None:
    station.checked(Check(name, 1, 2, 3), 1000.0)


def suspects(station: Station) -> list[str]:
    return [one.text for one in station.snapshot().conditions if one.code == CONDITION]


def test_parts_since_the_last_token_are_suspect_and_those_before_are_not():
    station, watch = make()
    check(station, "chk-1")
    for seq in range(1, 51):
        watch.judged(seq, passed=seq % 10 != 0)
    check(station, "chk-2")
    for seq in range(51, 61):
        watch.judged(seq, passed=True)
    station.revoke()
    station.raise_("golden", "fault", "golden frame good-1: wrong", "run onbelt check")
    (window,) = watch.found
    assert (window.first, window.last, window.passed, window.known_parts) == (51, 60, 10, 50)
    (text,) = suspects(station)
    assert "parts 51-60 are suspect" in text
    # It stands while the station recovers, and the next window is named beside it.
    station.clear("golden")
    check(station, "chk-3")
    watch.judged(70, passed=True)
    station.raise_("golden", "fault", "again", "run onbelt check")
    (text,) = suspects(station)
    assert "parts 51-60, 70-70 are suspect" in text


def test_a_failure_with_no_part_since_the_proof_says_nothing():
    station, watch = make()
    check(station, "chk-1")
    station.raise_("golden", "fault", "wrong", "run onbelt check")
    assert watch.found == []
    assert suspects(station) == []


def test_other_conditions_cast_no_doubt():
    station, watch = make()
    check(station, "chk-1")
    watch.judged(1, passed=True)
    for code in ("camera", "broker", "drift-creep-up", "slow"):
        station.raise_(code, "warning", "x", "y")
    assert watch.found == []
