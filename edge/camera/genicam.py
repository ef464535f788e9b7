"""GenICam cameras (GigE Vision, USB3 Vision) through Aravis, in its GObject introspection binding.

A thread empties the camera's stream all the time, so that buffers never run out; `grab` waits for the frame that belongs to its
trigger (`edge.camera.stream`). What the transport damaged comes out as an incomplete frame, never as a good one.

Times. Cameras count their own nanoseconds. Aravis stamps the moment a frame's first packet came by the wall clock; that is the
end of its exposure plus a packet's way, and is carried over to CLOCK_MONOTONIC as it is read. The start is the exposure time
before.

Two traps on loopback and small machines: packet sockets see no frame there, and Aravis' automatic socket buffer loses half of
them; `packet_socket = false` and a fixed buffer of 4 MB are the defaults here.

Source: Aravis 0.8 reference manual; GigE Vision 2.0 for the 16-bit block ids that run from 1 to 65535.
"""

import contextlib
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import gi
import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Frame, Trigger
from edge.camera.stream import FrameStream, late_bound_ns
from edge.errors import CameraError

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis, GLib  # noqa: E402 - the version must be named first

BUFFERS = 16  # at 100 frames/s a sixth of a second of a machine that does something else
_POP_US = 20_000
_FORMATS = {0x01080001: "Mono8", 0x02180014: "RGB8", 0x02180015: "BGR8"}  # PFNC codes
_BLOCK_IDS = 65535


@dataclass(frozen=True, slots=True)
class GenicamSettings:
    """How the camera is set.

    Attributes:
        device: its id as `arv-tool-0.8` lists it, or its address; empty takes the first.
        mode: "free" runs by itself at `rate_hz`; "hardware" exposes at each edge of `line`; "software" when asked for a frame.
        line: trigger input of mode "hardware".
        rate_hz: frames a second in mode "free", 0 leaves the camera's own.
        exposure_us, gain: 0 leaves the camera's own.
        pixel_format: Mono8, RGB8 or BGR8; empty leaves the camera's own.
        region: x, y, width, height in sensor pixels; width 0 leaves the camera's own.
        strobe: output line that follows the exposure, for a flash; empty for none.
        early_ns: how long before its trigger's stamp an exposure may begin in the triggered modes.
        late_ns: how long after it in any mode; 0 takes what the mode gives, and nothing in mode "software".
        packet_socket: let Aravis read from a packet socket: faster, needs CAP_NET_RAW, not on loopback.
        socket_buffer_bytes: of the stream's socket.
    """

    device: str = ""
    mode: Literal["free", "hardware", "software"] = "free"
    line: str = "Line1"
    rate_hz: float = 0.0
    exposure_us: float = 0.0
    gain: float = 0.0
    pixel_format: str = ""
    region: tuple[int, int, int, int] = (0, 0, 0, 0)
    strobe: str = ""
    early_ns: int = 20_000_000
    late_ns: int = 0
    packet_socket: bool = False
    socket_buffer_bytes: int = 4 * 2**20


