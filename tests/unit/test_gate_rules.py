"""The rules of the verdict contract about one part (1 to 5 and 8), one test per sentence; times in ms from zero, D = 360 ms."""

from typing import Any

import pytest

from edge.gate.actions import (
    Close,
    Disarmed,
    LineStop,
    Open,
    Quarantine,
    RaiseAlarm,
    SendAck,
)
from edge.wire.station import BEAT, BIRTH, STATE, STATUS
from edge.wire.verdict import CODEC
from tests.support.gate_messages import (
    BOOT,
    OTHER_BOOT,
    OTHER_MODEL,
    STATION,
    make_beat,
    make_birth,
    make_state,
    make_status,
    make_trigger,
    make_verdict,
)
from tests.support.gate_world import D_MS, MS, World, acks, only, opened, settings


@pytest.fixture
def world() -> World:
    return World().arm()


# --- rule 1 and 4: slots, default reject, decision at D -------------------------------------------------------------------


def test_a_pass_in_time_opens_for_that_part_at_the_deadline(world):
    start = world.ms
    count = world.part()
    world.to(start + 60)
    world.verdict(count)
    assert opened(world.to(start + D_MS - 10)) == []
    actions = world.to(start + D_MS)
    assert opened(actions) == [count]
    ack = only(actions, SendAck).ack
    assert (ack.decision, ack.why, ack.fired, ack.trig, ack.slack_ms) == ("pass", "verdict", True, count, 300.0)
    assert ack.id == f"{STATION}/{BOOT}/{count}"


def test_a_part_without_a_verdict_is_rejected(world):
    count = world.part()
    actions = world.to(world.ms + D_MS)
    assert only(actions, Close) == Close(count)
    assert acks(actions) == [("reject", "missing")]
    assert only(actions, SendAck).ack.slack_ms is None


def test_hold_keeps_the_part_and_stops_the_line():
    world = World(on_missing="hold").arm()
    count = world.part()
    actions = world.to(world.ms + D_MS)
    assert only(actions, Close) == Close(count, hold=True)
    assert acks(actions) == [("hold", "missing")]
    assert only(actions, LineStop).on


@pytest.mark.parametrize("verdict", ["reject", "invalid", "uncertain"])
def test_nothing_but_pass_opens(world, verdict):
    assert acks(world.judged(verdict)) == [("reject", "verdict")]


def test_each_part_gets_its_own_verdict(world):
    start = world.ms
    first = world.part()
    world.to(start + 100)
    second = world.part()
    world.verdict(second)
    actions = world.to(start + 100 + D_MS)
    assert opened(actions) == [second]
    assert [(a.ack.trig, a.ack.why) for a in actions if isinstance(a, SendAck)] == [(first, "missing"), (second, "verdict")]


def test_a_decision_that_comes_too_late_to_act_does_not_open(world):
    """The process was frozen between verdict and D: opening now would let the next part through."""
    count = world.part()
    world.verdict(count)
    world.ms += D_MS + 25
    actions = [*world.beat(), *world.tick()]
    assert opened(actions) == []
    assert acks(actions) == [("reject", "late")]
    assert world.gate.max_late_ns == 25 * MS


def test_a_trigger_read_late_gains_no_time(world):
    """The deadline runs from the line's stamp, not from when the gate got round to reading it."""
    stamp = world.ns
    world.to(world.ms + 300)
    world.keep(world.gate.trigger(make_trigger(3, stamp), world.ns))
    world.to(world.ms + 70)
    world.verdict(3)
    assert opened(world.to(world.ms + 400)) == []


def test_a_trigger_from_the_future_gets_no_slot(world):
    world.keep(world.gate.trigger(make_trigger(3, world.ns + 50 * MS), world.ns))
    world.verdict(3)
    assert opened(world.to(world.ms + 500)) == []
    assert world.gate.counts["trigger-refused"] == 1


def test_a_repeated_trigger_datagram_changes_nothing(world):
    trigger = make_trigger(3, world.ns)
    world.keep(world.gate.trigger(trigger, world.ns))
    world.to(world.ms + 20)
    world.keep(world.gate.trigger(trigger, world.ns))
    assert world.gate.counts["trigger-duplicate"] == 1
    assert len(acks(world.to(world.ms + 500))) == 1


def test_lost_triggers_are_counted(world):
    world.count += 2
    world.part()
    assert world.gate.counts["trigger-lost"] == 2


def test_one_part_more_than_the_register_holds_gets_no_slot():
    world = World(max_slots=3).arm()
    counts = [world.part() for _ in range(4)]
    assert only(world.actions, RaiseAlarm).code == "gate-g1-overflow"
    for count in counts:
        world.verdict(count)
    assert opened(world.to(world.ms + D_MS)) == counts[:3]


