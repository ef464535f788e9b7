"""Triggers become tickets, and every ticket is answered once: ledger and intake."""

import threading

from edge.daemon.stages.intake import Intake
from edge.daemon.stages.ledger import KEPT_PICTURES, Answers, Ledger
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Shot, Ticket
from edge.queues import Backlog, Newest
from edge.wire.trigger import TRIGGER_SCHEMA, LineTrigger
from tests.support.station import HandClock, frame, ticket


def open_one(ledger):
    return ledger.open(lambda seq: ticket(seq))


def test_numbers_have_no_gaps_and_each_ticket_is_answered_once():
    ledger, outbox = Ledger(), Backlog[Outcome](1000)
    answers = Answers(ledger, outbox, HandClock())
    threads = [threading.Thread(target=lambda: [open_one(ledger) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tickets = ledger.all_open()
    assert sorted(one.seq for one in tickets) == list(range(1, 201))
    claims = []
    racing = [
        threading.Thread(target=lambda: claims.append(sum(answers.give(Outcome(one)) for one in tickets))) for _ in range(3)
    ]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert sum(claims) == 200
    assert len(outbox) == 200
    assert len(ledger) == 0


def test_overdue_parts_are_given_up_only_where_there_is_room():
    clock, ledger, outbox = HandClock(), Ledger(), Backlog[Outcome](1)
    answers = Answers(ledger, outbox, clock)
    first, second = open_one(ledger), open_one(ledger)
    assert ledger.next_give_up_ns() == first.give_up_ns
    assert ledger.overdue(first.give_up_ns - 1) == []
    assert ledger.overdue(first.give_up_ns) == [first, second]
    assert answers.give_up(first, "late")
    assert not answers.give_up(second, "late"), "no room: it stays open for the next round"
    assert ledger.is_open(second.seq)
    assert [one.reason for one in outbox.take(5, 0)] == ["late"]
    assert not answers.give(Outcome(first)), "a late judgement of a part given up is dropped"


def test_pictures_are_shed_when_the_journal_falls_behind():
    ledger, outbox = Ledger(), Backlog[Outcome](32)
    answers = Answers(ledger, outbox, HandClock())
    for number in range(10):
        answers.give(Outcome.of(Shot(open_one(ledger), frame(number)), "", 0))
    kept = [one.pixels is not None for one in outbox.take(32, 0)]
    assert kept == [True] * KEPT_PICTURES + [False] * (10 - KEPT_PICTURES)


class Line:
    """An intake with everything around it."""

    def __init__(self, *, shared=True, depth=2):
        self.clock = HandClock()
        self.ledger = Ledger()
        self.outbox = Backlog[Outcome](64)
        self.captures = Newest[Ticket](depth)
        self.intake = Intake(
            self.ledger,
            Answers(self.ledger, self.outbox, self.clock),
            self.captures,
            self.clock,
            valid_ms=400,
            give_up_ms=360,
            shared_clock=shared,
        )

    def trigger(self, count, age_ms=0.0, part=""):
        stamp = self.clock.now_ns - round(age_ms * NS_PER_MS)
        return self.intake.step(LineTrigger(TRIGGER_SCHEMA, count, stamp // 1000, 5, part))


def test_a_trigger_becomes_a_ticket_with_its_own_deadline():
    line = Line()
    made = line.trigger(1001, age_ms=10, part="SN1")
    assert (made.seq, made.trigger.count, made.trigger.part_id, made.trigger.encoder) == (1, 1001, "SN1", 5)
    assert made.trigger.mono_ns == line.clock.now_ns - 10 * NS_PER_MS
    assert made.deadline_ns == made.trigger.mono_ns + 400 * NS_PER_MS
    assert made.give_up_ns == made.trigger.mono_ns + 360 * NS_PER_MS
    assert made.trig_us == line.clock.utc_us() - 10_000
    assert line.captures.get(0) is made


def test_the_newest_part_wins_and_the_displaced_one_is_answered():
    line = Line(depth=1)
    line.trigger(1)
    line.clock.forward(5)
    line.trigger(2)
    assert [(one.ticket.seq, one.reason) for one in line.outbox.take(9, 0)] == [(1, "lost")]
    newest = line.captures.get(0)
    assert newest is not None
    assert newest.seq == 2
    assert line.intake.counts.displaced == 1


def test_a_trigger_that_comes_too_late_is_answered_at_once():
    line = Line()
    line.trigger(1, age_ms=361)
    assert [one.reason for one in line.outbox.take(9, 0)] == ["late"]
    assert line.captures.get(0) is None


def test_stamps_of_a_slow_clock_are_told_once(caplog):
    line = Line()
    for count in (1, 2, 3):
        line.trigger(count, age_ms=86_400_000)
    assert line.intake.counts.outdated == 3
    assert len([one for one in caplog.records if "part's time is up" in one.message]) == 1


def test_the_same_datagram_twice_is_one_part():
    line = Line()
    assert line.trigger(1) is not None
    assert line.trigger(1) is None
    line.clock.forward(50)
    again = line.trigger(1)
    assert again is not None
    assert again.seq == 2, "another stamp is another part: the line counts anew"
    assert line.intake.counts.repeated == 1
    assert line.intake.counts.restarts == 1


def test_skipped_numbers_are_counted():
    line = Line()
    line.trigger(1)
    line.clock.forward(50)
    line.trigger(5)
    assert line.intake.counts.missed == 3
    assert line.ledger.last_seq == 2, "our own numbers have no gap"


def test_a_stamp_of_another_clock_gains_no_time(caplog):
    line = Line()
    made = line.trigger(1, age_ms=-5000)
    assert made.trigger.mono_ns == line.clock.now_ns
    line.clock.forward(1)
    line.trigger(2, age_ms=-5000)
    assert line.intake.counts.foreign == 2
    assert len([one for one in caplog.records if "in the future" in one.message]) == 1


def test_arrival_counts_where_the_clock_is_not_shared():
    line = Line(shared=False)
    assert line.trigger(1, age_ms=9999).trigger.mono_ns == line.clock.now_ns
