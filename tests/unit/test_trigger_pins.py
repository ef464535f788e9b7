"""Pins, encoder, pitch and the camera as trigger: what is delivered, numbered, counted as lost or as one too many."""

import sys
import threading
import time
import types
from collections import deque
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.camera.base import Frame, SilentError, Trigger
from edge.camera.stream import LATE_NS, FrameStream
from edge.errors import CameraError, ConfigError
from edge.trigger import frames as frames_module
from edge.trigger.frames import FrameTrigger, PartDetector
from edge.trigger.gpio import GpioSettings, GpioTrigger
from edge.trigger.pitch import PitchTrigger
from edge.wire.trigger import TRIGGER_SCHEMA, LineTrigger


class FakeRequest:
    """The part of gpiod.LineRequest this adapter uses, with the same names and arguments."""

    def __init__(self, stop):
        self.events: deque[Any] = deque()
        self.b_active = False
        self.released = 0
        self._stop = stop

    def wait_edge_events(self, timeout=None):
        if not self.events:
            self._stop.set()
        return bool(self.events)

    def read_edge_events(self, max_events=None):
        batch, self.events = list(self.events), deque()
        return batch

    def get_value(self, line):
        from gpiod.line import Value

        return Value.ACTIVE if self.b_active else Value.INACTIVE

    def release(self):
        self.released += 1

    def edge(self, n, us=0):
        self.events.append(SimpleNamespace(timestamp_ns=us * 1000, line_seqno=n, line_offset=5))


@pytest.fixture
def gpio(monkeypatch):
    """gpiod as documented, without a chip behind it."""
    stop = threading.Event()
    request = FakeRequest(stop)
    asked = []
    line: Any = types.ModuleType("gpiod.line")
    line.Direction = SimpleNamespace(INPUT="input")
    line.Edge = SimpleNamespace(RISING="rising", FALLING="falling")
    line.Value = SimpleNamespace(ACTIVE=1, INACTIVE=0)
    module: Any = types.ModuleType("gpiod")
    module.line = line
    module.LineSettings = lambda **given: given

    def request_lines(path, consumer=None, config=None, event_buffer_size=None):
        if path == "/dev/none":
            raise FileNotFoundError(2, "No such file or directory")
        asked.append((path, consumer, config, event_buffer_size))
        return request

    module.request_lines = request_lines
    monkeypatch.setitem(sys.modules, "gpiod", module)
    monkeypatch.setitem(sys.modules, "gpiod.line", line)
    return SimpleNamespace(request=request, stop=stop, asked=asked)


def delivered(trigger, gpio):
    found: list[Any] = []
    trigger.run(gpio.stop, found.append)
    return found


def test_each_edge_is_a_part_with_the_kernels_stamp(gpio):
    trigger = GpioTrigger(GpioSettings("/dev/gpiochip0", 5, edge="falling", debounce_us=2000))
    trigger.open()
    for n, us in ((1, 100), (2, 40_100)):
        gpio.request.edge(n, us)
    assert [(one.count, one.mono_us) for one in delivered(trigger, gpio)] == [(1, 100), (2, 40_100)]
    ((path, consumer, config, _),) = gpio.asked
    assert (path, consumer) == ("/dev/gpiochip0", "onbelt")
    assert config[5]["edge_detection"] == "falling"
    assert config[5]["debounce_period"].total_seconds() == 0.002
    trigger.close()
    trigger.close()
    assert gpio.request.released == 1


def test_edges_lost_in_the_kernels_buffer_are_numbers_without_a_trigger(gpio):
    trigger = GpioTrigger(GpioSettings("/dev/gpiochip0", 5))
    trigger.open()
    for n in (1, 2, 5):
        gpio.request.edge(n, n)
    assert [one.count for one in delivered(trigger, gpio)] == [1, 2, 5]
    assert trigger.refused == 2


def test_encoder_counts_make_parts_and_run_back_without_making_any(gpio):
    trigger = GpioTrigger(GpioSettings("/dev/gpiochip0", 5, line_b=6, pitch_counts=10))
    trigger.open()
    n = 0
    found: list[Any] = []
    for steps, back in ((25, False), (8, True), (14, False)):
        gpio.request.b_active = back
        gpio.stop.clear()
        for _ in range(steps):
            n += 1
            gpio.request.edge(n, n)
        found += delivered(trigger, gpio)
    assert [(one.count, one.enc) for one in found] == [(1, 10), (2, 20), (3, 30)]
    assert trigger.encoder == 31
    assert 6 in gpio.asked[0][2]


