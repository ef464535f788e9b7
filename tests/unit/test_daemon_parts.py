"""The daemon's pure parts: queues, ledger, intake, frame check, state machine, figures, notify, boot id, clocks."""

import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.daemon.stages.figures import WINDOW, Figures, Rolling
from edge.daemon.stages.framecheck import FrameCheck
from edge.daemon.stages.intake import Intake
from edge.daemon.stages.ledger import KEPT_PICTURES, Answers, Ledger
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Shot, Ticket
from edge.daemon.stages.progress import Progress
from edge.daemon.state.phase import HANDOVER_NS, LEGAL, Phase, Station
from edge.queues import Backlog, Newest
from edge.system.boot import new_boot
from edge.system.clocksync import StepWatch, read_clock
from edge.system.notify import Notifier
from edge.wire.station import Check
from edge.wire.trigger import TRIGGER_SCHEMA, LineTrigger
from tests.support.bundles import good_frame
from tests.support.station import T0_NS, T0_US, HandClock, frame, ticket


def check(token="chk-1", at_us=T0_US):
    return Check(token, at_us, at_us + 1_000_000, 3)


# --- boot ---------------------------------------------------------------------------------------------------------------


def test_boot_is_a_ulid_that_sorts_by_time():
    # The example of the ULID specification: 01ARYZ6S41 is 1469918176385 ms.
    assert new_boot(1469918176385_000, 0) == "01ARYZ6S410000000000000000"
    assert new_boot(1469918176385_000, 2**80 - 1) == "01ARYZ6S41ZZZZZZZZZZZZZZZZ"
    assert new_boot(1_000_000) < new_boot(2_000_000)
    assert len({new_boot(5) for _ in range(100)}) == 100


# --- queues -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.lists(st.one_of(st.integers(0, 100), st.none()), max_size=60))
def test_newest_is_bounded_and_hands_back_what_it_displaces(depth, actions):
    queue = Newest[int](depth)
    model: list[int] = []
    displaced: list[int] = []
    for action in actions:
        if action is None:
            assert queue.get(0) == (model.pop(0) if model else None)
            continue
        gone = queue.put(action)
        model.append(action)
        if len(model) > depth:
            displaced.append(model.pop(0))
            assert gone == displaced[-1]
        else:
            assert gone is None
        assert len(queue) == len(model) <= depth


def test_closing_wakes_who_waits():
    queue = Newest[int](1)
    got = []
    waiting = threading.Thread(target=lambda: got.append(queue.get(30)))
    waiting.start()
    queue.close()
    waiting.join(5)
    assert got == [None]
    queue.put(1)
    assert queue.get(30) == 1


def test_backlog_waits_for_room_and_says_when_there_was_none():
    queue = Backlog[int](2)
    assert queue.put(1, 0)
    assert queue.put(2, 0)
    assert not queue.put(3, 0.01)
    waiting = threading.Thread(target=lambda: queue.put(4, 5))
    waiting.start()
    assert queue.take(1, 1) == [1]
    waiting.join(5)
    assert queue.take(10, 1) == [2, 4]
    assert queue.take(10, 0) == []


# --- ledger -------------------------------------------------------------------------------------------------------------


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


# --- intake -------------------------------------------------------------------------------------------------------------


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


# --- frame check --------------------------------------------------------------------------------------------------------


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


# --- state machine ------------------------------------------------------------------------------------------------------


def phase_of(station):
    return station.phase


def armed_station():
    clock = HandClock()
    station = Station(clock)
    station.warming()
    station.checked(check(), 60_000)
    return station, clock


def test_from_start_to_armed_and_back():
    station, _ = armed_station()
    assert phase_of(station) is Phase.RUNNING
    assert station.armed
    assert station.token() == "chk-1"
    station.raise_("broker", "warning", "gone", "start it")
    assert phase_of(station) is Phase.DEGRADED
    assert station.armed
    station.raise_("camera", "fault", "no frame", "cable")
    assert phase_of(station) is Phase.FAULT
    assert not station.armed
    assert station.token() == ""
    station.clear("camera")
    assert phase_of(station) is Phase.DEGRADED
    station.clear("broker")
    assert phase_of(station) is Phase.RUNNING
    station.stop()
    assert phase_of(station) is Phase.STOPPING
    station.raise_("camera", "fault", "no frame", "cable")
    assert phase_of(station) is Phase.STOPPING
    assert not station.armed


