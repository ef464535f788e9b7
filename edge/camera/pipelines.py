"""The usual pipelines: USB cameras (V4L2), CSI cameras of a Jetson, network cameras (RTSP), video files, and one's own.

    v4l2    v4l2src: a device node; exposure and gain through the driver's controls
    csi     nvarguscamerasrc: a sensor's number; exposure and gain fixed, so that automatics do not drift (written against
            NVIDIA's documentation, not tried on a Jetson)
    rtsp    rtspsrc over TCP, jitter buffer as short as `latency_ms`; user and password as properties, never in an address
    video   a file, one frame per trigger
    gstreamer  any pipeline up to its sink

Source: GStreamer 1.22 reference; NVIDIA, Accelerated GStreamer, nvarguscamerasrc (exposuretimerange in ns).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.camera.gstreamer_settings import GstreamerSettings
from edge.errors import ConfigError

Kind = Literal["v4l2", "csi", "rtsp", "video", "gstreamer"]


@dataclass(frozen=True, slots=True)
class StreamWish:
    """What a station says of such a camera.

    Attributes:
        kind: which. source: device node, sensor number, address, file or pipeline.
        width, height: px, 0 leaves the camera's own. rate_hz: 0 leaves the camera's own.
        exposure_us, gain: 0 leaves the camera's own. latency_ms: of a network camera's jitter buffer.
        loop: of a file. user, password: of a network camera.
        early_ns, late_ns: how long before and after its trigger a frame of a triggered sensor may begin; late 0: by its period.
        triggered: the sensor exposes by hardware.
    """

    kind: Kind
    source: str
    width: int = 0
    height: int = 0
    rate_hz: float = 0.0
    exposure_us: float = 0.0
    gain: float = 0.0
    latency_ms: int = 20
    loop: bool = True
    user: str = ""
    password: str = ""
    early_ns: int = 20_000_000
    late_ns: int = 0
    triggered: bool = False


def pipeline_of(wish: StreamWish) -> GstreamerSettings:
    """Write the pipeline. Raises ConfigError: the source is not what this kind needs."""
    if not wish.source:
        raise ConfigError(f'camera.stream.source: expected one for camera.kind = "{wish.kind}", it is empty')
    text = _WRITERS[wish.kind](wish) if wish.kind in _WRITERS else wish.source
    secrets = (("source.user-id", wish.user), ("source.user-pw", wish.password)) if wish.kind == "rtsp" and wish.user else ()
    return GstreamerSettings(
        name=f"{wish.kind} {wish.source if wish.kind != 'gstreamer' else wish.source.partition('!')[0].strip()}"[:120],
        pipeline=text,
        live=wish.kind != "video",
        loop=wish.loop,
        exposure_ns=round(wish.exposure_us * 1000),
        early_ns=wish.early_ns,
        late_ns=wish.late_ns,
        free=not wish.triggered,
        properties=secrets,
    )


def _v4l2(wish: StreamWish) -> str:
    if not wish.source.startswith("/dev/"):
        raise ConfigError(f"camera.stream.source: expected a device node such as /dev/video0, got {wish.source!r}")
    controls = []
    if wish.exposure_us:
        # V4L2: auto_exposure 1 is manual; exposure_time_absolute counts 100 us.
        controls += ["auto_exposure=1", f"exposure_time_absolute={max(1, round(wish.exposure_us / 100))}"]
    if wish.gain:
        controls.append(f"gain={round(wish.gain)}")
    extra = f' extra-controls="c,{",".join(controls)}"' if controls else ""
    # Cameras give JPEG at their higher rates: decodebin takes what there is.
    return f"v4l2src name=source device={_quoted(wish.source)}{extra}{_caps(wish, 'video/x-raw;image/jpeg')} ! decodebin"


def _csi(wish: StreamWish) -> str:
    if not wish.source.isdigit():
        raise ConfigError(f"camera.stream.source: expected a sensor's number such as 0, got {wish.source!r}")
    fixed = ""
    if wish.exposure_us:
        exposure_ns = round(wish.exposure_us * 1000)
        fixed += f' aelock=true exposuretimerange="{exposure_ns} {exposure_ns}"'
    if wish.gain:
        fixed += f' gainrange="{wish.gain:g} {wish.gain:g}" ispdigitalgainrange="1 1"'
    caps = _caps(wish, "video/x-raw(memory:NVMM)") or " ! video/x-raw(memory:NVMM)"
    return f"nvarguscamerasrc name=source sensor-id={wish.source}{fixed}{caps} ! nvvidconv ! video/x-raw,format=BGRx"


def _rtsp(wish: StreamWish) -> str:
    if not wish.source.startswith(("rtsp://", "rtsps://")):
        raise ConfigError(
            f"camera.stream.source: expected an address such as rtsp://camera/stream, got {_redacted(wish.source)!r}"
        )
    if "@" in wish.source.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            f"camera.stream.source: expected no user or password in {_redacted(wish.source)}; use camera.stream.user and "
            "camera.stream.password, which names a file"
        )
    return f"rtspsrc name=source location={_quoted(wish.source)} protocols=tcp latency={wish.latency_ms} ! decodebin"


def _video(wish: StreamWish) -> str:
    if not Path(wish.source).is_file():
        raise ConfigError(f"camera.stream.source: expected a video file, there is none at {wish.source}")
    return f"filesrc name=source location={_quoted(wish.source)} ! decodebin"


def _caps(wish: StreamWish, kinds: str) -> str:
    wanted = []
    if wish.width and wish.height:
        wanted += [f"width={wish.width}", f"height={wish.height}"]
    if wish.rate_hz:
        wanted.append(f"framerate={round(wish.rate_hz * 1000)}/1000")
    if not wanted:
        return ""
    return " ! " + _quoted(";".join(",".join([kind, *wanted]) for kind in kinds.split(";")))


def _quoted(text: str) -> str:
    """One word of a pipeline, whatever it holds."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _redacted(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", address)


_WRITERS: dict[str, Callable[[StreamWish], str]] = {"v4l2": _v4l2, "csi": _csi, "rtsp": _rtsp, "video": _video}
