"""Cameras through GStreamer: whatever a pipeline can bring to an appsink. `edge.camera.pipelines` writes the usual ones.

A thread pulls the sink all the time; `grab` waits for the frame that belongs to its trigger (`edge.camera.stream`). A pipeline
over a file runs as fast as it is read: there each trigger gets the next frame, and the file begins anew at its end or is used up.

Times. A live buffer's stamp is the running time at which it was captured, on the pipeline's clock; its age now is carried over to
CLOCK_MONOTONIC. Network cameras stamp the arrival, so their exposure lies earlier by what the way takes; a free-running camera's
frame counts for a trigger only when it began after it, which such a stamp makes too generous: leave the part standing longer.

Copies. GStreamer's pools take their buffers back, a frame lives as long as its part: each is copied once, out of the mapped
memory into bytes the array then rests on.

Source: GStreamer 1.22 reference, appsink, GstBuffer, GstVideo (rows of RGB are padded to 4 bytes).
"""

import contextlib
import threading
import time
from types import TracebackType
from typing import Any

import gi
import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Frame, SilentError, Trigger
from edge.camera.gstreamer_settings import GstreamerSettings
from edge.camera.stream import FrameStream, late_bound_ns
from edge.errors import CameraError

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402 - the version must be named first

_SINK = "onbelt"
_TAIL = f"videoconvert n-threads=1 ! video/x-raw,format=RGB ! appsink name={_SINK} sync=false"
_PULL_NS = 50_000_000
_OPEN_S = 10.0  # a network camera may take this long to say what it sends
_MAX_BYTES = 256 * 2**20  # a larger picture is none


