"""Waves over a fleet: who comes when, what counts as failed, where it stops; and the fleet as its retained topics tell it."""

import msgspec
import pytest

from edge.errors import ConfigError, ContractError
from edge.fleet.view import Fleet
from edge.fleet.waves import Plan, Rollout
from edge.wire import update
from edge.wire.station import BIRTH, STATE, STATUS, STATUS_SCHEMA, Status
from edge.wire.update import REPORTED, REPORTED_SCHEMA, Reported, ReportedModel
from tests.support.gate_messages import BOOT, OTHER_BOOT, make_birth, make_state

SERIAL = 77


def base(number):
    return f"onbelt/v1/plant1/hall2/line3/box{number:04d}"


def reported(version=1, **changes):
    plain = Reported(
        REPORTED_SCHEMA,
        "st2",
        1,
        "onbelt",
        "plant1",
        "tiny",
        "idle",
        ReportedModel(version, "0" * 64, "") if version else None,
        None,
        0,
        "follow",
        "stable",
        "",
        "",
        [],
    )
    return msgspec.structs.replace(plain, **changes)


class Boxes:
    """A fleet whose boxes do what a test says."""

    def __init__(self, count):
        self.fleet = Fleet()
        for number in range(count):
            self.say(base(number), "status", STATUS.encode(Status(STATUS_SCHEMA, "st2", BOOT, "online", "")))
            self.say(base(number), "state", STATE.encode(make_state(BOOT)))
            self.report(base(number))

    def say(self, where, suffix, payload):
        self.fleet.take(f"{where}/{suffix}", payload)

    def report(self, where, version=1, **changes):
        self.say(where, "update/reported", REPORTED.encode(reported(version, **changes)))

    def update(self, where):
        self.report(where, 2, serial=SERIAL)

    def refuse(self, where, reason="golden"):
        self.report(where, 1, serial=SERIAL, reason=reason, text="said so", refused=[f"2 {reason}"])


def rollout(boxes, canaries=(), **plan):
    wanted = Plan(2, SERIAL, **{"shares": (0.01, 0.1, 0.5, 1.0), "allowed": 0.1, "wave_s": 100.0, **plan})
    return Rollout(wanted, sorted(boxes.fleet.boxes), tuple(canaries))


def drive(boxes, one, answer, seconds=3000):
    """Let every box that is told answer at once; returns the last orders and how many were told."""
    told = 0
    for now in range(seconds):
        orders = one.look(boxes.fleet.boxes, float(now))
        for where in orders.tell:
            told += 1
            answer(where, told)
        if orders.ended:
            return orders, told
    raise AssertionError(one.summary())


def test_a_good_model_reaches_every_box_in_four_waves():
    boxes = Boxes(1000)
    one = rollout(boxes)
    assert [len(wave) for wave in one.waves] == [10, 90, 400, 500]
    orders, told = drive(boxes, one, lambda where, _: boxes.update(where))
    assert (orders.ok, told, one.done) == (True, 1000, 1000)
    assert orders.text == "wave 4 of 4, 1000 of 1000 boxes told: 1000 done, 0 failed; complete"


def test_five_in_a_hundred_faulty_boxes_do_not_stop_where_ten_are_allowed():
    boxes = Boxes(1000)
    one = rollout(boxes)
    orders, told = drive(boxes, one, lambda where, n: boxes.refuse(where) if n % 20 == 0 else boxes.update(where))
    assert (orders.ok, told, len(one.failed)) == (True, 1000, 50)


def test_a_bad_model_ends_with_the_canaries():
    boxes = Boxes(1000)
    one = rollout(boxes)
    orders, told = drive(boxes, one, lambda where, _: boxes.refuse(where))
    assert (orders.ok, told, one.wave) == (False, 10, 1)
    assert "stopped: too many failures" in orders.text


@pytest.mark.parametrize("every", [5, 3])
def test_a_model_bad_for_some_ends_early(every):
    boxes = Boxes(1000)
    orders, told = drive(boxes, rollout(boxes), lambda where, n: boxes.refuse(where) if n % every == 0 else boxes.update(where))
    assert not orders.ok
    assert told <= 100


def test_what_was_told_and_has_not_ended_is_paused():
    boxes = Boxes(100)
    one = rollout(boxes, shares=(0.5, 1.0))
    orders, told = drive(boxes, one, lambda where, n: boxes.refuse(where) if n <= 10 else None)
    assert (orders.ok, told) == (False, 50)
    assert len(orders.pause) == 40
    assert not set(orders.pause) & set(one.failed)


def test_one_canary_of_one_decides():
    boxes = Boxes(20)
    canary = base(7)
    one = rollout(boxes, [canary], shares=(0.01, 1.0))
    assert one.waves[0] == [canary]
    orders, told = drive(boxes, one, lambda where, _: boxes.refuse(where))
    assert (orders.ok, told) == (False, 1)
    assert one.failed == {canary: "golden: said so"}


def test_a_box_that_does_not_answer_has_failed_when_the_wave_is_over():
    boxes = Boxes(10)
    one = rollout(boxes, shares=(1.0,), allowed=0.3)
    silent = one.waves[0][3]
    orders, _ = drive(boxes, one, lambda where, _: None if where == silent else boxes.update(where))
    assert orders.ok
    assert one.failed == {silent: "has not obeyed yet; idle"}


