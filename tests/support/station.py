"""Fakes for the stages of a daemon: a clock set by hand, a scripted camera and engine, a connection that records."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge.camera.base import Frame, Trigger
from edge.config.file import parse_config
from edge.config.station import StationConfig
from edge.daemon.stages.parts import NS_PER_MS, Ticket
from edge.engine.base import LayerTime, Scores
from edge.errors import CameraError
from tests.support.bundles import expected_scores, good_frame

T0_NS = 10_000_000_000
T0_US = 1_795_302_862_000_000


class HandClock:
    """Both clocks, moved by the test only."""

    def __init__(self) -> None:
        self.now_ns = T0_NS
        self.stepped_us = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_us(self) -> int:
        return T0_US + (self.now_ns - T0_NS) // 1000 + self.stepped_us

    def forward(self, ms: float) -> None:
        """Time passes."""
        self.now_ns += round(ms * NS_PER_MS)


def ticket(seq: int = 1, at_ns: int = T0_NS, valid_ms: float = 400.0, give_up_ms: float = 360.0, part_id: str = "") -> Ticket:
    """A ticket whose trigger fired at `at_ns`."""
    trigger = Trigger(seq + 1000, at_ns, 7, part_id)
    return Ticket(seq, trigger, T0_US, at_ns + round(valid_ms * NS_PER_MS), at_ns + round(give_up_ms * NS_PER_MS))


def frame(number: int, at_ns: int = T0_NS, *, seed: int | None = None, complete: bool = True, pixels: Any = None) -> Frame:
    """A good frame exposed for 1 ms, one ms after `at_ns`."""
    picture = good_frame(seed=number if seed is None else seed) if pixels is None else pixels
    return Frame(picture, number, at_ns + NS_PER_MS, at_ns + 2 * NS_PER_MS, complete)


class ScriptedCamera:
    """Gives what the script says, one entry per grab: a frame, an error, or a function of the trigger."""

    def __init__(self, script: Iterable[Frame | CameraError | Callable[[Trigger], Frame]]) -> None:
        self.script = list(script)
        self.opened = 0
        self.closed = 0
        self.interrupted = False

    @property
    def name(self) -> str:
        return "scripted"

    def start(self) -> None:
        self.opened += 1

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        assert timeout_s > 0
        if not self.script:
            raise CameraError("the script is at its end")
        entry = self.script.pop(0)
        if isinstance(entry, CameraError):
            raise entry
        return entry if isinstance(entry, Frame) else entry(trigger)

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> "ScriptedCamera":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NumpyEngine:
    """The tiny bundle's graph in numpy; a test may make it fail, slow or wrong."""

    def __init__(self, clock: HandClock | None = None, takes_ms: float = 5.0, size: int = 64) -> None:
        self.name = "numpy"
        self.size = size
        self.takes_ms = takes_ms
        self.fail_with: Exception | None = None
        self.offset = 0.0
        self.calls = 0
        self.closed = 0
        self._clock = clock

    def infer(self, picture: np.ndarray) -> Scores:
        self.calls += 1
        if self._clock is not None:
            self._clock.forward(self.takes_ms)
        if self.fail_with is not None:
            raise self.fail_with
        raw, st, ae, global_ = expected_scores(picture)
        cells = self.size // 4 - 8
        flat = np.zeros((cells, cells), np.float32)
        return Scores(raw + self.offset, st, ae, global_, flat + np.float32(st), flat + np.float32(ae))

    def profile(self, picture: np.ndarray, runs: int) -> tuple[LayerTime, ...]:
        for _ in range(runs):
            self.infer(picture)
        return (LayerTime("all of it", self.takes_ms, "float"),)

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> "NumpyEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Handed:
    """A delivery the test confirms by hand."""

    def __init__(self, topic: str, payload: bytes) -> None:
        self.topic = topic
        self.payload = payload
        self.done = False


class RecordingConnection:
    """Remembers what was published; connected or not as the test says."""

    def __init__(self, *, connected: bool = True, room: int = 1000) -> None:
        self.connected = connected
        self.room = room
        self.protocol: Literal["5", "3.1.1"] = "5"
        self.reconnects = 1
        self.refused = 0
        self.renewed: list[str] = []
        self.sent: list[Handed] = []
        self.kept: dict[str, bytes] = {}
        self.history: list[tuple[str, bytes]] = []

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, correlation: bytes = b""
    ) -> Handed | None:
        if not self.connected or sum(not one.done for one in self.sent) >= self.room:
            self.refused += 1
            return None
        self.sent.append(Handed(topic, payload))
        return self.sent[-1]

    def renew(self, why: str) -> None:
        self.renewed.append(why)

    def keep(self, topic: str, payload: bytes) -> None:
        self.kept[topic] = payload
        self.history.append((topic, payload))


def station_config(folder: Path, **changes: dict[str, Any]) -> StationConfig:
    """A valid configuration; `changes` are sections merged over it."""
    data: dict[str, dict[str, Any]] = {
        "station": {"site": "plant1", "area": "hall2", "line": "line3", "station": "st2"},
        "model": {"bundle": "tiny.onbelt"},
        "deadline": {"valid_ms": 400.0},
        "journal": {"path": "journal.db", "max_mb": 4.0},
        "page": {"enabled": False},
        "trigger": {"listen": "127.0.0.1:0"},
    }
    for section, values in changes.items():
        data[section] = {**data.get(section, {}), **values}
    return parse_config(data, folder)