class GenicamCamera:
    """One camera.

    Args:
        settings: how it is set.

    Attributes:
        incomplete: frames the transport damaged.
    """

    def __init__(self, settings: GenicamSettings) -> None:
        self._settings = settings
        self._name = f"genicam {settings.device or 'first found'}"
        self._device: Any = None
        self._stream: Any = None
        self._frames = FrameStream()
        self._ended = threading.Event()
        self._pump: threading.Thread | None = None
        self._period_ns = 0
        self._late_ns = 0
        self._exposure_ns = 0
        self._last_block = 0
        self._epoch = 0
        self.incomplete = 0

    @property
    def skipped(self) -> int:
        """Complete frames nobody asked for."""
        return self._frames.skipped

    @property
    def waiting(self) -> int:
        """Complete frames nobody has asked for yet."""
        return self._frames.waiting

    @property
    def name(self) -> str:
        """Vendor, model and serial number once it is open."""
        return self._name

    def start(self) -> None:
        """Open the camera, set it, and begin to receive. Raises CameraError: none there, in use, or it refuses a setting."""
        if self._device is not None:
            self.close()
        try:
            self._open()
        except GLib.Error as exc:
            self.close()
            raise CameraError(f"{self._name}: {exc.message}; check power, network and arv-tool-0.8") from exc
        except BaseException:
            self.close()
            raise

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """Return the frame exposed for this trigger.

        Args:
            trigger: the part before the camera.
            timeout_s: how long to wait at most, in seconds.

        Raises:
            MissedError: the camera did not expose for it.
            CameraError: no frame in time, the stream stalls, the camera is gone, or `interrupt` was called.
        """
        if self._device is None:
            raise CameraError(f"{self._name}: not started")
        # A free-running camera exposes for nobody: only a frame begun after the trigger surely shows the part.
        early_ns = 0 if self._settings.mode == "free" else self._settings.early_ns
        if self._settings.mode == "software":
            self._call("software trigger", lambda: self._device.software_trigger())
        return self._frames.take(self._name, trigger, timeout_s, early_ns, self._late_ns)

    def interrupt(self) -> None:
        """Make a blocked `grab` raise at once, and every later one until the next `start`."""
        self._frames.interrupt()

    def close(self) -> None:
        """Stop the stream and let go of the camera. May be called twice."""
        self._ended.set()
        if self._pump is not None:
            self._pump.join(2.0)
            self._pump = None
        device, self._device = self._device, None
        if device is not None:
            with contextlib.suppress(GLib.Error):  # it may be gone already
                device.stop_acquisition()
        self._stream = None
        del device

    def __enter__(self) -> "GenicamCamera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- opening ----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        wanted = self._settings
        if not wanted.device:
            Aravis.update_device_list()
            if Aravis.get_n_devices() == 0:
                raise CameraError(
                    f"{self._name}: expected a camera on this network, found none; name it in camera.genicam.device"
                )
        device = self._device = Aravis.Camera.new(wanted.device or None)
        self._name = f"genicam {device.get_vendor_name()} {device.get_model_name()} {device.get_device_serial_number()}"
        device.stop_acquisition()
        self._configure(device)
        self._exposure_ns = round(device.get_exposure_time() * 1000) if device.is_exposure_time_available() else 0
        self._period_ns = 0
        if wanted.mode == "free" and device.is_frame_rate_available():
            self._period_ns = round(1e9 / max(device.get_frame_rate(), 0.01))
        # In mode "software" the camera exposes when it is asked, which a busy station does late, and never for another part.
        self._late_ns = late_bound_ns(wanted.late_ns, self._period_ns, triggered=wanted.mode == "hardware")
        stream = self._stream = device.create_stream(None, None)
        if stream is None:
            raise CameraError(f"{self._name}: no stream; is another program using the camera?")
        if device.is_gv_device():
            stream.set_property("socket-buffer", Aravis.GvStreamSocketBuffer.FIXED)
            stream.set_property("socket-buffer-size", wanted.socket_buffer_bytes)
        payload = device.get_payload()
        for _ in range(BUFFERS):
            stream.push_buffer(Aravis.Buffer.new_allocate(payload))
        self._last_block = self._epoch = 0
        self._ended.clear()
        self._frames.begin(self._period_ns)
        device.get_device().connect("control-lost", lambda *_: self._frames.fail("the camera has gone: control lost"))
        device.start_acquisition()
        self._pump = threading.Thread(target=self._receive, args=(stream,), name="genicam", daemon=True)
        self._pump.start()

    def _configure(self, device: Any) -> None:
        wanted = self._settings
        if device.is_gv_device() and not wanted.packet_socket:
            device.gv_set_stream_options(Aravis.GvStreamOption.PACKET_SOCKET_DISABLED)
        if wanted.pixel_format:
            device.set_pixel_format_from_string(wanted.pixel_format)
        if device.get_pixel_format() not in _FORMATS:
            raise CameraError(
                f"{self._name}: expected pixel format {', '.join(_FORMATS.values())}, got {device.get_pixel_format_as_string()}; "
                "set camera.genicam.pixel_format"
            )
        if wanted.region[2]:
            device.set_region(*wanted.region)
        device.clear_triggers()
        if wanted.mode == "hardware":
            device.set_trigger(wanted.line)
        elif wanted.mode == "software":
            device.set_trigger("Software")
        elif wanted.rate_hz:
            device.set_frame_rate(wanted.rate_hz)
        if wanted.exposure_us:
            device.set_exposure_time(wanted.exposure_us)
        if wanted.gain:
            device.set_gain(wanted.gain)
        if wanted.strobe:
            # SFNC 2.7, chapter digital I/O: the line is high while the sensor is exposed.
            nodes = device.get_device()
            for feature, value in (("LineSelector", wanted.strobe), ("LineMode", "Output"), ("LineSource", "ExposureActive")):
                nodes.set_string_feature_value(feature, value)
        device.set_acquisition_mode(Aravis.AcquisitionMode.CONTINUOUS)

    # --- receiving --------------------------------------------------------------------------------------------------------

    def _receive(self, stream: Any) -> None:
        """Empty the stream until the camera is closed; runs in its own thread."""
        while not self._ended.is_set():
            buffer = stream.timeout_pop_buffer(_POP_US)
            if buffer is None:
                continue
            try:
                frame = self._frame(buffer)
            finally:
                stream.push_buffer(buffer)
            self._frames.put(frame)

    def _frame(self, buffer: Any) -> Frame:
        """Copy a buffer: it goes back to the stream at once, a frame may live as long as its part."""
        age_ns = max(0, time.time_ns() - buffer.get_system_timestamp())
        eof_ns = time.monotonic_ns() - min(age_ns, 10 * 10**9)  # a step of the wall clock in between must not make it ancient
        number = self._number(buffer.get_frame_id())
        complete = buffer.get_status() == Aravis.BufferStatus.SUCCESS
        pixels: NDArray[np.uint8] | None = None
        if complete:
            pixels = _pixels(buffer)
        if pixels is None:
            complete = False
            self.incomplete += 1
            pixels = np.zeros((16, 16, 3), np.uint8)  # nothing of a damaged picture is handed on
        pixels.flags.writeable = False
        return Frame(pixels, number, eof_ns - self._exposure_ns, eof_ns, complete)

    def _number(self, block: int) -> int:
        """A number that goes on where 16-bit block ids begin anew."""
        if self._last_block <= _BLOCK_IDS and self._last_block - block > _BLOCK_IDS // 2:
            self._epoch += _BLOCK_IDS
        self._last_block = block
        return self._epoch + block

    def _call(self, what: str, function: Any) -> None:
        try:
            function()
        except GLib.Error as exc:
            raise CameraError(f"{self._name}: {what}: {exc.message}") from exc


def _pixels(buffer: Any) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB on bytes of its own; None when they are not those of a picture of the size the buffer states."""
    kind = _FORMATS.get(buffer.get_image_pixel_format())
    height, width = buffer.get_image_height(), buffer.get_image_width()
    data = np.frombuffer(buffer.get_data(), np.uint8)  # the binding copies them out of the buffer
    channels = 1 if kind == "Mono8" else 3
    if kind is None or data.size < height * width * channels or not height or not width:
        return None
    picture = data[: height * width * channels].reshape(height, width, channels)
    if kind == "Mono8":
        return np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture[:, :, ::-1]) if kind == "BGR8" else picture