class GstreamerCamera:
    """One pipeline.

    Args:
        settings: which.

    Attributes:
        incomplete: frames the transport or the decoder marked as damaged.
    """

    def __init__(self, settings: GstreamerSettings) -> None:
        self._settings = settings
        self._pipeline: Any = None
        self._sink: Any = None
        self._frames = FrameStream()
        self._ended = threading.Event()
        self._pump: threading.Thread | None = None
        self._count = 0
        self._late_ns = 0
        self.incomplete = 0

    @property
    def name(self) -> str:
        """What it is, without secrets."""
        return self._settings.name

    @property
    def skipped(self) -> int:
        """Complete frames nobody asked for."""
        return self._frames.skipped

    def start(self) -> None:
        """Build the pipeline and let it run. Raises CameraError: an element is missing, the device is not there or refuses."""
        if self._pipeline is not None:
            self.close()
        self._ended.clear()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """Return the frame exposed for this trigger, of a file the next one.

        Args:
            trigger: the part before the camera.
            timeout_s: how long to wait at most, in seconds.

        Raises:
            MissedError: the camera did not expose for it.
            CameraError: no frame in time, the pipeline failed or ended, or `interrupt` was called.
        """
        if self._pipeline is None:
            raise CameraError(f"{self.name}: not started")
        if not self._settings.live:
            return self._next(timeout_s)
        early_ns = 0 if self._settings.free else self._settings.early_ns
        return self._frames.take(self.name, trigger, timeout_s, early_ns, self._late_ns)

    def interrupt(self) -> None:
        """Make a blocked `grab` raise at once, and every later one until the next `start`."""
        self._ended.set()
        self._frames.interrupt()

    def close(self) -> None:
        """Stop the pipeline and free the device. May be called twice."""
        self._ended.set()
        if self._pump is not None:
            self._pump.join(2.0)
            self._pump = None
        pipeline, self._pipeline, self._sink = self._pipeline, None, None
        if pipeline is not None:
            pipeline.set_state(Gst.State.NULL)

    def __enter__(self) -> "GstreamerCamera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- opening ----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        Gst.init(None)
        wanted = self._settings
        depth = "max-buffers=4 drop=true" if wanted.live else "max-buffers=2 drop=false"
        try:
            self._pipeline = Gst.parse_launch(f"{wanted.pipeline} ! {_TAIL} {depth}")
        except GLib.Error as exc:
            raise CameraError(f"{self.name}: {exc.message}; is the plugin installed? gst-inspect-1.0 tells") from exc
        for place, value in wanted.properties:
            element, _, key = place.partition(".")
            self._pipeline.get_by_name(element).set_property(key, value)
        self._sink = self._pipeline.get_by_name(_SINK)
        self._frames.begin(0)
        if self._pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE:
            raise CameraError(f"{self.name}: {self._why() or 'it does not start'}; check device, address and rights")
        self._wait_until_it_runs()
        if wanted.live:
            # A sensor triggered by hardware states its mode's rate and is silent between parts: that is no stall.
            period_ns = self._period_ns() if wanted.free else 0
            self._late_ns = late_bound_ns(wanted.late_ns, period_ns, triggered=not wanted.free)
            self._frames.begin(period_ns)
            self._pump = threading.Thread(target=self._receive, name="gstreamer", daemon=True)
            self._pump.start()

    def _wait_until_it_runs(self) -> None:
        until_ns = time.monotonic_ns() + round(_OPEN_S * 1e9)
        while True:
            changed, state, _ = self._pipeline.get_state(100 * Gst.MSECOND)
            why = self._why()
            if changed == Gst.StateChangeReturn.FAILURE or why:
                raise CameraError(f"{self.name}: {why or 'it does not start'}; check device, address and rights")
            if state == Gst.State.PLAYING:
                return
            if self._ended.is_set() or time.monotonic_ns() > until_ns:
                raise CameraError(f"{self.name}: expected a stream within {_OPEN_S:.0f} s, none came; is the camera on?")

    def _period_ns(self) -> int:
        """Of a stream that says its rate; without one there is no stall to be seen, only a part without a frame."""
        caps = self._sink.get_static_pad("sink").get_current_caps()
        if caps is None:
            return 0
        known, above, below = caps.get_structure(0).get_fraction("framerate")
        return round(1e9 * below / above) if known and above > 0 else 0

    # --- receiving --------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Pull until the camera is closed; runs in its own thread."""
        while not self._ended.is_set():
            sample = self._sink.emit("try-pull-sample", _PULL_NS)
            if sample is not None:
                self._frames.put(self._frame(sample))
                continue
            why = self._why() or ("the stream has ended" if self._sink.get_property("eos") else "")
            if why:
                self._frames.fail(f"{why}; is it still there?")
                return

    def _next(self, timeout_s: float) -> Frame:
        until_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        while not self._ended.is_set():
            sample = self._sink.emit("try-pull-sample", _PULL_NS)
            if sample is not None:
                return self._frame(sample)
            if why := self._why():
                raise CameraError(f"{self.name}: {why}")
            if self._sink.get_property("eos"):
                if not self._settings.loop:
                    raise CameraError(f"{self.name}: all {self._count} frames are used up; set camera.stream.loop = true")
                self._pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH, 0)
            if time.monotonic_ns() >= until_ns:
                raise SilentError(f"{self.name}: no frame within {timeout_s * 1000:.0f} ms")
        raise CameraError(f"{self.name}: interrupted")

    def _why(self) -> str:
        """The first error on the pipeline's bus since the last look, or an empty string."""
        message = self._pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        if message is None:
            return ""
        error, _detail = message.parse_error()
        return str(error.message)

    def _frame(self, sample: Any) -> Frame:
        buffer = sample.get_buffer()
        eof_ns = time.monotonic_ns() - self._age_ns(buffer)
        self._count += 1
        number = self._count
        with contextlib.suppress(OverflowError, TypeError):
            # Drivers of V4L2 number what the sensor gave: a gap is a frame the machine was too slow for.
            if buffer.offset != Gst.BUFFER_OFFSET_NONE and self._settings.live:
                number = max(number, int(buffer.offset) + 1)
                self._count = number
        pixels = None if buffer.has_flags(Gst.BufferFlags.CORRUPTED) else _pixels(sample.get_caps(), buffer)
        if pixels is None:
            self.incomplete += 1
            return Frame(np.zeros((16, 16, 3), np.uint8), number, eof_ns - self._settings.exposure_ns, eof_ns, complete=False)
        return Frame(pixels, number, eof_ns - self._settings.exposure_ns, eof_ns)

    def _age_ns(self, buffer: Any) -> int:
        clock = self._pipeline.get_clock()
        if clock is None or buffer.pts == Gst.CLOCK_TIME_NONE or not self._settings.live:
            return 0
        age_ns: int = clock.get_time() - self._pipeline.get_base_time() - buffer.pts
        return min(max(0, age_ns), 10 * 10**9)  # a stamp of an hour ago is no stamp


def _pixels(caps: Any, buffer: Any) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB on bytes of its own; None when they are not those of a picture of the size the caps state."""
    structure = caps.get_structure(0)
    (has_width, width), (has_height, height) = structure.get_int("width"), structure.get_int("height")
    size = buffer.get_size()
    if not has_width or not has_height or width < 1 or height < 1 or size > _MAX_BYTES:
        return None
    stride = size // height
    if stride < 3 * width:
        return None
    data = np.frombuffer(buffer.extract_dup(0, size), np.uint8)
    if data.size != size:
        return None
    rows = data[: height * stride].reshape(height, stride)[:, : 3 * width]
    pixels = np.ascontiguousarray(rows).reshape(height, width, 3)
    pixels.flags.writeable = False
    return pixels
