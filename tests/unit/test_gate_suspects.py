"""Suspect parts outlive the gate that let them through, and its notice never wipes out the station's."""

import pytest

from edge.errors import ContractError
from edge.gate.suspects import Heard, SuspectParts
from edge.wire.quarantine import MAX_RANGES, QUARANTINE_CODEC, SuspectRange
from edge.wire.suspects import MAX_GATE_RANGES, SUSPECTS, SUSPECTS_SCHEMA, SuspectNotice


def gate(*parts, name="g1"):
    made = SuspectParts("st2", name)
    for part in parts:
        made.add(part, part, "reject came after the part had passed")
    return made


def by_station(ranges, station="st2"):
    return SUSPECTS.encode(SuspectNotice(SUSPECTS_SCHEMA, station, [], {"g1": ranges}, 0, 1))


def test_a_gate_that_starts_again_takes_over_what_it_said_before():
    before, again = gate(7, 8), gate()
    assert again.hear(before.notice(1)) is Heard.COVERED
    assert again.ranges == before.ranges
    again.add(31, 31, "x")
    assert [one.first for one in QUARANTINE_CODEC.decode(again.notice(1)).ranges] == [7, 8, 31]


def test_it_takes_its_ranges_from_the_stations_notice_as_well():
    again = gate()
    assert again.hear(by_station(gate(7).ranges)) is Heard.COVERED
    assert [one.first for one in again.ranges] == [7]


def test_what_the_broker_lacks_is_said_again():
    """Found while there was no connection: what an earlier start said stands before it."""
    mine = gate(31)
    assert mine.hear(gate(7).notice(1)) is Heard.LACKING
    assert [one.first for one in mine.ranges] == [7, 31]
    assert mine.hear(by_station(mine.ranges[:1])) is Heard.LACKING
    assert mine.hear(mine.notice(2)) is Heard.COVERED


def test_the_station_holds_only_the_newest_and_that_is_enough():
    mine = gate(*range(MAX_GATE_RANGES + 5))
    assert mine.hear(by_station(mine.ranges[-MAX_GATE_RANGES:])) is Heard.COVERED


def test_others_are_none_of_its_business():
    mine = gate(7)
    assert mine.hear(gate(9, name="g2").notice(1)) is Heard.NOTHING
    assert mine.hear(by_station([SuspectRange(9, 9, "x")], "st9")) is Heard.NOTHING
    with pytest.raises(ContractError):
        mine.hear(b"{}")
    assert [one.first for one in mine.ranges] == [7]


def test_an_empty_message_ends_it():
    mine = gate(7)
    assert mine.hear(b"") is Heard.ENDED
    assert mine.ranges == []


def test_it_is_bounded_and_says_how_many_are_gone():
    mine = gate(*range(MAX_RANGES + 3))
    notice = QUARANTINE_CODEC.decode(mine.notice(1))
    assert (len(notice.ranges), notice.ranges[0].first, notice.dropped) == (MAX_RANGES, 3, 3)
