"""Verdict to journal to broker: what is written when, and what is never sent live."""

import sqlite3
from dataclasses import replace

import pytest

from edge.config.masters import Master
from edge.daemon.stages.parts import NS_PER_MS
from edge.daemon.state.drift import DriftWatch
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.masters import MasterWatch
from edge.drift.monitor import DriftMonitor
from edge.journal.chain import verify_chain
from edge.journal.reader import Reader
from edge.journal.store import CHECKPOINT_PAGES, PAGE_BYTES
from edge.wire.verdict import GENESIS, decode_verdict, payload_hash, verify_mac
from tests.support.desk import BOOT, KEY, WHO, Desk, judgement, outcome


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.journal.close()


def noted(order, name, function):
    def call(*args, **options):
        order.append(name)
        return function(*args, **options)

    return call


def test_what_is_sent_is_what_is_on_the_disk(desk):
    order: list[str] = []
    desk.journal.append = noted(order, "disk", desk.journal.append)
    desk.line.publish = noted(order, "broker", desk.line.publish)
    desk.step(outcome(1), outcome(2), outcome(3, reason="lost"))
    assert order == ["disk", "broker", "broker", "broker"]
    assert [row.payload for row in desk.rows()] == [one.payload for one in desk.line.sent]
    assert [one.verdict for one in desk.sent()] == ["pass", "pass", "invalid"]
    assert [one.prev for one in desk.sent()] == [GENESIS, *(payload_hash(one.payload) for one in desk.line.sent[:2])]
    assert desk.figures.verdicts() == {"pass": 2, "invalid": 1}
    with Reader(desk.path) as reader:
        assert verify_chain(reader).rows == 3


def test_sealed_verdicts_verify(tmp_path):
    desk = Desk(tmp_path, replace(WHO, key=KEY))
    desk.step(outcome(1))
    assert verify_mac(desk.line.sent[0].payload, KEY)
    desk.journal.close()


def test_a_passed_deadline_is_never_published_live(desk):
    desk.step(outcome(1), after_ms=400.5)
    assert desk.line.sent == []
    (row,) = desk.rows()
    verdict = decode_verdict(row.payload)
    assert (verdict.verdict, verdict.reason) == ("invalid", ["late"])
    assert desk.unsent() == [1]
    assert desk.figures.late == 1


def test_a_deadline_that_passes_while_the_disk_writes_is_not_published_either(desk):
    append = desk.journal.append

    def slow(*args):
        desk.clock.forward(500)
        return append(*args)

    desk.journal.append = slow
    desk.step(outcome(1))
    assert decode_verdict(desk.rows()[0].payload).verdict == "pass"
    assert desk.line.sent == []
    assert desk.unsent() == [1]


def test_disconnected_means_journal_only(desk):
    desk.line.connected = False
    desk.step(outcome(1), outcome(2))
    assert desk.line.sent == []
    assert desk.unsent() == [1, 2]
    assert desk.publisher.settled_n == 2, "the back-fill may take them"


def test_confirmed_rows_leave_the_outbox_and_unconfirmed_ones_stay(desk):
    desk.step(outcome(1), outcome(2))
    assert desk.publisher.settled_n == 0
    desk.line.sent[0].done = True
    desk.rest()
    assert desk.unsent() == [2]
    assert desk.publisher.settled_n == 1
    desk.line.reconnects += 1
    desk.rest()
    assert desk.publisher.settled_n == 2, "what the old session held will never be confirmed: the back-fill's now"
    assert desk.unsent() == [2]


def test_a_broker_that_confirms_nothing_is_taken_for_gone(desk):
    desk.step(outcome(1))
    desk.clock.now_ns += 2_000 * NS_PER_MS
    late_ns = desk.clock.now_ns
    desk.publisher.step([outcome(2, at_ns=late_ns)])
    assert len(desk.line.sent) == 1
    assert [one.code for one in desk.station.snapshot().conditions] == ["broker-stalled"]
    desk.line.sent[0].done = True
    desk.publisher.step([outcome(3, at_ns=late_ns)])
    assert len(desk.line.sent) == 2
    assert desk.station.snapshot().conditions == ()


def test_one_lost_confirmation_does_not_silence_the_station_for_good(desk):
    began_ns = desk.clock.now_ns
    desk.step(outcome(1))
    for after_ms, renewals in ((2_000, 0), (4_500, 1), (6_000, 1), (9_500, 2)):
        at_ns = began_ns + after_ms * NS_PER_MS
        desk.clock.now_ns = at_ns
        desk.publisher.step([outcome(2, at_ns=at_ns)])
        assert len(desk.line.renewed) == renewals, after_ms
    desk.line.reconnects += 1
    desk.step(outcome(3, at_ns=desk.clock.now_ns))
    assert len(desk.line.sent) == 2, "on the new connection verdicts go out again"