def test_what_may_pass_is_waited_for():
    boxes = Boxes(10)
    one = rollout(boxes, shares=(1.0,))
    first = one.waves[0][0]
    for where in one.look(boxes.fleet.boxes, 0.0).tell:
        boxes.update(where)
    boxes.report(first, 1, serial=SERIAL, reason="disk-full", text="the disk is full")
    assert not one.look(boxes.fleet.boxes, 50.0).ended
    boxes.update(first)
    assert one.look(boxes.fleet.boxes, 60.0).ok


def test_a_box_that_falls_over_in_the_soak_counts():
    boxes = Boxes(20)
    one = rollout(boxes, shares=(0.05, 1.0), soak_s=30.0, allowed=0.1)
    (first,) = one.look(boxes.fleet.boxes, 0.0).tell
    boxes.update(first)
    assert one.look(boxes.fleet.boxes, 1.0).tell == ()
    boxes.say(first, "status", STATUS.encode(Status(STATUS_SCHEMA, "st2", BOOT, "offline", "connection lost")))
    orders = one.look(boxes.fleet.boxes, 40.0)
    assert (orders.ended, orders.ok) == (True, False)
    assert one.failed == {first: "it has the version and is offline"}


def test_an_update_of_long_ago_is_not_taken_for_an_answer():
    """A box refused this version once; it counts only when it refuses it for this rollout."""
    boxes = Boxes(4)
    one = rollout(boxes, shares=(1.0,))
    for where in one.look(boxes.fleet.boxes, 0.0).tell:
        boxes.report(where, 1, serial=3, reason="golden", refused=["2 golden"])
    assert not one.look(boxes.fleet.boxes, 1.0).ended
    assert one.failed == {}


def test_the_command_given_again_goes_on():
    boxes = Boxes(100)
    for number in range(60):
        boxes.report(base(number), 2, serial=SERIAL - 1)
    one = rollout(boxes)
    orders, told = drive(boxes, one, lambda where, _: boxes.update(where))
    assert (orders.ok, told, one.done) == (True, 100, 100)


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.1, 1.0), (1.0, 1.0), (0.0, 1.0), (0.5, 2.0)])
def test_waves_that_make_no_sense_are_refused(shares):
    with pytest.raises(ConfigError, match="waves"):
        Plan(2, SERIAL, shares)


def test_an_unknown_canary_is_refused():
    with pytest.raises(ConfigError, match="no such box"):
        rollout(Boxes(2), ["onbelt/v1/plant1/hall2/line3/nobody"])


# --- the view -----------------------------------------------------------------------------------------------------------------


def test_a_box_is_what_it_says():
    boxes = Boxes(1)
    boxes.say(base(0), "birth", BIRTH.encode(make_birth(BOOT)))
    box = boxes.fleet.boxes[base(0)]
    assert (box.online, box.armed, box.version, box.where) == (True, True, 1, "plant1/hall2/line3/box0000")
    offline = STATUS.encode(Status(STATUS_SCHEMA, "st2", OTHER_BOOT, "offline", "connection lost"))
    boxes.say(base(0), "status", offline)
    assert box.online  # the will of an earlier start came late


def test_messages_that_are_not_as_agreed_change_nothing():
    boxes = Boxes(1)
    before = msgspec.json.encode(boxes.fleet.boxes[base(0)].reported)
    for payload in (b"{", b"x" * 9000, b"\xff", b'{"sch":"onbelt.update-reported/9"}'):
        boxes.say(base(0), "update/reported", payload)
    for topic in ("onbelt/v1/a", "other/v1/a/b/c/d/state", "onbelt/v1/a/b/c/d/e/state"):
        boxes.fleet.take(topic, b"{}")
    assert boxes.fleet.refused == 4
    assert msgspec.json.encode(boxes.fleet.boxes[base(0)].reported) == before
    assert len(boxes.fleet.boxes) == 1


def test_a_station_taken_down_is_gone():
    boxes = Boxes(2)
    for suffix in ("status", "state", "update/reported"):
        boxes.say(base(0), suffix, b"")
    assert list(boxes.fleet.boxes) == [base(1)]


def test_one_site_only():
    fleet = Fleet(site="plant9")
    fleet.take(f"{base(0)}/update/reported", REPORTED.encode(reported()))
    assert fleet.boxes == {}
    assert all(one.startswith("onbelt/v1/plant9/+/+/+/") for one in fleet.filters)


def test_reports_of_older_boxes_are_read():
    """A fleet is never renewed all at once. What a newer box writes is refused whole, as ever."""
    plain = msgspec.to_builtins(reported())
    del plain["challenge"]
    old = {**plain, "sch": update.REPORTED_1}
    assert update.REPORTED.decode(msgspec.json.encode(old)).challenge == ""
    with pytest.raises(ContractError, match=r"challenge came with onbelt\.update-reported/2"):
        update.REPORTED.decode(msgspec.json.encode({**old, "challenge": ""}))
    with pytest.raises(ContractError, match="expected schema"):
        update.REPORTED.decode(msgspec.json.encode({**plain, "sch": "onbelt.update-reported/3"}))
    with pytest.raises(ContractError, match="expected schema"):
        update.REPORTED.encode(msgspec.structs.replace(reported(), sch=update.REPORTED_1))
