"""The shift register by encoder counts: 1 count/ms at top speed, D = 360 counts, the output acts in time up to 380.

The belt of these tests is the truth: wherever it stands, an `open` must find the part at its decision.
"""

import random
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.gate.actions import Action, Close, Disarmed, Open, SendAck
from edge.gate.config import load_config
from edge.gate.encoder import WRAP, Encoder, EncoderSettings
from edge.gate.rules import Gate
from edge.gate.settings import GateSettings
from edge.wire.trigger import ENCODER, ENCODER_SCHEMA, TRIGGER, EncoderCount, decode_line
from tests.support.gate_messages import GATE, STATION, UTC_US, make_beat, make_birth, make_trigger, make_verdict

MS = 1_000_000
ENCODER_SETTINGS = {
    "gate_counts": 400,
    "window_counts": 40,
    "max_counts_per_s": 1000.0,
    "lead_ms": 20.0,
    "margin_ms": 20.0,
    "back_counts": 3,
}


class Line:
    """A belt with an encoder, a gate, and a station that is always well."""

    def __init__(self, start: int = 5000, **changes: Any) -> None:
        encoder = EncoderSettings(**(ENCODER_SETTINGS | changes))
        self.gate = Gate(GateSettings(STATION, GATE, 10_000.0, commissioning_parts=2, encoder=encoder))
        self.ms = 1000
        self.belt = float(start)  # where it really is
        self.error = 0  # what the encoder adds to that
        self.speed = 1.0  # counts/ms
        self.telling = True
        self.beats = 0
        self.count = 0
        self.stood: dict[int, float] = {}  # where the belt was at each part's trigger
        self.actions: list[Action] = []
        self.opened: dict[int, float] = {}  # how far each part had come when it was let through
        self.gate.birth(make_birth(life_ms=10_000_000), self.ns)

    @property
    def ns(self) -> int:
        return self.ms * MS

    @property
    def enc(self) -> int:
        return (int(self.belt) + self.error) % WRAP or WRAP

    def keep(self, actions: list[Action]) -> None:
        self.actions += actions
        for action in actions:
            if isinstance(action, Open):
                self.opened[action.count] = self.belt - self.stood[action.count]

    def tell(self) -> None:
        self.keep(self.gate.count(EncoderCount(ENCODER_SCHEMA, self.ns // 1000, self.enc), self.ns))

    def move(self, ms: int) -> None:
        """The world goes on; the gate hears nothing."""
        for _ in range(ms):
            self.ms += 1
            self.belt += self.speed

    def to(self, ms: int) -> list[Action]:
        """Let time pass: a count and a tick every 4 ms, a beat every 100."""
        before = len(self.actions)
        end = self.ms + ms
        while self.ms < end:
            self.move(1)
            if self.ms % 100 == 0:
                self.beat()
            if self.ms % 4 == 0:
                if self.telling:
                    self.tell()
                self.tick()
        return self.actions[before:]

    def beat(self) -> None:
        self.beats += 1
        self.keep(self.gate.beat(make_beat(self.beats, left_ms=10_000_000), self.ns))

    def tick(self) -> None:
        self.keep(self.gate.tick(self.ns, UTC_US + self.ms * 1000))

    def part(self, enc: int | None = None) -> int:
        self.count += 1
        self.stood[self.count] = self.belt
        self.keep(self.gate.trigger(make_trigger(self.count, self.ns, enc=self.enc if enc is None else enc), self.ns))
        return self.count

    def verdict(self, count: int, verdict: str = "pass", **changes: Any) -> None:
        self.keep(self.gate.verdict(make_verdict(count, verdict, **({"valid_ms": 400.0} | changes)), self.ns))

    def good_part(self) -> int:
        count = self.part()
        self.to(40)
        self.verdict(count)
        return count

    def arm(self) -> "Line":
        for _ in range(12):
            self.to(120)
            if self.gate.armed:
                break
            self.good_part()
        assert self.gate.armed, self.reasons()
        self.to(400)
        self.actions.clear()
        return self

    def reasons(self) -> str:
        return " / ".join(reason for action in self.actions if isinstance(action, Disarmed) for reason in action.reasons)

    def acks(self) -> dict[int, tuple[str, str]]:
        return {a.ack.trig: (a.ack.decision, a.ack.why) for a in self.actions if isinstance(a, SendAck)}


@pytest.fixture
def line() -> Line:
    return Line().arm()


@pytest.mark.parametrize("speed", [1.0, 0.5, 0.1])
def test_a_part_is_decided_where_it_stands_whatever_the_speed(speed):
    line = Line().arm()
    line.speed = speed
    count = line.good_part()
    line.to(round(400 / speed))
    assert 360 <= line.opened[count] < 360 + 2 + 4 * speed


def test_a_belt_at_rest_opens_nothing_and_keeps_its_parts(line):
    count = line.good_part()
    line.to(200)
    line.speed = 0.0
    assert not [a for a in line.to(8000) if isinstance(a, Open | Close)]
    assert line.gate.armed
    line.speed = 1.0
    line.to(200)
    assert 360 <= line.opened[count] <= 366
    assert line.acks()[count] == ("pass", "verdict")


def test_a_verdict_must_come_within_its_own_validity_even_while_the_belt_rests(line):
    count = line.part()
    line.to(100)
    line.speed = 0.0
    line.to(500)
    line.verdict(count)  # valid for 400 ms
    line.speed = 1.0
    line.to(400)
    assert line.acks()[count] == ("reject", "late")


def test_a_part_that_rests_longer_than_gate_ms_is_rejected_for_good(line):
    count = line.good_part()
    line.speed = 0.0
    line.to(10_100)
    assert line.acks()[count] == ("reject", "late")
    line.speed = 1.0
    line.to(500)
    assert line.opened.get(count) is None


@pytest.mark.parametrize("after", [0, 150, 355])
def test_counts_wrap_at_32_bits(after):
    line = Line(start=WRAP - 3000).arm()
    line.belt = line.belt // 1
    line.to(WRAP - after - int(line.belt))
    count = line.good_part()
    line.to(400)
    assert line.gate.armed, line.reasons()
    assert 360 <= line.opened[count] <= 366


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (-20, "the count went back by"),
        (500, "the count went on by"),
        (WRAP // 2 + 7, "the count went back by"),
        (-5000, "went back"),
        (WRAP // 3, "went on by"),
    ],
)
def test_counts_that_cannot_be_disarm_and_reject_what_is_under_way(line, error, words):
    count = line.good_part()
    line.error += error
    line.to(5)
    assert words in line.reasons()
    assert line.acks()[count] == ("reject", "disarmed")
    line.to(300)
    assert not line.gate.armed, "trust needs a whole distance of counts that hold"
    line.to(120)
    assert line.gate.armed
    after = line.good_part()
    line.to(400)
    assert line.acks()[after] == ("pass", "verdict")


def test_a_belt_faster_than_it_may_be_disarms_before_the_lead_is_lost(line):
    count = line.good_part()
    line.speed = 1.3
    line.to(200)
    assert "encoder.max_counts_per_s" in line.reasons()
    assert line.acks()[count] == ("reject", "disarmed")


def test_silence_with_parts_under_way_disarms_and_without_parts_it_does_not(line):
    line.telling = False
    line.to(1000)
    assert line.gate.armed
    line.telling = True
    line.to(100)
    count = line.good_part()
    line.telling = False
    line.to(210)
    assert "no count for 2" in line.reasons()
    assert line.acks()[count] == ("reject", "disarmed")


def test_the_next_wake_is_the_silence_when_it_comes_first(line):
    line.part()
    assert line.gate.next_wake_ns() <= line.ns + 200 * MS


def test_a_counter_that_starts_anew_on_an_empty_belt_is_followed(line):
    line.error = -int(line.belt) + 1
    line.to(40)
    assert line.gate.armed, line.reasons()
    count = line.good_part()
    line.to(400)
    assert line.acks()[count] == ("pass", "verdict")


def test_parts_that_come_while_the_counter_stands_are_a_broken_encoder(line):
    frozen = line.enc
    for _ in range(3):
        line.part(enc=frozen)
        line.move(30)
        line.keep(line.gate.count(EncoderCount(ENCODER_SCHEMA, line.ns // 1000, frozen), line.ns))
        line.tick()
    assert "the belt has not moved" in line.reasons()
    assert set(line.acks().values()) == {("reject", "disarmed")}


def test_a_light_barrier_that_chatters_disarms_nothing(line):
    line.part()
    line.part()
    line.to(400)
    assert line.gate.armed


def test_a_trigger_without_a_count_is_no_place_on_the_belt(line):
    count = line.part(enc=0)
    line.to(8)
    assert "without a count" in line.reasons()
    assert line.acks()[count] == ("reject", "disarmed")


def test_a_belt_may_tremble(line):
    line.speed = 0.0
    line.part()
    for shift in (2, -1, 3, 0, 2):
        line.error = shift
        line.to(20)
    assert line.gate.armed, line.reasons()


def test_a_count_from_the_future_is_refused(line):
    line.keep(line.gate.count(EncoderCount(ENCODER_SCHEMA, line.ns // 1000 + 50_000, line.enc), line.ns))
    assert line.gate.counts["encoder-refused"] == 1
    line.to(100)
    assert line.gate.armed


def test_a_gate_that_was_frozen_past_the_window_does_not_open(line):
    count = line.good_part()
    line.to(316)
    for _ in range(10):  # the counts wait in the socket meanwhile
        line.move(4)
        line.tell()
    line.tick()
    assert count not in line.opened
    assert line.acks()[count] == ("reject", "late")


def test_an_old_count_is_not_where_the_belt_is_now(line):
    """The telegram that brings a part to its decision is read 40 ms late: by now the part may have gone by."""
    count = line.good_part()
    line.to(318)
    line.move(4)
    at, enc = line.ns // 1000, line.enc
    line.move(40)
    line.keep(line.gate.count(EncoderCount(ENCODER_SCHEMA, at, enc), line.ns))
    line.tick()
    assert count not in line.opened


def test_the_acks_slack_is_that_of_top_speed(line):
    line.part()
    line.speed = 0.1
    line.to(40)
    line.verdict(line.count)
    line.to(3700)
    ack = next(a.ack for a in line.actions if isinstance(a, SendAck) and a.ack.trig == line.count)
    assert ack.slack_ms == pytest.approx(320.0, abs=1.0)


# --- any order of events ------------------------------------------------------------------------------------------------


def drive(seed: int, steps: int = 60) -> Line:
    """A line on which everything may happen; each `open` must find its part within the window of the real belt."""
    dice = random.Random(seed)
    line = Line(start=dice.choice([5000, WRAP - 6000])).arm()
    for _ in range(steps):
        what = dice.random()
        if what < 0.5:
            count = line.part()
            line.to(dice.choice([12, 40]))
            line.verdict(count, dice.choice(["pass", "pass", "pass", "reject"]), valid_ms=dice.choice([400.0, 4000.0]))
        elif what < 0.65:
            line.speed = dice.choice([0.0, 0.05, 0.5, 1.0, 1.0])
        elif what < 0.72:  # frozen, counts wait in the socket
            for _ in range(dice.choice([3, 12, 30])):
                line.move(4)
                line.tell()
            line.beat()
            line.tick()
        elif what < 0.76:  # frozen, and so was the sender: its last count waits
            at, enc = line.ns // 1000, line.enc
            line.move(dice.choice([10, 30]))
            line.keep(line.gate.count(EncoderCount(ENCODER_SCHEMA, at, enc), line.ns))
            line.tick()
        elif what < 0.8:
            line.telling = not line.telling
        elif what < 0.84:
            line.error += dice.choice([-30, -2000, 100_000, WRAP // 2])
        elif what < 0.9 and line.speed == 0.0:
            line.belt -= dice.choice([1.0, 2.0, 60.0])
        line.to(dice.choice([20, 60, 200, 360]))
        if line.speed < 0.05 and dice.random() < 0.3:
            line.speed = 1.0
        for count, come in line.opened.items():
            assert 355 <= come < 380, f"part {count} let through after {come:.0f} counts (seed {seed})"
    return line


def test_whatever_happens_an_open_finds_its_part_in_the_window():
    assert drive_many(20) > 200, "a line on which nothing passes proves nothing"


def drive_many(lines: int) -> int:
    return sum(len(drive(seed).opened) for seed in range(lines))


MUTANTS = {
    "counts may go back and jump": ("_newer", lambda *_: ""),
    "silence is fine": ("watch", lambda self, _now, _parts: self.__dict__.pop("_nothing", False)),
    "the last count is where the belt is": ("ahead", lambda self, _now: self.position),
    "there is no window": ("reaches", lambda *_: True),
    "parts under way are kept after a doubt": ("_doubt", lambda *_: None),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_encoder_rule_is_caught(name, monkeypatch):
    monkeypatch.setattr(Encoder, *MUTANTS[name])
    with pytest.raises(AssertionError, match=r"let through after"):
        drive_many(200)


# --- the file and the wire ----------------------------------------------------------------------------------------------

FILE = '[station]\nsite = "p"\narea = "a"\nline = "l"\nstation = "s"\n[timing]\ngate_ms = 9000.0\n[encoder]\n'


def test_the_file_gives_the_distances(tmp_path):
    path = tmp_path / "gate.toml"
    path.write_text(FILE + "gate_counts = 400\nwindow_counts = 40\nmax_counts_per_s = 1000.0\n")
    settings = load_config(path).settings()
    assert settings.encoder is not None
    assert (settings.deadline_ms, settings.encoder.deadline_counts, settings.encoder.actuate_until_counts) == (360.0, 360, 380)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("gate_counts = 400\n", r"encoder\.max_counts_per_s: expected the belt's top speed"),
        ("gate_counts = 400\nmax_counts_per_s = 1000.0\nwindow_counts = 39\n", r"window_counts of at least 40 .* got 39"),
        ("gate_counts = 400\nmax_counts_per_s = 1000.0\nwindow_counts = 400\n", r"below gate_counts, 400, got 400"),
        ("gate_counts = 400\nmax_counts_per_s = 40.0\nwindow_counts = 40\n", r"gate_ms, the longest way .* at least 10000 ms"),
        ("gate_count = 400\n", r"unknown key encoder.gate_count: did you mean encoder.gate_counts\?"),
    ],
)
def test_distances_that_cannot_be_are_refused(tmp_path, keys, words):
    path = tmp_path / "gate.toml"
    path.write_text(FILE + keys)
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_counts_and_parts_share_a_wire():
    count, part = EncoderCount(ENCODER_SCHEMA, 7, 8), make_trigger(3, 5000, enc=9, part="onbelt.encoder/1")
    assert decode_line(ENCODER.encode(count)) == count
    assert decode_line(TRIGGER.encode(part)) == part