def test_a_picture_that_comes_again_puts_the_part_before_it_in_quarantine(desk):
    escape = EscapeWatch(desk.station, "st2", BOOT, desk.clock)
    desk.publisher._escape = escape
    desk.step(outcome(1), outcome(2), outcome(3, reason="frozen"), outcome(4, reason="frozen"), outcome(5))
    (window,) = escape.found
    assert (window.cause, window.first, window.last, window.trig_first) == ("frozen", 2, 2, 1002)


def test_a_master_part_counts_for_itself_alone(desk):
    escape = EscapeWatch(desk.station, "st2", BOOT, desk.clock)
    desk.publisher._escape = escape
    desk.publisher.drift = DriftWatch(DriftMonitor(9, 0.005), desk.station, (WHO.model, WHO.limit))
    desk.publisher.masters = MasterWatch((Master.parse("M-GOOD=pass"),), desk.station, escape, desk.clock, 3.6e6, 0.0)
    assert not desk.station.armed
    desk.step(outcome(1, part_id="M-GOOD"))
    assert desk.sent()[0].reason == ["not-armed"], "it proves, and does not pass before it has proven"
    assert desk.station.armed
    desk.step(outcome(2))
    assert (desk.sent()[1].verdict, escape.newest, desk.publisher.drift._part) == ("pass", 2, 1)


def test_parts_of_the_model_before_do_not_reach_the_alarms_of_the_new_one(desk):
    """Their p-values are of another calibration, perhaps of another size: such a p is none of the new one's."""
    desk.publisher.drift = DriftWatch(DriftMonitor(100, 0.005), desk.station, ("other", "other"))
    desk.step(outcome(1))
    desk.publisher.drift = DriftWatch(DriftMonitor(9, 0.005), desk.station, (WHO.model, WHO.limit))
    desk.step(outcome(2))
    assert desk.publisher.drift._part == 1


def test_a_journal_that_cannot_be_written_disarms_and_still_answers(desk):
    desk.step(outcome(1))
    blocker = sqlite3.connect(desk.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    desk.step(outcome(2))
    assert not desk.station.armed
    assert [(one.verdict, one.reason) for one in desk.sent()[1:]] == [("invalid", ["journal"])]
    blocker.execute("ROLLBACK")
    blocker.close()
    desk.step(outcome(3))
    assert desk.sent()[2].reason == ["not-armed"], "written before the journal was known to be well"
    desk.step(outcome(4))
    assert desk.sent()[3].verdict == "pass"
    assert [row.seq for row in desk.rows()] == [1, 3, 4]
    with Reader(desk.path) as reader:
        assert verify_chain(reader).rows == 3


def test_scores_that_cannot_be_written_are_an_invalid_not_a_crash(desk, caplog):
    broken = replace(judgement(), raw=float("nan"))
    desk.step(outcome(1, judged=broken), outcome(2))
    assert [(one.verdict, one.score is None) for one in desk.sent()] == [("invalid", True), ("pass", False)]
    assert "cannot be written" in caplog.text


def test_the_page_sees_what_was_published(desk):
    desk.step(outcome(1), outcome(2, reason="frozen"))
    shown = desk.view.snapshot()
    assert [(part.seq, part.verdict, part.pic) for part in shown.parts] == [(1, "pass", True), (2, "invalid", True)]
    assert shown.parts[0].verdict_ms == pytest.approx(30.0)


def test_a_line_without_pauses_keeps_the_write_ahead_log_short(desk):
    """Nothing ever waits for the publisher, so it never rests."""
    for seq in range(1, 901):
        desk.step(outcome(seq))
    assert desk.path.with_name("j.db-wal").stat().st_size < (CHECKPOINT_PAGES + 100) * 4120
    assert len(desk.rows()) == 900


def test_verdicts_a_full_journal_lets_go_unsent_are_an_alarm(tmp_path):
    desk = Desk(tmp_path, connected=False)
    desk.journal._max_bytes = 64 * PAGE_BYTES
    seq = 1
    while not desk.publisher.lost:
        assert "journal-lost" not in codes(desk)
        desk.step(*(outcome(seq + i) for i in range(16)))
        seq += 16
        assert seq < 1000
    assert "journal-lost" in codes(desk)
    assert desk.station.armed
    desk.journal.close()


def test_a_full_journal_that_was_sent_is_no_alarm(tmp_path):
    desk = Desk(tmp_path)
    desk.journal._max_bytes = 64 * PAGE_BYTES
    for seq in range(1, 400, 16):
        desk.step(*(outcome(seq + i) for i in range(16)))
        for one in desk.line.sent:
            one.done = True
    assert desk.publisher.rows < 300
    assert (desk.publisher.lost, codes(desk)) == (0, [])
    desk.journal.close()


def codes(desk):
    return [condition.code for condition in desk.station.snapshot().conditions]
