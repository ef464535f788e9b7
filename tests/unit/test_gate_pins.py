"""The gate on pins: normally rejecting, one opening per part, a watchdog that flips, and parts passed on with their numbers."""

import socket
import sys
import types
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.gate.config import load_config
from edge.gate.pins import Pins, PinSettings
from edge.wire.trigger import TRIGGER
from tests.support.station import HandClock

TRIGGER_PIN, OUTPUT, WATCHDOG, STOP = 4, 17, 27, 22


class FakeRequest:
    """gpiod.LineRequest as documented: what was set, in order."""

    fd = 0

    def __init__(self):
        self.events: deque[Any] = deque()
        self.levels = {}
        self.log = []
        self.released = False

    def wait_edge_events(self, timeout=None):
        assert timeout.total_seconds() == 0, "the loop must not wait here"
        return bool(self.events)

    def read_edge_events(self, max_events=None):
        batch, self.events = list(self.events), deque()
        return batch

    def set_value(self, line, value):
        self.levels[line] = value
        self.log.append((line, value))

    def release(self):
        self.released = True


@pytest.fixture
def chip(monkeypatch):
    request = FakeRequest()
    asked = {}
    line: Any = types.ModuleType("gpiod.line")
    line.Direction = SimpleNamespace(INPUT="input", OUTPUT="output")
    line.Edge = SimpleNamespace(RISING="rising", FALLING="falling")
    line.Value = SimpleNamespace(ACTIVE=1, INACTIVE=0)
    module: Any = types.ModuleType("gpiod")
    module.line = line
    module.LineSettings = lambda **given: given

    def request_lines(path, consumer=None, config=None, event_buffer_size=None):
        if path != "/dev/gpiochip0":
            raise PermissionError(13, "Permission denied")
        asked.update(config)
        return request

    module.request_lines = request_lines
    monkeypatch.setitem(sys.modules, "gpiod", module)
    monkeypatch.setitem(sys.modules, "gpiod.line", line)
    return SimpleNamespace(request=request, asked=asked)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def pins():
    """Makes gates' wires, and closes them."""
    made = []

    def make(clock, **given):
        made.append(Pins(PinSettings("/dev/gpiochip0", TRIGGER_PIN, OUTPUT, WATCHDOG, STOP, **given), clock))
        return made[-1]

    yield make
    for wires in made:
        wires.close()


def test_it_starts_closed_and_ends_closed(chip, clock, pins):
    with pins(clock) as wires:
        assert chip.asked[OUTPUT] == {"direction": "output", "output_value": 0}
        wires.drive(1, opened=True, stop=False)
    assert chip.request.levels[OUTPUT] == 0
    assert chip.request.released
    wires.close()


def test_open_ends_by_itself_or_with_the_next_part(chip, clock, pins):
    wires = pins(clock, open_ms=50.0)
    wires.drive(1, opened=True, stop=False)
    wires.kick(stop=False)
    assert chip.request.levels[OUTPUT] == 1
    clock.forward(51)
    wires.kick(stop=False)
    assert chip.request.levels[OUTPUT] == 0
    wires.drive(2, opened=True, stop=False)
    wires.drive(3, opened=False, stop=False)
    assert chip.request.levels[OUTPUT] == 0


def test_a_part_goes_to_reinspection_by_its_own_pin_and_never_through(chip, clock, pins):
    wires = pins(clock, open_ms=50.0, reinspect=9)
    assert chip.asked[9] == {"direction": "output", "output_value": 0}
    wires.drive(1, opened=True, stop=False)
    wires.drive(2, opened=False, stop=False, reinspect=True)
    assert (chip.request.levels[OUTPUT], chip.request.levels[9]) == (0, 1)
    wires.drive(3, opened=True, stop=False)
    assert (chip.request.levels[OUTPUT], chip.request.levels[9]) == (1, 0)
    wires.drive(4, opened=False, stop=False, reinspect=True)
    clock.forward(51)
    wires.kick(stop=False)
    assert (chip.request.levels[OUTPUT], chip.request.levels[9]) == (0, 0)
    wires.drive(5, opened=False, stop=False, reinspect=True)
    wires.close()
    assert chip.request.levels[9] == 0


def test_the_watchdog_flips_with_every_turn_and_the_stop_follows(chip, clock, pins):
    wires = pins(clock)
    for stop in (False, True, False):
        wires.kick(stop=stop)
        assert chip.request.levels[STOP] == int(stop)
    assert [value for line, value in chip.request.log if line == WATCHDOG] == [1, 0, 1]