def test_a_line_that_counts_from_the_beginning_disarms_until_the_station_starts_anew(world):
    old = world.part()
    world.verdict(old)
    world.count = 0
    new = world.part()
    assert "went back" in only(world.actions, Disarmed).reasons[0]
    assert acks(world.actions) == [("reject", "disarmed")]
    world.verdict(new)
    assert opened(world.to(world.ms + 500)) == []
    world.birth(OTHER_BOOT)
    world.beats = 0
    world.beat(OTHER_BOOT)
    count = world.part()
    world.verdict(count, boot=OTHER_BOOT)
    for _ in range(40):
        world.ms += 10
        world.beat(OTHER_BOOT)
        world.tick()
    assert opened(world.actions) == [count]


# --- rule 2: what is ignored ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"boot": OTHER_BOOT}, "stale-boot"),
        ({"model": OTHER_MODEL}, "wrong-model"),
        ({"limit": "sha256:" + "00" * 16}, "wrong-model"),
        ({"recipe": "bottle@8"}, "wrong-model"),
        ({"token": "chk-0"}, "no-token"),
        ({"token": ""}, "no-token"),
        ({"valid_ms": 50.0}, "late"),
        ({"station": "st3"}, "missing"),
        ({"gate": "g2"}, "missing"),
        ({"hist": True}, "missing"),
    ],
)
def test_a_verdict_that_does_not_fit_is_ignored_and_the_ack_says_why(world, changes, why):
    assert acks(world.judged(**changes)) == [("reject", why)]


def test_a_verdict_of_another_encoder_position_is_of_another_part(world):
    start = world.ms
    count = world.part(enc=1000)
    world.verdict(count, enc=900)
    assert acks(world.to(start + D_MS)) == [("reject", "missing")]
    assert world.gate.counts["unknown-part"] == 1


def test_a_verdict_with_another_serial_number_is_of_another_part(world):
    start = world.ms
    count = world.part(part="SN-1")
    world.verdict(count, part="SN-2")
    assert acks(world.to(start + D_MS)) == [("reject", "missing")]
    start = world.ms
    count = world.part(part="SN-3")
    world.verdict(count, part="SN-3")
    assert opened(world.to(start + D_MS)) == [count]


def test_a_verdict_without_a_slot_waits_for_nobody(world):
    world.verdict(3)
    assert world.gate.counts["unknown-part"] == 1
    world.part()
    assert opened(world.to(world.ms + D_MS)) == []


@pytest.mark.parametrize(("mac_ok", "expected"), [(True, ("pass", "verdict")), (False, ("reject", "bad-mac"))])
def test_where_a_key_is_set_the_mac_must_hold(mac_ok, expected):
    world = World(sealed=True)
    world.birth()
    world.to(100)
    world.judged(mac_ok=True)
    world.judged(mac_ok=True)
    assert acks(world.judged(mac_ok=mac_ok)) == [expected]


def test_the_self_check_may_die_between_verdict_and_deadline(world):
    start = world.ms
    count = world.part()
    world.verdict(count)
    world.to(start + 100)
    world.beating = False
    world.beat(left_ms=50.0)
    actions = world.to(start + D_MS)
    assert opened(actions) == []
    assert "self-check" in only(actions, Disarmed).reasons[0]


def test_an_old_token_that_still_lives_is_accepted_after_a_renewal(world):
    count = world.part()
    world.birth(token="chk-2")
    world.verdict(count)
    assert opened(world.to(world.ms + D_MS)) == [count]


def test_a_beat_that_overtakes_the_birth_closes_the_gate_for_one_beat_only():
    """Two connections: the beat from before the self-check may come after the birth that carries its token."""
    world = World()
    world.beating = False
    world.birth(token="none")
    world.beat(armed=False, left_ms=0.0)
    world.birth()
    world.beat(armed=False, left_ms=0.0)
    assert not world.gate.armed
    world.ms += 100
    world.beat()
    assert "commissioning" in only(world.tick()[-2:] or world.actions[-2:], Disarmed).reasons[0]


def test_a_beat_cannot_lengthen_the_life_that_the_birth_stated(world):
    world.beating = False
    world.birth(life_ms=50.0)
    for _ in range(10):
        world.ms += 10
        world.beat(left_ms=60_000.0)
        world.tick()
    assert not world.gate.armed


