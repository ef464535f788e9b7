"""Two parts so close together that one state of the output holds for both: what must stay out never meets an open one."""

import random

import pytest

from edge.errors import ConfigError
from edge.gate.actions import ClearAlarm, Open, RaiseAlarm, Reinspect
from edge.gate.config import load_config
from edge.gate.encoder import EncoderSettings
from edge.wire.trigger import ENCODER_SCHEMA, EncoderCount
from tests.support.gate_messages import make_trigger
from tests.support.gate_world import D_MS, World, acks, opened, settings
from tests.unit.test_gate_config import EXAMPLE, SMALL, write

WINDOW_MS = 40.0  # lead_ms + margin_ms: so long before its part the output opens
PASSING_MS = 20.0  # from a part's arrival at the rejector until it has gone
OPEN_MS = WINDOW_MS + PASSING_MS
GATE_MS = 400.0


@pytest.fixture
def world() -> World:
    world = World(min_pitch_ms=OPEN_MS).arm()
    world.to(world.ms + 500)
    return world


def pair(world: World, apart_ms: float, first: str, second: str) -> list[int]:
    """Two parts, each with its verdict; which of them were let through, 1 and 2."""
    start, before = world.ms, world.count
    for verdict, at_ms in ((first, start), (second, start + apart_ms)):
        world.ms = at_ms
        count = world.part()
        if verdict:
            world.verdict(count, verdict)
    return [count - before for count in opened(world.to(start + apart_ms + D_MS + 100))]


@pytest.mark.parametrize("first", ["reject", "invalid", "uncertain", ""])
def test_a_good_part_close_behind_one_that_stays_out_stays_out(world, first):
    assert pair(world, 33.0, first, "pass") == []
    assert acks(world.actions)[-1] == ("reject", "late")
    assert world.gate.counts["too-close"] == 1
    alarm = next(a for a in world.actions if isinstance(a, RaiseAlarm) and a.code == "gate-g1-pitch")
    assert "sooner than 60 ms" in alarm.text


def test_far_enough_apart_it_goes_through(world):
    assert pair(world, OPEN_MS, "reject", "pass") == [2]
    assert not world.gate.counts["too-close"]


def test_good_parts_go_through_however_close(world):
    assert pair(world, 5.0, "pass", "pass") == [1, 2]


def test_a_bad_part_close_behind_a_good_one_closes_for_itself(world):
    assert pair(world, 33.0, "pass", "reject") == [1]


def test_what_stays_out_for_its_neighbour_makes_the_next_stay_out(world):
    """The third is far enough from the bad one, not from the second, which is acked as rejected and so must not go through."""
    start, before = world.ms, world.count
    for number, verdict in enumerate(("reject", "pass", "pass")):
        world.ms = start + number * 35.0
        world.verdict(world.part(), verdict)
    assert opened(world.to(start + 900)) == []
    world.verdict(world.part())
    assert opened(world.to(world.ms + 400)) == [before + 4], "a gap ends it"


def test_a_part_whose_trigger_was_lost_keeps_both_its_neighbours_out(world):
    """Nothing closes the output before it: it has no decision of its own."""
    start = world.ms
    world.verdict(world.part())
    world.count += 1
    world.ms = start + 80.0
    world.verdict(world.part())
    assert opened(world.to(start + 900)) == []
    assert world.gate.counts["trigger-lost"] == 1
    assert world.gate.counts["too-close"] == 2


def test_a_part_without_a_slot_keeps_those_beside_it_out():
    world = World(min_pitch_ms=OPEN_MS, max_slots=2).arm()
    world.to(world.ms + 500)
    start, first = world.ms, world.count + 1
    for number in range(4):  # 3 and 4 find the register full
        world.ms = start + 30.0 * number
        world.verdict(world.part())
    assert opened(world.to(start + 900)) == [first], "90 ms before the first of those without a slot"
    assert world.gate.counts["overflow"] == 2


def test_a_gate_that_has_just_started_does_not_know_what_stands_before_its_first_part():
    world = World(min_pitch_ms=OPEN_MS, commissioning_parts=1)
    world.birth()
    world.to(100)
    assert opened(world.judged()) == []
    assert opened(world.judged()) == [2]


def test_what_goes_to_a_person_stays_out_of_the_rejects_and_the_rejects_out_of_it():
    for first, then in (("reject", []), ("uncertain", [1, 2]), ("pass", [2])):
        world = World(min_pitch_ms=OPEN_MS, on_uncertain="reinspect").arm()
        world.to(world.ms + 500)
        before = world.count
        pair(world, 33.0, first, "uncertain")
        assert [a.count - before for a in world.actions if isinstance(a, Reinspect)] == then
    world = World(min_pitch_ms=OPEN_MS, on_uncertain="reinspect").arm()
    world.to(world.ms + 500)
    assert pair(world, 33.0, "uncertain", "pass") == [], "it would go through with it"


def test_the_alarm_is_said_once_and_ends_a_minute_after_the_last(world):
    for _ in range(3):
        pair(world, 33.0, "reject", "pass")
    assert len([a for a in world.actions if isinstance(a, RaiseAlarm)]) == 1
    world.to(world.ms + 59_000)
    assert not [a for a in world.actions if isinstance(a, ClearAlarm)]
    world.to(world.ms + 2_000)
    assert [a.code for a in world.actions if isinstance(a, ClearAlarm)] == ["gate-g1-pitch"]


