"""The rules of the verdict contract about the gate as a whole (6, 7), its commissioning and its clock; times in ms, D = 360."""

import pytest

from edge.gate.actions import (
    Armed,
    ClearAlarm,
    Disarmed,
    LineStop,
    RaiseAlarm,
)
from tests.support.gate_messages import (
    OTHER_BOOT,
    OTHER_MODEL,
    make_beat,
    make_state,
    make_status,
)
from tests.support.gate_world import D_MS, World, acks, only


@pytest.fixture
def world() -> World:
    return World().arm()


# --- rule 6: arming and disarming --------------------------------------------------------------------------------------------


def test_a_gate_that_knows_no_station_is_disarmed_and_says_so():
    world = World()
    assert "no birth" in only(world.tick(), Disarmed).reasons[0]
    world.part()
    assert acks(world.to(D_MS)) == [("reject", "disarmed")]


def test_three_missed_beats_disarm_and_the_next_one_arms_again(world):
    world.to(world.ms + 100 - world.ms % 100)
    world.beating = False
    assert not [a for a in world.to(world.ms + 340) if isinstance(a, Disarmed)]
    actions = world.to(world.ms + 10)
    assert "3 beats missed" in only(actions, Disarmed).reasons[0]
    assert only(actions, RaiseAlarm).code == "gate-g1-disarmed"
    actions = world.beat()
    assert isinstance(only(actions, Armed), Armed)
    assert only(actions, ClearAlarm).code == "gate-g1-disarmed"


def test_missed_beats_reject_a_part_with_a_pass_in_hand(world):
    world.to(world.ms + 100 - world.ms % 100)
    world.beating = False
    start = world.ms
    count = world.part()
    world.to(start + 60)
    world.verdict(count)
    assert acks(world.to(start + D_MS)) == [("reject", "disarmed")]


def test_an_old_beat_is_no_sign_of_life(world):
    world.beating = False
    for _ in range(50):
        world.ms += 10
        world.keep(world.gate.beat(make_beat(1), world.ns))
        world.tick()
    assert not world.gate.armed


@pytest.mark.parametrize("how", ["beat", "state"])
def test_armed_false_disarms_with_the_stations_reason(world, how):
    if how == "beat":
        actions = world.beat(armed=False)
    else:
        actions = world.keep(world.gate.state(make_state(armed=False, reasons=["camera c1 is frozen"]), world.ns))
        assert "camera c1 is frozen" in only(actions, Disarmed).reasons[0]
    assert not world.gate.armed
    assert only(actions, Disarmed)


def test_a_state_of_another_boot_says_nothing(world):
    world.keep(world.gate.state(make_state(OTHER_BOOT, armed=False), world.ns))
    assert world.gate.armed


def test_a_last_will_explains_but_decides_nothing(world):
    world.keep(world.gate.status(make_status("offline"), world.ns))
    assert world.gate.armed
    world.beating = False
    assert "it reports offline: test" in only(world.to(world.ms + 400), Disarmed).reasons[0]


def test_without_a_self_check_the_gate_does_not_arm():
    world = World()
    world.birth(token="none")
    world.to(100)
    world.judged()
    world.judged()
    assert not world.gate.armed


def test_a_station_that_serves_another_gate_does_not_arm_this_one():
    world = World()
    world.birth(gates=["g7"])
    assert "g7" in world.to(100)[-2].reasons[0]


def test_a_pinned_model_must_be_the_one_that_runs():
    world = World(model=OTHER_MODEL)
    world.birth()
    actions = world.to(100)
    assert [a for a in actions if isinstance(a, Disarmed) and OTHER_MODEL in a.reasons[0]]
    world.judged()
    assert not world.gate.armed


def test_the_alarm_is_not_repeated_while_only_figures_change():
    world = World()
    world.birth()
    world.to(100)
    world.actions.clear()
    world.judged("reject")
    assert len([a for a in world.actions if isinstance(a, Disarmed)]) <= 1


# --- commissioning -----------------------------------------------------------------------------------------------------------


def test_the_gate_arms_after_so_many_parts_in_time():
    world = World(commissioning_parts=3)
    world.birth()
    world.to(100)
    for _ in range(2):
        assert acks(world.judged()) == [("reject", "disarmed")]
        assert not world.gate.armed
    assert acks(world.judged()) == [("pass", "verdict")]
    assert only(world.actions, Armed).p999_ms == 60.0