def test_a_chip_that_is_not_there_is_said_with_its_key(gpio):
    with pytest.raises(ConfigError, match=r"trigger\.chip: /dev/none line 5 cannot be taken"):
        GpioTrigger(GpioSettings("/dev/none", 5)).open()


def test_without_gpiod_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(ConfigError, match=r"onbelt\[gpio\]"):
        GpioTrigger(GpioSettings("/dev/gpiochip0", 5)).open()


class Given:
    """A source with these stamps."""

    name, refused = "given", 0

    def __init__(self, *stamps_us):
        self._stamps = stamps_us

    def open(self):
        return

    def run(self, stop, deliver):
        for n, us in enumerate(self._stamps, 1):
            deliver(LineTrigger(TRIGGER_SCHEMA, n, us))

    def close(self):
        return


def test_a_trigger_too_soon_after_a_part_is_none_and_is_counted():
    found: list[Any] = []
    trigger = PitchTrigger(Given(0, 500, 30_000, 49_999, 60_000), min_pitch_ms=20.0)
    trigger.run(threading.Event(), found.append)
    assert [one.mono_us for one in found] == [0, 30_000, 60_000]
    assert trigger.extra == trigger.refused == 2


class Reel:
    """A camera that gives these frames and then none."""

    name = "reel"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __init__(self, frames, stop):
        self._frames = deque(frames)
        self._stop = stop
        self.starts = 0

    def start(self):
        self.starts += 1

    def grab(self, trigger, timeout_s):
        if not self._frames:
            self._stop.set()
            raise SilentError("reel: no frame within 250 ms")
        return self._frames.popleft()

    def interrupt(self):
        return

    def close(self):
        return


def frame(number, value=90):
    pixels = np.full((64, 64, 3), 40, np.uint8)
    pixels[16:48, 16:48] = value
    return Frame(pixels, number, number * 1_000_000, number * 1_000_000 + 10)


def run(frames, detector=None):
    stop = threading.Event()
    trigger = FrameTrigger(Reel(frames, stop), detector)
    trigger.start()
    found: list[Any] = []
    trigger.run(stop, found.append)
    return trigger, found


def test_every_frame_of_a_triggered_camera_is_a_part_and_a_lost_frame_a_lost_part():
    trigger, found = run([frame(1), frame(2), frame(4)])
    assert [one.count for one in found] == [1, 2, 4]
    assert trigger.grab(Trigger(4, 0), 0.0).frame_id == 4
    with pytest.raises(CameraError, match="part 4 has given way"):
        trigger.grab(Trigger(4, 0), 0.0)


class Streamed(Reel):
    """A camera triggered by hardware: its frames come through a stream that bounds how late an exposure may be."""

    def start(self):
        super().start()
        self._stream = FrameStream()
        self._stream.begin(0)
        for one in self._frames:
            self._stream.put(one)

    def grab(self, trigger, timeout_s):
        if not self._stream.waiting:
            self._stop.set()
        return self._stream.take(self.name, trigger, 0.01, late_ns=LATE_NS)


def test_a_camera_that_is_the_trigger_has_no_part_its_next_frame_could_be_late_for():
    begin_ns = time.monotonic_ns()
    frames = [replace(frame(n), sof_ns=begin_ns + n * 40 * LATE_NS) for n in range(1, 4)]
    stop = threading.Event()
    trigger = FrameTrigger(Streamed(frames, stop))
    trigger.start()
    found: list[Any] = []
    trigger.run(stop, found.append)
    assert [one.count for one in found] == [1, 2, 3]


def test_frames_nobody_grabs_give_way():
    trigger, found = run([frame(n) for n in range(1, 8)])
    assert len(found) == 7
    assert trigger.refused == 3
    with pytest.raises(CameraError, match="given way to newer ones"):
        trigger.grab(Trigger(1, 0), 0.0)


def test_a_part_is_one_stretch_of_frames_that_differ_and_its_best_frame_is_taken():
    empty = [frame(n, 40) for n in range(1, 4)]
    parts = [frame(4, 60), frame(5, 200), frame(6, 60), frame(7, 40), frame(8, 40), frame(9, 90), frame(10, 40)]
    trigger, found = run(empty + parts, PartDetector(12.0))
    assert [one.count for one in found] == [1, 2]
    assert trigger.grab(Trigger(1, 0), 0.0).frame_id == 5
    assert trigger.grab(Trigger(2, 0), 0.0).frame_id == 9


