"""Each rule of the verdict contract, one test per sentence; times in ms from zero, D = 360 ms."""

from typing import Any, TypeVar

import pytest

from edge.gate.actions import (
    Action,
    Armed,
    ClearAlarm,
    Close,
    Disarmed,
    LineStop,
    Open,
    Quarantine,
    RaiseAlarm,
    Reinspect,
    SendAck,
)
from edge.gate.rules import Gate
from edge.gate.settings import GateSettings
from edge.wire.station import BEAT, BIRTH, STATE, STATUS
from edge.wire.verdict import CODEC
from tests.support.gate_messages import (
    BOOT,
    GATE,
    OTHER_BOOT,
    OTHER_MODEL,
    STATION,
    UTC_US,
    make_beat,
    make_birth,
    make_state,
    make_status,
    make_trigger,
    make_verdict,
)

A = TypeVar("A")
MS = 1_000_000
D_MS = 360.0


def settings(**changes: Any) -> GateSettings:
    usual: dict[str, Any] = {"gate_ms": 400.0, "lead_ms": 20.0, "margin_ms": 20.0, "commissioning_parts": 2}
    return GateSettings(STATION, GATE, **(usual | changes))


class World:
    """A gate, a clock in ms, and a station that beats whenever time passes."""

    def __init__(self, **changes: Any) -> None:
        self.gate = Gate(settings(**changes))
        self.ms = 0.0
        self.actions: list[Action] = []
        self.beats = 0
        self.beating = True
        self.utc_offset_ms = 0.0
        self.count = 0

    @property
    def ns(self) -> int:
        return round(self.ms * MS) + 10**12

    def keep(self, actions: list[Action]) -> list[Action]:
        self.actions += actions
        return actions

    def tick(self) -> list[Action]:
        return self.keep(self.gate.tick(self.ns, UTC_US + round((self.ms + self.utc_offset_ms) * 1000)))

    def beat(self, boot: str = BOOT, **changes: Any) -> list[Action]:
        self.beats += 1
        return self.keep(self.gate.beat(make_beat(self.beats, boot, **changes), self.ns))

    def birth(self, boot: str = BOOT, **changes: Any) -> list[Action]:
        return self.keep(self.gate.birth(make_birth(boot, **changes), self.ns))

    def to(self, ms: float) -> list[Action]:
        """Let time pass, with a tick every 10 ms and a beat every 100 ms."""
        before = len(self.actions)
        while self.ms < ms:
            self.ms = min(ms, self.ms + 10.0)
            if self.beating and round(self.ms) % 100 == 0:
                self.beat()
            self.tick()
        return self.actions[before:]

    def part(self, **changes: Any) -> int:
        self.count += 1
        self.keep(self.gate.trigger(make_trigger(self.count, self.ns, **changes), self.ns))
        return self.count

    def verdict(self, trig: int, verdict: str = "pass", *, mac_ok: bool = False, **changes: Any) -> list[Action]:
        return self.keep(self.gate.verdict(make_verdict(trig, verdict, **changes), self.ns, mac_ok=mac_ok))

    def judged(self, verdict: str = "pass", after_ms: float = 60.0, **changes: Any) -> list[Action]:
        """One part from trigger to decision."""
        start = self.ms
        count = self.part()
        self.to(start + after_ms)
        self.verdict(count, verdict, **changes)
        return self.to(start + D_MS)

    def arm(self) -> "World":
        self.birth()
        self.to(100)
        self.judged()
        self.judged()
        self.to(self.ms + 10)
        assert self.gate.armed
        self.actions.clear()
        return self


def only(actions: list[Action], kind: type[A]) -> A:
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1, actions
    return found[0]


def opened(actions: list[Action]) -> list[int]:
    return [action.count for action in actions if isinstance(action, Open)]


def acks(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.ack.decision, action.ack.why) for action in actions if isinstance(action, SendAck)]


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


# --- uncertain parts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def doubtful() -> World:
    return World(on_uncertain="reinspect").arm()


def test_an_uncertain_part_goes_to_reinspection_where_there_is_an_output_for_it(doubtful):
    actions = doubtful.judged("uncertain")
    assert only(actions, Reinspect) == Reinspect(doubtful.count)
    assert opened(actions) == []
    ack = only(actions, SendAck).ack
    assert (ack.decision, ack.why, ack.fired) == ("reinspect", "verdict", True)
    assert ack.id.endswith(f"/{doubtful.count}")
    assert doubtful.gate.counts["reinspected"] == 1


@pytest.mark.parametrize(
    ("order", "decision"),
    [
        (("uncertain", "pass"), "reinspect"),
        (("pass", "uncertain"), "reinspect"),
        (("uncertain", "uncertain"), "reinspect"),
        (("uncertain", "reject"), "reject"),
        (("reject", "uncertain"), "reject"),
        (("invalid", "uncertain"), "reject"),
        (("uncertain", "invalid", "uncertain"), "reject"),
    ],
)
def test_uncertain_beats_a_pass_and_is_beaten_by_reject_and_invalid(doubtful, order, decision):
    start = doubtful.ms
    count = doubtful.part()
    for seq, verdict in enumerate(order, start=100):
        doubtful.verdict(count, verdict, seq=seq)
    assert acks(doubtful.to(start + D_MS)) == [(decision, "verdict")]
    assert not opened(doubtful.actions)


def disarm(world: World) -> None:
    world.beat(armed=False)
    world.beating = False


def freeze(world: World) -> None:
    world.ms += D_MS - 75
    world.beat()


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (disarm, "disarmed"),
        (lambda world: world.birth(OTHER_BOOT), "disarmed"),
        (lambda world: world.birth(model=OTHER_MODEL), "disarmed"),
        (freeze, "verdict"),
        (lambda world: (world.birth(life_ms=50.0), world.birth(token="chk-2")), "verdict"),
    ],
)
def test_what_takes_back_a_pass_sends_an_uncertain_part_to_the_reject_bin(doubtful, happens, why):
    start = doubtful.ms
    count = doubtful.part()
    doubtful.to(start + 100)
    doubtful.verdict(count, "uncertain")
    happens(doubtful)
    assert acks(doubtful.to(max(doubtful.ms, start + D_MS) + 10)) == [("reject", why)]


def test_an_uncertain_without_a_living_self_check_is_rejected(doubtful):
    assert acks(doubtful.judged("uncertain", token="chk-0")) == [("reject", "verdict")]
    assert acks(doubtful.judged("uncertain", token="")) == [("reject", "verdict")]