def test_a_station_too_slow_for_the_line_is_never_armed():
    world = World()
    world.birth()
    world.to(100)
    for _ in range(6):
        world.judged(after_ms=350.0, unc_us=3000)
    assert not world.gate.armed
    assert [a for a in world.actions if isinstance(a, Disarmed) and "p99.9 350.0 ms + 4 x 3.00 ms" in a.reasons[0]]


def test_a_part_without_verdict_puts_the_commissioning_off():
    world = World()
    world.birth()
    world.to(100)
    world.judged()
    world.part()
    world.to(world.ms + D_MS)
    world.judged()
    assert not world.gate.armed
    world.judged()
    world.to(world.ms + 10)
    assert world.gate.armed


def test_the_same_model_after_a_restart_needs_no_new_commissioning(world):
    world.birth(OTHER_BOOT)
    world.beats = 0
    world.beat(OTHER_BOOT)
    assert world.gate.armed


# --- clock -------------------------------------------------------------------------------------------------------------------


def test_a_clock_step_disarms_until_the_next_self_check(world):
    world.utc_offset_ms = 51.0
    assert "jumped by +51 ms" in only(world.to(world.ms + 10), Disarmed).reasons[0]
    world.to(world.ms + 1000)
    assert not world.gate.armed
    world.birth()
    assert not world.gate.armed
    world.birth(token="chk-2")
    world.to(world.ms + 100)
    assert world.gate.armed


def test_slewing_is_no_step(world):
    for _ in range(400):
        world.utc_offset_ms += 0.5
        world.to(world.ms + 10)
    assert world.gate.armed


# --- rule 7: line stop -------------------------------------------------------------------------------------------------------


def test_three_missing_in_a_row_request_a_line_stop_and_recovery_takes_it_back(world):
    for _ in range(2):
        world.part()
        assert not [a for a in world.to(world.ms + D_MS) if isinstance(a, LineStop)]
    world.part()
    actions = world.to(world.ms + D_MS)
    assert only(actions, LineStop).on
    assert world.gate.stopping
    actions = world.to(world.ms + 1100)
    assert not only(actions, LineStop).on
    assert "gate-g1-line-stop" in [a.code for a in actions if isinstance(a, ClearAlarm)]


def test_a_verdict_in_between_starts_the_count_anew(world):
    for _ in range(4):
        world.part()
        world.to(world.ms + D_MS)
        world.judged("reject")
    assert not world.gate.stopping


def test_rare_parts_request_a_line_stop_after_two_seconds():
    world = World(missing_stop=100).arm()
    world.part()
    assert not [a for a in world.to(world.ms + 1900) if isinstance(a, LineStop)]
    world.part()
    assert only(world.to(world.ms + D_MS), LineStop).on


def test_a_disarmed_station_stops_the_line_after_two_seconds_of_parts():
    world = World(stop_retry_s=0.0).arm()
    world.keep(world.gate.state(make_state(armed=False), world.ns))
    for _ in range(30):
        world.verdict(world.part(), "invalid")
        world.to(world.ms + 100)
    assert world.gate.stopping
    world.to(world.ms + 5000)
    assert world.gate.stopping
    world.keep(world.gate.state(make_state(), world.ns))
    world.to(world.ms + 1100)
    assert not world.gate.stopping


def test_a_line_stop_is_lifted_for_a_trial_and_comes_back_with_the_first_part_if_nothing_has_changed(world):
    """A station whose camera failed may need a part to find itself well; without a trial both would wait for ever."""
    world.keep(world.gate.state(make_state(armed=False), world.ns))
    for _ in range(30):
        world.verdict(world.part(), "invalid")
        world.to(world.ms + 100)
    assert world.gate.stopping
    world.to(world.ms + 5100)
    assert not world.gate.stopping
    world.part()
    world.to(world.ms + 10)
    assert world.gate.stopping
    world.to(world.ms + 5500)
    assert not world.gate.stopping
    world.keep(world.gate.state(make_state(), world.ns))
    assert acks(world.judged()) == [("pass", "verdict")]
    assert not world.gate.stopping


def test_commissioning_alone_never_stops_the_line():
    world = World(commissioning_parts=50)
    world.birth()
    world.to(100)
    for _ in range(12):
        world.judged("reject")
    assert not world.gate.stopping


def test_the_alarm_of_too_many_parts_goes_with_them():
    world = World(max_slots=4).arm()
    for _ in range(5):
        world.part()
    assert [a.code for a in world.actions if isinstance(a, RaiseAlarm)] == ["gate-g1-overflow"]
    assert [a.code for a in world.to(world.ms + D_MS + 10) if isinstance(a, ClearAlarm)] == ["gate-g1-overflow"]