def test_parts_are_numbered_on_from_the_clock_and_passed_on(chip, clock, pins):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as station:
        station.bind(("127.0.0.1", 0))
        station.settimeout(2.0)
        wires = pins(clock, forward=station.getsockname())
        for number, us in ((1, 500), (2, 900), (4, 1700)):
            chip.request.events.append(SimpleNamespace(line_offset=TRIGGER_PIN, line_seqno=number, timestamp_ns=us * 1000))
        found = wires.triggers()
        heard = [TRIGGER.decode(station.recv(600)) for _ in found]
    first = clock.monotonic_ns() // 1_000_000
    assert [one.count - first for one in found] == [1, 2, 4]
    assert [one.mono_us for one in found] == [500, 900, 1700]
    assert heard == found
    assert wires.refused == 1, "an edge the kernel's buffer lost is a part without a slot"
    assert wires.triggers() == []
    later = HandClock()
    later.forward(10_000)
    assert pins(later)._count > found[-1].count, "a gate that starts again gives no number twice"


def test_a_belts_encoder_is_counted_both_ways_and_read_at_every_turn(chip, clock, pins, tmp_path):
    """Parts carry the count at their edge; a belt at rest still says where it stands."""
    wires = pins(clock, encoder=5, encoder_b=6)
    assert chip.asked[5] == {"direction": "input", "edge_detection": "rising"}
    back = {6: 0}
    chip.request.get_value = lambda line: back[line]
    for number in (1, 2, 3, 5):  # one edge was lost: the belt ran on meanwhile
        chip.request.events.append(SimpleNamespace(line_offset=5, line_seqno=number, timestamp_ns=number * 1000))
    chip.request.events.append(SimpleNamespace(line_offset=TRIGGER_PIN, line_seqno=1, timestamp_ns=7000))
    part, count = wires.triggers()
    assert (part.enc, count.enc, count.mono_us) == (5, 5, clock.monotonic_ns() // 1000)
    back[6] = 1
    chip.request.events.append(SimpleNamespace(line_offset=5, line_seqno=6, timestamp_ns=9000))
    assert [one.enc for one in wires.triggers()] == [4]
    assert [one.enc for one in wires.triggers()] == [4]
    assert wires.refused == 1


def test_a_part_at_count_zero_says_two_to_the_32(chip, clock, pins):
    wires = pins(clock, encoder=5)
    chip.request.events.append(SimpleNamespace(line_offset=TRIGGER_PIN, line_seqno=1, timestamp_ns=7000))
    assert wires.triggers()[0].enc == 2**32


def test_what_cannot_be_taken_is_said_with_its_key(chip, clock):
    with pytest.raises(ConfigError, match=r"line\.chip: /dev/gpiochip9 lines .* is another gate running"):
        Pins(PinSettings("/dev/gpiochip9", 1, 2, 3), clock)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('kind = "gpio"\n', r"line\.trigger_pin: expected the number of a pin"),
        ('kind = "gpio"\ntrigger_pin = 1\noutput_pin = 1\nwatchdog_pin = 2\n', "a pin of its own for each wire"),
        (
            'kind = "gpio"\ntrigger_pin = 1\noutput_pin = 2\nwatchdog_pin = 3\n[encoder]\n'
            "gate_counts = 100\nwindow_counts = 20\nmax_counts_per_s = 400.0\n",
            r"line\.encoder_pin: expected",
        ),
        (
            'kind = "gpio"\ntrigger_pin = 1\noutput_pin = 2\nwatchdog_pin = 3\nreinspect_pin = 4\n',
            r"line\.reinspect_pin: expected",
        ),
        (
            'kind = "gpio"\ntrigger_pin = 1\noutput_pin = 2\nwatchdog_pin = 3\n[rules]\non_uncertain = "reinspect"\n',
            r"line\.reinspect_pin: expected a pin with .* got -1",
        ),
        ('forward = "10.0.0.1:47101"\n', r"line\.forward: expected a loopback address"),
    ],
)
def test_pins_that_cannot_be(tmp_path, line, words):
    path = tmp_path / "gate.toml"
    path.write_text(f'[station]\nsite = "a"\narea = "b"\nline = "c"\nstation = "d"\n[timing]\ngate_ms = 300.0\n[line]\n{line}')
    with pytest.raises(ConfigError, match=words):
        load_config(path)