def escapes(world: "Watched", seed: int) -> list[int]:
    """Parts at random pitches before a valve without delay, wired as a pin: which went through that had not been let through?"""
    rng = random.Random(seed)
    at, arrivals = world.ms + 200.0, {}
    for _ in range(40):
        pitch = rng.choice([7.0, 23.0, 33.0, 45.0, 61.0, 130.0])
        at += pitch
        world.to(at)
        if rng.random() < 0.05:  # this one's trigger is lost
            world.count += 1
            arrivals[world.count] = at - rng.random() * pitch + GATE_MS
        count = world.part()
        arrivals[count] = at + GATE_MS
        if verdict := rng.choice(["pass", "pass", "reject", ""]):
            world.verdict(count, verdict)
    world.to(at + 1000.0)
    # The pin as `edge.gate.pins` drives it: until the next decision, and for so long at most.
    ends = [when for when, _, _ in world.decided[1:]] + [at + 1000.0]
    spans = [(when, min(end, when + OPEN_MS)) for (when, _, let), end in zip(world.decided, ends, strict=True) if let]
    let_through = {count for _, count, let in world.decided if let}
    return [
        count
        for count, arrival in arrivals.items()
        if count not in let_through and any(begin < arrival + PASSING_MS and arrival < end for begin, end in spans)
    ]


class Watched(World):
    """Notes when each part was decided."""

    def __init__(self, **changes) -> None:
        self.decided: list[tuple[float, int, bool]] = []
        super().__init__(**changes)

    def keep(self, actions):
        self.decided += [(self.ms, a.count, isinstance(a, Open)) for a in actions if hasattr(a, "count")]
        return super().keep(actions)


def watched(**changes) -> Watched:
    world = Watched(**changes)
    world.arm()
    return world


def test_nothing_that_stays_out_meets_an_open_output_whatever_comes_at_whatever_pitch():
    found = [escapes(watched(min_pitch_ms=OPEN_MS), seed) for seed in range(60)]
    assert found == [[]] * 60
    unasked = [escapes(watched(), seed) for seed in range(60)]
    assert sum(map(bool, unasked)) > 40, "the model of the valve shows what is kept out"


def test_by_counts_the_distance_is_one_of_the_belt():
    """Half a metre a second, 1000 counts a metre: 60 ms are 30 counts; the window has 40, and the belt may tremble by 8."""
    encoder = EncoderSettings(200, 40, 500.0, 20.0, 20.0)
    asked = settings(encoder=encoder, min_pitch_ms=OPEN_MS)
    assert asked.min_pitch_counts == 48
    assert settings(encoder=encoder).min_pitch_counts == 0
    assert settings(encoder=encoder, min_pitch_ms=200.0).min_pitch_counts == 108
    for apart, goes in ((47, False), (48, True)):
        world = World(encoder=encoder, min_pitch_ms=OPEN_MS, gate_ms=60_000.0, commissioning_parts=1)
        world.birth()
        world.beat()
        counts = 1000

        def on(to: int, world=world) -> None:
            nonlocal counts
            while counts < to:
                counts += 1
                world.ms += 10.0  # a fifth of its top speed: close in counts, far in time
                if round(world.ms) % 100 == 0:
                    world.beat()
                world.gate.count(EncoderCount(ENCODER_SCHEMA, world.ns // 1000, counts), world.ns)
                world.tick()

        for verdict, at in (("pass", 1010), ("reject", 1300), ("pass", 1300 + apart)):
            on(at)
            world.count += 1
            world.keep(world.gate.trigger(make_trigger(world.count, world.ns, enc=counts), world.ns))
            world.verdict(world.count, verdict, enc=counts)
        on(1700)
        assert (3 in opened(world.actions)) == goes


GPIO = SMALL + '[line]\nkind = "gpio"\ntrigger_pin = 1\noutput_pin = 2\nwatchdog_pin = 3\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMALL, 0.0),
        (SMALL + "min_pitch_ms = 45\n", 45.0),
        (GPIO, 60.0),
        (GPIO + "open_ms = 25\n", 40.0),
        (GPIO.replace("gate_ms = 300", "gate_ms = 300\nmin_pitch_ms = 41"), 41.0),
    ],
)
def test_pins_ask_for_a_pitch_and_datagrams_which_name_their_part_do_not(tmp_path, text, expected):
    assert load_config(write(tmp_path, text)).settings().min_pitch_ms == expected


def test_a_pitch_shorter_than_the_output_opens_ahead_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\[timing\]: expected min_pitch_ms of at least lead_ms \+ margin_ms, 40, got 39"):
        load_config(write(tmp_path, GPIO.replace("gate_ms = 300", "gate_ms = 300\nmin_pitch_ms = 39")))


def test_the_shipped_gates_on_pins_ask_for_a_pitch():
    assert load_config(EXAMPLE.parent / "gate-gpio.toml").settings().min_pitch_ms == 80.0
    assert load_config(EXAMPLE.parent / "gate-encoder.toml").settings().min_pitch_counts == 83