def test_a_self_check_runs_out_and_the_next_one_arms_again():
    station, clock = armed_station()
    clock.forward(59_999)
    station.tick()
    assert station.armed
    clock.forward(1)
    assert not station.armed, "without any tick: the clock alone decides"
    station.tick()
    assert phase_of(station) is Phase.FAULT
    assert "self-check has run out" in station.snapshot().reasons[0]
    station.checked(check("chk-2"), 60_000)
    assert phase_of(station) is Phase.RUNNING
    assert station.token() == "chk-2"


def test_a_new_token_goes_into_verdicts_only_after_the_gate_could_hear_of_it():
    station, clock = armed_station()
    clock.forward(30_000)
    station.checked(check("chk-2"), 60_000)
    assert station.snapshot().check.token == "chk-2"
    assert station.token() == "chk-1"
    clock.forward(HANDOVER_NS / NS_PER_MS)
    assert station.token() == "chk-2"


def test_revoked_means_no_token_at_all():
    station, _ = armed_station()
    station.revoke()
    assert not station.armed
    assert station.token() == ""
    assert station.check_left_ms() == 0.0
    assert station.snapshot().check is None


def test_listeners_hear_changes_only():
    clock = HandClock()
    station, heard = Station(clock), []
    station.listen(lambda snapshot: heard.append((snapshot.phase, len(snapshot.conditions))))
    station.warming()
    station.warming()
    station.raise_("a", "warning", "t", "r")
    station.raise_("a", "warning", "t again", "r")
    station.raise_("a", "fault", "worse", "r")
    station.clear("a")
    station.clear("a")
    station.checked(check(), 1000)
    assert heard == [(Phase.WARMING, 0), (Phase.WARMING, 1), (Phase.FAULT, 1), (Phase.WARMING, 0), (Phase.RUNNING, 0)]


def test_a_condition_that_comes_and_goes_is_logged_once_a_minute(caplog):
    station, clock = armed_station()
    caplog.clear()
    caplog.set_level("INFO")
    for _ in range(100):
        station.raise_("broker", "warning", "gone", "start it")
        station.clear("broker")
    assert len(caplog.records) == 4, [record.message for record in caplog.records]
    clock.forward(59_000)
    station.checked(check("chk-2"), 3_600_000)
    clock.forward(2_000)
    station.raise_("broker", "warning", "gone", "start it")
    assert [record.levelname for record in caplog.records[4:]].count("WARNING") == 1


def test_reasons_are_bounded():
    station, _ = armed_station()
    for number in range(20):
        station.raise_(f"c{number}", "warning", "x" * 500, "y" * 500)
    reasons = station.snapshot().reasons
    assert len(reasons) == 8
    assert max(map(len, reasons)) <= 240


class StationMachine(RuleBasedStateMachine):
    """Any events in any order: only legal changes, armed only where it is deserved."""

    def __init__(self):
        super().__init__()
        self.clock = HandClock()
        self.station = Station(self.clock)
        self.before = self.station.phase
        self.checked_until = 0
        self.rounds = 0
        self.stopped = False
        self.faults = set()

    @rule()
    def warm(self):
        if self.checked_until == 0:
            self.station.warming()

    @rule(valid_ms=st.integers(1, 5000))
    def pass_check(self, valid_ms):
        self.station.warming() if self.checked_until == 0 else None
        self.station.checked(check(), valid_ms)
        self.checked_until = self.clock.now_ns + valid_ms * NS_PER_MS
        self.faults.discard("check-expired")

    @rule(code=st.sampled_from(["a", "b"]), severity=st.sampled_from(["warning", "fault"]))
    def fail(self, code, severity):
        self.station.raise_(code, severity, "text", "remedy")
        (self.faults.add if severity == "fault" else self.faults.discard)(code)

    @rule(code=st.sampled_from(["a", "b"]))
    def mend(self, code):
        self.station.clear(code)
        self.faults.discard(code)

    @rule(ms=st.integers(0, 3000))
    def wait(self, ms):
        self.clock.forward(ms)
        self.station.tick()

    @precondition(lambda self: self.stopped or self.rounds > 10)
    @rule()
    def stop(self):
        self.station.stop()
        self.stopped = True

    @rule()
    def revoke(self):
        self.station.revoke()
        self.checked_until = min(self.checked_until, self.clock.now_ns)

    @invariant()
    def legal(self):
        self.rounds += 1
        phase = self.station.phase
        assert (phase is Phase.STOPPING) == self.stopped
        # One rule may change twice (warming and checked): the way there must be legal in at most two steps.
        steps = {self.before} | LEGAL[self.before] | {far for near in LEGAL[self.before] for far in LEGAL[near]}
        assert phase in steps
        self.before = phase

    @invariant()
    def armed_only_when_deserved(self):
        if self.station.armed:
            assert not self.faults
            assert not self.stopped
            assert self.clock.now_ns < self.checked_until
            assert self.station.token()
        else:
            assert self.station.token() == ""


