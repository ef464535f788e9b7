"""A whole daemon against a real broker: in this process with its own camera, or as the real command in a process of its own."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from PIL import Image

from edge.bundle.reader import open_bundle
from edge.camera.base import Frame, Trigger
from edge.config.file import render
from edge.daemon.daemon import Daemon
from edge.errors import CameraError
from edge.wire.trigger import TRIGGER, TRIGGER_SCHEMA, LineTrigger
from edge.wire.verdict import Verdict, decode_verdict
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle
from tests.support.station import station_config

ROOT = Path(__file__).resolve().parents[2]
BASE = "onbelt/v1/plant1/hall2/line3/st2"


def until(condition: Callable[[], Any], timeout_s: float = 15.0) -> bool:
    """Wait for something another thread or process does."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Ear:
    """Hears everything a station says, in order."""

    def __init__(self, port: int) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.client.on_connect = lambda client, *_: client.subscribe("onbelt/#", 1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._ready.wait(10)

    def payloads(self, suffix: str) -> list[bytes]:
        """All payloads of one topic, oldest first."""
        return [bytes(one.payload) for one in list(self.messages) if one.topic == f"{BASE}/{suffix}"]

    def verdicts(self, kind: str = "verdict") -> list[Verdict]:
        """Live verdicts, or with "verdict-late" the back-filled ones."""
        return [decode_verdict(payload) for payload in self.payloads(f"{kind}/g1")]

    def last(self, suffix: str) -> dict[str, Any]:
        """The newest message of a topic as plain JSON, {} before the first."""
        payloads = self.payloads(suffix)
        return json.loads(payloads[-1]) if payloads and payloads[-1] else {}

    def close(self) -> None:
        """Hang up."""
        self.client.disconnect()
        self.client.loop_stop()


class TestCamera:
    """Gives a fresh good or bad frame per trigger (every third part is bad), with knobs a test turns while it runs."""

    __test__ = False

    def __init__(self) -> None:
        self.frozen = False
        self.broken = False
        self.torn = False
        self.hang = threading.Event()
        self.name = "test camera"
        self.starts = 0
        self._number = 0
        self._last: Frame | None = None
        self._interrupted = threading.Event()

    def start(self) -> None:
        if self.broken:
            raise CameraError("test camera: no device")
        self.starts += 1

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        if self.hang.is_set():
            self._interrupted.wait(30)  # far beyond the timeout it was given: a driver that does not come back
            raise CameraError("test camera: interrupted")
        if self.broken:
            time.sleep(min(timeout_s, 0.01))
            raise CameraError("test camera: no frame in time")
        if self.frozen and self._last is not None:
            return self._last
        self._number += 1
        pixels = bad_frame("logical", seed=self._number) if is_bad(trigger.count) else good_frame(seed=self._number)
        now = time.monotonic_ns()
        self._last = Frame(pixels, self._number, now, now, complete=not self.torn)
        return self._last

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        pass

    def __enter__(self) -> "TestCamera":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_bad(count: int) -> bool:
    """Whether the test camera shows a defect on this part."""
    return count % 3 == 0


class Line:
    """Sends trigger datagrams."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.count = 0
        self._address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._free_at = 0.0

    def part(self) -> int:
        """One part; returns its number."""
        self.count += 1
        stamp = time.monotonic_ns() // 1000
        self._socket.sendto(TRIGGER.encode(LineTrigger(TRIGGER_SCHEMA, self.count, stamp, 0, "")), self._address)
        return self.count

    def parts(self, number: int, rate_hz: float = 30.0) -> None:
        """So many parts at a steady rate; the first keeps its distance to the last of the call before."""
        begin = max(time.monotonic(), self._free_at)
        for index in range(number):
            time.sleep(max(0.0, begin + index / rate_hz - time.monotonic()))
            self.part()
        self._free_at = time.monotonic() + 1 / rate_hz

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Rig:
    """A daemon in this process."""

    def __init__(self, folder: Path, port: int, *, model: dict[str, Any] | None = None, **changes: dict[str, Any]) -> None:
        path, trust, _ = make_tiny_bundle(folder / "bundle", **(model or {}))
        changes["mqtt"] = {"port": port, **changes.get("mqtt", {})}
        # One thread: a second one gains the tiny graph nothing and waits spinning where the processor is shared.
        changes["model"] = {"threads": 1, **changes.get("model", {})}
        self.config = station_config(folder, **changes)
        self.camera = TestCamera()
        self.daemon = Daemon(self.config, open_bundle(path, trust), camera=self.camera)
        self.line: Line | None = None

    def start(self, *, armed: bool = True) -> "Rig":
        """Start, and wait until the station is armed."""
        self.daemon.start()
        self.line = Line(self.daemon.trigger.address)  # type: ignore[attr-defined]
        if armed:
            assert until(lambda: self.daemon.station.armed, 30), self.daemon.station.snapshot()
        return self

    def parts(self, number: int, rate_hz: float = 30.0) -> None:
        """So many parts, and wait until each has its answer."""
        assert self.line is not None
        seq = self.daemon.ledger.last_seq
        self.line.parts(number, rate_hz)
        assert until(lambda: self.daemon.ledger.last_seq == seq + number and len(self.daemon.ledger) == 0)

    def stop(self) -> float:
        """Stop; returns the seconds it took."""
        begin = time.monotonic()
        self.daemon.stop()
        if self.line is not None:
            self.line.close()
        return time.monotonic() - begin


class Process:
    """The real command `onbelt run` in a process of its own, over a folder of pictures."""

    def __init__(self, folder: Path, port: int, **changes: dict[str, Any]) -> None:
        self.folder = folder
        bundle = folder / "bundle" / "tiny.onbelt"
        trust = folder / "bundle" / "trusted"
        if not bundle.exists():
            make_tiny_bundle(folder / "bundle")
        pictures = folder / "pictures"
        if not pictures.exists():
            pictures.mkdir()
            for number in range(1, 8):
                save(pictures / f"{number}.png", good_frame(seed=number))
        self.trigger = changes.pop("trigger", {"listen": f"127.0.0.1:{free_udp_port()}"})
        sections: dict[str, dict[str, Any]] = {
            "model": {"bundle": str(bundle), "trust": [str(trust)], "threads": 1},
            "mqtt": {"port": port},
            "camera": {"kind": "folder", "folder": {"path": str(pictures)}},
            "trigger": self.trigger,
        }
        config = station_config(folder, **{**sections, **changes})
        self.config = folder / "station.toml"
        self.config.write_text(render(config))
        self.log = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> "Process":
        """Start the command."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge.cli", "run", "--config", str(self.config)],
                stderr=log,
                stdout=log,
                cwd=ROOT,
                env={**os.environ, **environment},
            )
        return self

    def line(self) -> Line:
        """The line that triggers it."""
        host, _, port = self.trigger["listen"].rpartition(":")
        return Line((host, int(port)))

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def ask_to_end(self) -> None:
        """SIGTERM, without waiting."""
        assert self.process is not None
        self.process.terminate()

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; returns the exit status and the seconds it took."""
        assert self.process is not None
        begin = time.monotonic()
        self.ask_to_end()
        return self.process.wait(10), time.monotonic() - begin


def run_once(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`onbelt run` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", "run", "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


def save(path: Path, pixels: np.ndarray) -> None:
    """A picture file."""
    Image.fromarray(pixels).save(path)


def free_udp_port() -> int:
    """A UDP port on loopback nobody uses at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