def damaged(number):
    return Frame(np.zeros((16, 16, 3), np.uint8), number, number * 1_000_000, number * 1_000_000 + 10, complete=False)


def test_a_damaged_frame_is_neither_the_empty_belt_nor_a_part():
    first = [damaged(1), frame(2, 40), frame(3, 90), frame(4, 40)]
    trigger, found = run(first, PartDetector(12.0))
    assert [one.count for one in found] == [1]
    assert trigger.grab(Trigger(1, 0), 0.0).frame_id == 3
    assert trigger.refused == 1
    trigger, found = run([frame(1, 40), frame(2, 40), damaged(3), frame(4, 40), frame(5, 40)], PartDetector(12.0))
    assert found == []
    assert trigger.refused == 1


def test_a_part_with_a_damaged_frame_is_one_part_and_a_whole_frame_of_it_is_taken():
    trigger, found = run([frame(1, 40), frame(2, 60), damaged(3), frame(4, 80), frame(5, 40)], PartDetector(12.0))
    assert [one.count for one in found] == [1]
    assert trigger.grab(Trigger(1, 0), 0.0).frame_id == 4


class Told:
    """Remembers what it was told of a camera."""

    def __init__(self):
        self.said: list[str] = []
        self.busy = 0

    def begin(self, limit_ms=0.0):
        assert limit_ms > 0
        self.busy += 1

    def end(self):
        self.busy -= 1

    def failed(self, why):
        self.said.append(why)

    def reopened(self):
        self.said.append("reopened")

    def recovered(self):
        self.said.append("recovered")


class Failing(Reel):
    """Fails at some grabs and some openings; what is None is silence."""

    def __init__(self, script, stop, unopenable=0):
        super().__init__(script, stop)
        self.unopenable = unopenable

    def start(self):
        super().start()
        if self.starts > 1 and self.starts <= 1 + self.unopenable:
            raise CameraError("reel: no device")

    def grab(self, trigger, timeout_s):
        entry = super().grab(trigger, timeout_s)
        if entry is None:
            raise SilentError("reel: no frame within 250 ms")
        if isinstance(entry, CameraError):
            raise entry
        return entry


def watched(script, monkeypatch, detector=None, unopenable=0):
    monkeypatch.setattr(frames_module, "_REOPEN_EVERY_S", 0.01)
    stop, told = threading.Event(), Told()
    trigger = FrameTrigger(Failing(script, stop, unopenable), detector)
    trigger.watched_by(told)
    trigger.start()
    found: list[Any] = []
    trigger.run(stop, found.append)
    assert told.busy == 0
    return trigger, found, told.said


def test_a_camera_that_fails_is_told_and_told_again_when_it_is_well(monkeypatch):
    trigger, found, said = watched([frame(1), CameraError("cable pulled"), None, frame(2), frame(3)], monkeypatch, unopenable=2)
    assert said == ["cable pulled", "reel: no device", "reel: no device", "reopened", "recovered"]
    assert [one.count for one in found] == [1, 2, 3]
    with pytest.raises(CameraError, match="part 9 has given way"):  # and no word of a failure that is over
        trigger.grab(Trigger(9, 0), 0.0)


def test_a_triggered_camera_may_be_silent_between_parts(monkeypatch):
    monkeypatch.setattr(frames_module, "_SILENT_S", 0.0)
    _, _, said = watched([None, None, frame(1), None], monkeypatch)
    assert said == []


def test_a_camera_that_runs_by_itself_and_is_silent_has_failed(monkeypatch):
    monkeypatch.setattr(frames_module, "_SILENT_S", 0.0)
    _, _, said = watched([frame(1), None], monkeypatch, PartDetector(12.0))
    assert said[0] == "reel: no frame for 0 s, and it runs by itself; check cable, power and network"
    assert said[1] == "reopened"


def test_a_flickering_camera_is_not_well(monkeypatch):
    script = [frame(1), CameraError("1"), frame(2), frame(3), CameraError("2"), frame(4), frame(5), CameraError("3")]
    _, _, said = watched([*script, *(frame(n) for n in range(6, 9))], monkeypatch)
    assert said == ["1", "reopened", "2", "reopened", "3", "reopened", "recovered"]


def test_dirt_that_comes_slowly_becomes_the_belt():
    creeping = [frame(n, 40 + n // 4) for n in range(1, 200)]
    _, found = run(creeping, PartDetector(12.0))
    assert found == []