TestStationMachine = StationMachine.TestCase
TestStationMachine.settings = settings(max_examples=40, deadline=None)


# --- progress, figures, clocks, notify ------------------------------------------------------------------------------------


def test_progress_tells_who_is_stuck():
    clock = HandClock()
    progress = Progress("engine", 100.0, clock)
    clock.forward(1000)
    assert progress.stuck_ms() == 0.0, "idle is not stuck"
    progress.begin()
    clock.forward(100)
    assert progress.stuck_ms() == 0.0
    clock.forward(1)
    assert progress.stuck_ms() == pytest.approx(101)
    progress.end()
    assert progress.stuck_ms() == 0.0
    progress.begin(1000)
    clock.forward(500)
    assert progress.stuck_ms() == 0.0


def test_rolling_percentiles_are_nearest_rank_over_a_bounded_window():
    rolling = Rolling()
    assert rolling.percentiles(50) is None
    for value in range(1, 101):
        rolling.add(float(value))
    assert rolling.percentiles(1, 50, 99, 100) == [1.0, 50.0, 99.0, 100.0]
    for _ in range(WINDOW):
        rolling.add(7.0)
    assert rolling.percentiles(0.1, 100) == [7.0, 7.0]


def test_figures_count_kinds_and_reasons():
    figures = Figures()
    figures.count("pass", [])
    figures.count("invalid", ["late"])
    figures.count("invalid", ["late"])
    assert figures.verdicts() == {"pass": 1, "invalid": 2}
    assert figures.invalid() == {"late": 2}


def test_a_step_of_the_wall_clock_is_seen_and_slewing_is_not():
    clock = HandClock()
    watch = StepWatch(clock)
    assert watch.look() == 0
    clock.forward(1000)
    clock.stepped_us += 500
    assert watch.look() == 0
    clock.stepped_us += 3_600_000_000
    assert watch.look() == 3_600_000_000
    assert watch.look() == 0


def test_the_kernel_is_asked_for_the_clock():
    state = read_clock()
    assert state.src in {"ntp", "free"}
    assert (state.unc_us is None) == (state.src == "free")


def test_notify_speaks_systemds_protocol(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        supervisor.settimeout(2)
        notifier = Notifier(path, 2_000_000)
        notifier.ready("RUNNING")
        assert supervisor.recv(100) == b"READY=1\nSTATUS=RUNNING"
        notifier.alive()
        assert supervisor.recv(100) == b"WATCHDOG=1"
        notifier.stopping()
        assert supervisor.recv(100) == b"STOPPING=1"
        notifier.close()
        notifier.alive()
    Notifier("", 0).ready("nobody listens")


def test_notify_takes_the_watchdog_of_this_process_only(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Notifier.from_environment().watchdog_s == 0
    monkeypatch.delenv("WATCHDOG_PID")
    assert Notifier.from_environment().watchdog_s == 2.0


def test_a_supervisor_that_is_gone_does_no_harm(tmp_path):
    notifier = Notifier(str(tmp_path / "gone"), 1)
    begin = time.monotonic()
    notifier.alive()
    assert time.monotonic() - begin < 1
    notifier.close()
