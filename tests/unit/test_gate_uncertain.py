"""Uncertain parts: to re-inspection where there is an output for it, else rejected."""

import pytest

from edge.gate.actions import (
    Reinspect,
    SendAck,
)
from tests.support.gate_messages import (
    OTHER_BOOT,
    OTHER_MODEL,
)
from tests.support.gate_world import D_MS, World, acks, only, opened


@pytest.fixture
def world() -> World:
    return World().arm()


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
