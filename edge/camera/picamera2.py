"""Raspberry Pi cameras through picamera2.

Written against its documented interface and tested against a stand-in with the same signatures; it has not run on a Raspberry Pi.

A thread takes each completed request, copies its picture and gives the buffer back at once; `grab` waits for the frame that
belongs to its trigger (`edge.camera.stream`).

Times. libcamera stamps the start of the first row's exposure on the clock that also counts suspended time (CLOCK_BOOTTIME); the
difference of the two clocks is read beside each frame. A rolling shutter ends its last row later than the stamp and the exposure
say, by the time the sensor takes to be read.

Source: The Picamera2 Library, Raspberry Pi Ltd: sections 4 (configuration), 5 (controls), 6.3 (requests). "BGR888" is what gives
arrays in the order red, green, blue.
"""

import contextlib
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from picamera2 import Picamera2

from edge.camera.base import Frame, Trigger
from edge.camera.stream import FrameStream, late_bound_ns
from edge.errors import CameraError

_BUFFERS = 4
_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Picamera2Settings:
    """How the camera is set.

    Attributes:
        number: which camera, as `rpicam-hello --list-cameras` counts them.
        width, height: px of the picture. rate_hz: frames a second, 0 leaves libcamera's own.
        exposure_us, gain: 0 leaves both to the automatics; either one switches them off.
        late_ns: how long after its trigger a frame may begin, 0: two periods of rate_hz, without it as long as there is time.
    """

    number: int = 0
    width: int = 640
    height: int = 480
    rate_hz: float = 0.0
    exposure_us: float = 0.0
    gain: float = 0.0
    late_ns: int = 0


class Picamera2Camera:
    """One camera.

    Args:
        settings: how it is set.
    """

    def __init__(self, settings: Picamera2Settings) -> None:
        self._settings = settings
        self._name = f"picamera2 {settings.number}"
        self._period_ns = round(1e9 / settings.rate_hz) if settings.rate_hz else 0
        self._camera: Any = None
        self._frames = FrameStream()
        self._ended = threading.Event()
        self._pump: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Number and model, once it is open."""
        return self._name

    @property
    def skipped(self) -> int:
        """Frames nobody asked for."""
        return self._frames.skipped

    def start(self) -> None:
        """Open the camera, set it, and begin to receive. Raises CameraError: none there, in use, or it refuses a setting."""
        if self._camera is not None:
            self.close()
        wanted = self._settings
        try:
            camera = self._camera = Picamera2(wanted.number)
            model = camera.camera_properties.get("Model", "")
            self._name = f"picamera2 {wanted.number} {model}".strip()
            camera.configure(
                camera.create_video_configuration(
                    main={"size": (wanted.width, wanted.height), "format": "BGR888"},
                    buffer_count=_BUFFERS,
                    controls=self._controls(),
                )
            )
            camera.start()
        # The library raises whatever libcamera gives it: RuntimeError, IndexError, ValueError and others.
        except Exception as exc:
            self.close()
            raise CameraError(f"{self._name}: {exc}; check the ribbon cable, and rpicam-hello --list-cameras") from exc
        self._ended.clear()
        self._frames.begin(self._period_ns)
        self._pump = threading.Thread(target=self._receive, args=(camera,), name="picamera2", daemon=True)
        self._pump.start()

    def _controls(self) -> dict[str, Any]:
        wanted, controls = self._settings, dict[str, Any]()
        if wanted.rate_hz:
            period_us = round(1e6 / wanted.rate_hz)
            controls["FrameDurationLimits"] = (period_us, period_us)
        if wanted.exposure_us or wanted.gain:
            controls["AeEnable"] = False
        if wanted.exposure_us:
            controls["ExposureTime"] = round(wanted.exposure_us)
        if wanted.gain:
            controls["AnalogueGain"] = wanted.gain
        return controls

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """Return the first frame begun after this trigger: the camera runs by itself.

        Args:
            trigger: the part before the camera.
            timeout_s: how long to wait at most, in seconds.

        Raises:
            MissedError: none was begun soon enough after it.
            CameraError: no frame in time, the stream stalls, the camera failed, or `interrupt` was called.
        """
        if self._camera is None:
            raise CameraError(f"{self._name}: not started")
        late_ns = late_bound_ns(self._settings.late_ns, self._period_ns, triggered=False)
        return self._frames.take(self._name, trigger, timeout_s, late_ns=late_ns)

    def interrupt(self) -> None:
        """Make a blocked `grab` raise at once, and every later one until the next `start`."""
        self._frames.interrupt()

    def close(self) -> None:
        """Stop the stream and let go of the camera. May be called twice."""
        self._ended.set()
        camera, self._camera = self._camera, None
        if camera is not None:
            with contextlib.suppress(Exception):  # whatever it says now, it is not used any more
                camera.stop()
            with contextlib.suppress(Exception):
                camera.close()
        if self._pump is not None:
            self._pump.join(_WAIT_S)
            self._pump = None

    def __enter__(self) -> "Picamera2Camera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _receive(self, camera: Any) -> None:
        """Take requests until the camera is closed; runs in its own thread."""
        count = 0
        while not self._ended.is_set():
            try:
                request = camera.wait(camera.capture_request(wait=False), timeout=_WAIT_S)
            except Exception as exc:  # noqa: BLE001 - a time-out, or whatever libcamera gives
                if not self._ended.is_set():
                    self._frames.fail(f"the camera gives no frames ({type(exc).__name__}: {exc})")
                return
            count += 1
            try:
                pixels = np.ascontiguousarray(request.make_array("main"))
                told = request.get_metadata()
            finally:
                request.release()
            self._frames.put(_frame(pixels, told, count))


def _frame(pixels: Any, told: dict[str, Any], number: int) -> Frame:
    now_ns = time.monotonic_ns()
    ahead_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now_ns
    sof_ns = min(int(told.get("SensorTimestamp", now_ns + ahead_ns)) - ahead_ns, now_ns)
    eof_ns = min(sof_ns + 1000 * int(told.get("ExposureTime", 0)), now_ns)
    fits = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    if not fits:
        pixels = np.zeros((16, 16, 3), np.uint8)
    pixels.flags.writeable = False
    return Frame(pixels, number, sof_ns, eof_ns, complete=fits)