def test_a_renewed_token_lives_no_longer_than_its_last_beat_said(world):
    world.beating = False
    world.beat(left_ms=100.0)
    start = world.ms
    count = world.part()
    world.verdict(count)
    world.birth(token="chk-2")
    for _ in range(36):
        world.ms += 10
        world.beat()
        world.tick()
    assert world.gate.armed
    assert acks(world.actions) == [("reject", "no-token")]
    assert world.ms == start + D_MS


def test_an_announced_restart_takes_back_the_permits_of_the_old_boot(world):
    count = world.part()
    world.verdict(count)
    world.birth(OTHER_BOOT)
    world.beats = 0
    for _ in range(36):
        world.ms += 10
        world.beat(OTHER_BOOT)
        world.tick()
    assert world.gate.armed
    assert acks(world.actions) == [("reject", "stale-boot")]


def test_a_new_model_takes_back_the_permits_of_the_old_one_and_is_commissioned_anew(world):
    count = world.part()
    world.verdict(count)
    world.birth(model=OTHER_MODEL)
    assert not world.gate.armed
    assert acks(world.to(world.ms + D_MS)) == [("reject", "disarmed")]


# --- rule 3: sticky, duplicate, late ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("reject", "pass"), ("pass", "reject"), ("invalid", "pass"), ("pass", "invalid")])
def test_reject_and_invalid_beat_any_pass_before_or_after(world, order):
    start = world.ms
    count = world.part()
    for seq, verdict in enumerate(order, start=100):
        world.verdict(count, verdict, seq=seq)
    actions = world.to(start + D_MS)
    assert acks(actions) == [("reject", "verdict")]
    assert only(actions, SendAck).ack.id.endswith(str(100 + [v != "pass" for v in order].index(True)))


def test_a_second_pass_with_the_same_id_is_a_duplicate(world):
    count = world.part()
    world.verdict(count)
    world.verdict(count)
    assert world.gate.counts["duplicate"] == 1
    assert opened(world.to(world.ms + D_MS)) == [count]
    world.verdict(count)
    assert world.gate.counts["duplicate"] == 2
    assert opened(world.to(world.ms + D_MS)) == []


def test_a_pass_for_a_decided_slot_is_late_and_only_counted(world):
    count = world.part()
    world.to(world.ms + D_MS)
    assert world.verdict(count) == []
    assert world.gate.counts["late"] == 1


# --- rule 5: after the fact --------------------------------------------------------------------------------------------------


def test_a_reject_after_the_part_has_passed_quarantines_it_and_moves_nothing(world):
    world.judged()
    actions = world.verdict(world.count, "reject", seq=900)
    assert only(actions, Quarantine).first == only(actions, Quarantine).last == world.count
    assert only(actions, RaiseAlarm).code == "gate-g1-quarantine"
    assert not [action for action in actions if isinstance(action, Open | Close)]


def test_a_reject_after_an_ejection_needs_no_quarantine(world):
    count = world.part()
    world.to(world.ms + D_MS)
    assert world.verdict(count, "reject") == []


# --- rule 8: acks, and the rest ----------------------------------------------------------------------------------------------


def test_every_part_is_acked_exactly_once(world):
    start = world.ms
    for n in range(20):
        count = world.part()
        if n % 3:
            world.verdict(count, ("pass", "reject")[n % 2])
        world.to(start + 90 * (n + 1))
    world.to(world.ms + 500)
    trigs = [a.ack.trig for a in world.actions if isinstance(a, SendAck)]
    assert trigs == list(range(3, 23))


def test_a_malformed_message_is_counted(world):
    world.gate.malformed()
    assert world.gate.counts["malformed"] == 1


def test_messages_of_another_station_are_not_ours(world):
    world.keep(world.gate.birth(make_birth(OTHER_BOOT, station="st9"), world.ns))
    assert world.gate.armed


def test_the_next_wake_is_the_next_decision(world):
    world.part()
    assert world.gate.next_wake_ns() is not None
    assert world.gate.next_wake_ns() <= world.ns + D_MS * MS


def test_impossible_times_are_refused():
    with pytest.raises(ValueError, match="gate_ms > lead_ms"):
        settings(gate_ms=30.0)


def test_the_messages_of_these_tests_are_valid_on_the_wire():
    pairs: list[tuple[Any, Any]] = [
        (BIRTH, make_birth()),
        (BEAT, make_beat(1)),
        (STATE, make_state()),
        (STATE, make_state(armed=False, token="none")),
        (STATUS, make_status("offline")),
        (CODEC, make_verdict(1)),
        (CODEC, make_verdict(1, "invalid")),
        (CODEC, make_verdict(1, model=OTHER_MODEL, boot=OTHER_BOOT)),
    ]
    for codec, message in pairs:
        assert codec.decode(codec.encode(message)) == message
