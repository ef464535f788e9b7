"""A stand-in for picamera2 with the names and arguments its manual documents: the adapter is called as the library would be."""

import sys
import threading
import time
import types
from typing import Any

import numpy as np


class _Request:
    def __init__(self, camera: Any, number: int) -> None:
        width, height = camera.config["main"]["size"]
        self._pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        self._stamp_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.released = False

    def make_array(self, name: str) -> Any:
        assert name == "main"
        assert not self.released, "the buffer has gone back"
        return self._pixels

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": self._stamp_ns, "ExposureTime": 0, "AnalogueGain": 1.0}

    def release(self) -> None:
        self.released = True


class Picamera2:
    """Frames at the rate of FrameDurationLimits."""

    def __init__(self, camera_num: int = 0, verbose_console: Any = None, tuning: Any = None, allocator: Any = None) -> None:
        if camera_num > 0:
            raise IndexError("list index out of range")
        self.camera_properties = {"Model": "imx296"}
        self.config: dict[str, Any] = {}
        self._number = 0
        self._running = threading.Event()

    def create_video_configuration(self, main: Any = {}, buffer_count: int = 6, controls: Any = {}, **_: Any) -> Any:  # noqa: B006
        assert main["format"] == "BGR888", "the order red, green, blue"
        return {"main": main, "buffer_count": buffer_count, "controls": controls}

    def configure(self, camera_config: Any) -> None:
        self.config = camera_config

    def start(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._running.clear()

    def close(self) -> None:
        self._running.clear()

    def capture_request(self, wait: Any = None, signal_function: Any = None, flush: Any = None) -> Any:
        assert wait is False, "a job to wait for, with a limit"
        return object()

    def wait(self, job: Any, timeout: float | None = None) -> Any:
        period_us = self.config["controls"]["FrameDurationLimits"][0]
        time.sleep(period_us / 1e6)
        if not self._running.is_set():
            raise TimeoutError
        self._number += 1
        return _Request(self, self._number)


def fake_picamera2(monkeypatch: Any) -> None:
    """Put it where the adapter looks for the library."""
    module = types.ModuleType("picamera2")
    module.Picamera2 = Picamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.delitem(sys.modules, "edge.camera.picamera2", raising=False)
