"""After an outage: what the broker has not confirmed goes out as history, once."""

import pytest

from edge.daemon.stages.backfill import Backfill
from edge.journal.reader import Reader
from edge.wire.verdict import decode_verdict
from tests.support.desk import Desk, outcome
from tests.support.station import RecordingConnection


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.journal.close()


def test_an_outage_is_back_filled_as_history_oldest_first_once(desk):
    desk.line.connected = False
    desk.step(*[outcome(seq) for seq in range(1, 41)])
    rest = RecordingConnection(connected=False)
    fill = Backfill(desk.path, rest, "late", None, desk.publisher.acked, lambda: desk.publisher.settled_n)
    with Reader(desk.path) as reader:
        fill.step(reader)
        assert rest.sent == []
        rest.connected = True
        fill.step(reader)
        assert len(rest.sent) == 32
        fill.step(reader)
        assert len(rest.sent) == 32, "the next ones when these are confirmed"
        for one in rest.sent:
            one.done = True
        fill.step(reader)
        assert len(rest.sent) == 40
        for one in rest.sent:
            one.done = True
        fill.step(reader)
        desk.rest()
        fill.step(reader)
        assert desk.unsent() == []
    late = [decode_verdict(one.payload) for one in rest.sent]
    assert [one.seq for one in late] == list(range(1, 41))
    assert all(one.hist is True for one in late)
    assert desk.line.sent == []


def test_a_verdict_still_on_its_live_way_is_not_back_filled(desk):
    desk.step(outcome(1), outcome(2))
    rest = RecordingConnection()
    fill = Backfill(desk.path, rest, "late", None, desk.publisher.acked, lambda: desk.publisher.settled_n)
    with Reader(desk.path) as reader:
        fill.step(reader)
    assert rest.sent == []


def test_a_reconnect_sends_again_what_was_not_confirmed(desk):
    desk.line.connected = False
    desk.step(outcome(1))
    rest = RecordingConnection()
    fill = Backfill(desk.path, rest, "late", None, desk.publisher.acked, lambda: desk.publisher.settled_n)
    with Reader(desk.path) as reader:
        fill.step(reader)
        fill.step(reader)
        assert len(rest.sent) == 1
        rest.reconnects += 1
        fill.step(reader)
        assert len(rest.sent) == 2
