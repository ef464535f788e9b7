"""station.toml, the sections of what comes in: cameras and triggers."""

from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError
from edge.wire.codec import Name

Doc = msgspec.Meta
CAMERA_CREDENTIAL = "camera.password"


class Folder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """camera.kind = "folder": pictures from files, one per trigger, in the order of their names."""

    path: Annotated[str, Doc(description="folder of PNG, JPEG, BMP or TIFF pictures; subfolders are not entered")] = ""
    loop: Annotated[bool, Doc(description="begin again after the last picture; false: no more frames then")] = True


class Belt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """camera.kind = "belt": the simulated belt, with a knob for every fault a camera has."""

    product: Annotated[str, Doc(description="what runs on the belt: tray, vials or harness")] = "tray"
    seed: Annotated[int, Doc(ge=0, description="the same seed gives the same parts, pixel by pixel")] = 1
    size: Annotated[int, Doc(ge=128, le=2048, description="px a side of a frame")] = 256
    logical_share: Annotated[float, Doc(ge=0.0, le=1.0, description="share of parts with a logical defect")] = 0.05
    structural_share: Annotated[float, Doc(ge=0.0, le=1.0, description="share of parts with a structural defect")] = 0.05
    faults: Annotated[
        list[str],
        Doc(
            max_length=64,
            description='faults: "kind", "kind=strength", "kind=strength@first-last" part: "frozen@40-49", "late=0.3"',
        ),
    ] = []


class Genicam(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """camera.kind = "genicam": GigE Vision or USB3 Vision through Aravis."""

    device: Annotated[
        str, Doc(max_length=128, description="its id as arv-tool-0.8 lists it, or its address; empty: the first")
    ] = ""
    mode: Annotated[
        Literal["free", "hardware", "software"],
        Doc(description="free: runs by itself; hardware: each edge of line exposes; software: exposes when a part is triggered"),
    ] = "hardware"
    line: Annotated[str, Doc(max_length=32, description="trigger input of the camera, for mode hardware")] = "Line1"
    rate_hz: Annotated[float, Doc(ge=0.0, le=2000.0, description="frames a second in mode free; 0: the camera's own")] = 0.0
    exposure_us: Annotated[float, Doc(ge=0.0, le=10_000_000.0, description="us of exposure; 0: the camera's own")] = 0.0
    gain: Annotated[float, Doc(ge=0.0, le=100.0, description="gain in the camera's unit, mostly dB; 0: the camera's own")] = 0.0
    pixel_format: Annotated[
        Literal["", "Mono8", "RGB8", "BGR8"],
        Doc(description="Mono8, RGB8 or BGR8; empty: the camera's own, if it is one of them"),
    ] = ""
    region: Annotated[
        list[int], Doc(max_length=4, description="[x, y, width, height] in sensor pixels; empty: the camera's own")
    ] = []
    packet_socket: Annotated[
        bool,
        Doc(description="read by packet socket: less load, not on loopback; needs CAP_NET_RAW, which the unit does not give"),
    ] = False
    strobe: Annotated[str, Doc(max_length=32, description="output line that follows the exposure, for a flash; empty: none")] = ""
    socket_buffer_mb: Annotated[
        float, Doc(gt=0.0, le=256.0, description="MB of the stream's socket buffer; too small loses half of the frames")
    ] = 4.0


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """camera.kind = "v4l2", "csi", "rtsp", "video" or "gstreamer": cameras through GStreamer."""

    source: Annotated[
        str,
        Doc(
            max_length=2000,
            description="v4l2: /dev/video0; csi: sensor number; rtsp: address; video: file; gstreamer: a pipeline up to its sink",
        ),
    ] = ""
    width: Annotated[int, Doc(ge=0, le=65535, description="px; 0: the camera's own")] = 0
    height: Annotated[int, Doc(ge=0, le=65535, description="px; 0: the camera's own")] = 0
    rate_hz: Annotated[float, Doc(ge=0.0, le=2000.0, description="frames a second; 0: the camera's own")] = 0.0
    exposure_us: Annotated[float, Doc(ge=0.0, le=10_000_000.0, description="us of exposure (v4l2, csi); 0: automatic")] = 0.0
    gain: Annotated[float, Doc(ge=0.0, le=10_000.0, description="in the driver's unit (v4l2, csi); 0: automatic")] = 0.0
    latency_ms: Annotated[int, Doc(ge=0, le=10_000, description="ms of an rtsp camera's jitter buffer: added to every part")] = 20
    loop: Annotated[bool, Doc(description="begin a video again at its end; false: no more frames then")] = True
    user: Annotated[str, Doc(max_length=128, description="user name of an rtsp camera; empty: none")] = ""
    password: Annotated[
        str, Doc(description="file with its password, mode 0600; empty: the service manager's credential camera.password")
    ] = ""
    triggered: Annotated[
        bool, Doc(description="the sensor exposes by hardware at each part; false: it runs by itself, frames begun later count")
    ] = False


class Picamera2(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """camera.kind = "picamera2": Raspberry Pi cameras; written against the documentation, not tried on hardware yet."""

    number: Annotated[int, Doc(ge=0, le=15, description="as rpicam-hello --list-cameras counts them")] = 0
    width: Annotated[int, Doc(ge=16, le=65535, description="px of a frame")] = 640
    height: Annotated[int, Doc(ge=16, le=65535, description="px of a frame")] = 480
    rate_hz: Annotated[float, Doc(ge=0.0, le=2000.0, description="frames a second; 0: libcamera's own")] = 0.0
    exposure_us: Annotated[float, Doc(ge=0.0, le=10_000_000.0, description="us of exposure; 0: automatic")] = 0.0
    gain: Annotated[float, Doc(ge=0.0, le=100.0, description="analogue gain; 0: automatic")] = 0.0


class Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The camera over the belt."""

    kind: Annotated[
        Literal["belt", "folder", "genicam", "v4l2", "csi", "rtsp", "video", "gstreamer", "picamera2", "several"],
        Doc(
            description="belt (simulated), folder (of pictures), genicam (GigE, USB3 Vision), v4l2 (USB), csi (Jetson), rtsp, "
            "video (a file), gstreamer (a pipeline), picamera2, several (views)"
        ),
    ] = "belt"
    id: Annotated[Name, Doc(description="its name in camera/{id}/state and in every verdict")] = "c1"
    early_ms: Annotated[
        float, Doc(ge=0.0, description="ms a frame may begin before its trigger's stamp; earlier ones show another part")
    ] = 20.0
    late_ms: Annotated[
        float,
        Doc(
            ge=0.0,
            le=60_000.0,
            description="ms it may begin after it; with early_ms less than from part to part. 0: 10, free-running two periods",
        ),
    ] = 0.0
    region: Annotated[
        list[int], Doc(max_length=4, description="[x, y, width, height] in pixels of its frames that is judged; empty: all")
    ] = []
    sight: Annotated[
        str, Doc(description="file made by onbelt sight: what it should see; anything else is invalid. Empty: not asked")
    ] = ""
    rotate: Annotated[Literal[0, 90, 180, 270], Doc(description="degrees clockwise, after the region was cut")] = 0
    views: Annotated[
        list[str],
        Doc(
            max_length=4,
            description="of kind several: files with one [camera] each; their pictures stand side by side, and all must come",
        ),
    ] = []
    belt: Belt = Belt()
    folder: Folder = Folder()
    genicam: Genicam = Genicam()
    stream: Stream = Stream()
    picamera2: Picamera2 = Picamera2()


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What says that a part stands before the camera."""

    kind: Annotated[
        Literal["udp", "timer", "mqtt", "gpio", "encoder", "camera", "motion"],
        Doc(
            description="udp (datagrams of the line), timer (for trials), mqtt (cmd/trigger), gpio (an edge), encoder (counts), "
            "camera (every frame is a part) or motion (a part is seen)"
        ),
    ] = "udp"
    listen: Annotated[str, Doc(description="host:port of kind udp; loopback, since datagrams carry no proof of their sender")] = (
        "127.0.0.1:47101"
    )
    clock: Annotated[
        Literal["shared", "arrival"],
        Doc(description="shared: the stamp is this machine's CLOCK_MONOTONIC; arrival: the time it arrives counts"),
    ] = "shared"
    period_ms: Annotated[float, Doc(gt=0.0, description="ms between triggers of kind timer")] = 1000.0
    min_pitch_ms: Annotated[
        float, Doc(ge=0.0, le=60_000.0, description="ms; a trigger sooner after another is counted as one too many; 0: any")
    ] = 0.0
    chip: Annotated[str, Doc(max_length=128, description="GPIO chip of kinds gpio and encoder")] = "/dev/gpiochip0"
    line: Annotated[int, Doc(ge=0, le=1023, description="its line with the light barrier, or the encoder's channel A")] = 0
    line_b: Annotated[int, Doc(ge=-1, le=1023, description="the encoder's channel B, for its direction; -1: none")] = -1
    edge: Annotated[Literal["rising", "falling"], Doc(description="of kind gpio: which edge is a part")] = "rising"
    debounce_us: Annotated[
        int, Doc(ge=0, le=1_000_000, description="us a GPIO line must hold its level; shorter ones are not seen; 0: none")
    ] = 1000
    pitch_counts: Annotated[int, Doc(ge=1, le=10_000_000, description="of kind encoder: counts from part to part")] = 1000
    change: Annotated[
        float, Doc(gt=0.0, le=255.0, description="of kind motion: mean grey levels by which a part differs from the empty belt")
    ] = 12.0


def check_camera(camera: Camera) -> None:
    """What holds between the camera's keys. Raises ConfigError: the text names them."""
    kind = camera.kind
    if kind == "folder" and not camera.folder.path:
        raise ConfigError("camera.folder.path: expected a folder of pictures, since camera.kind is folder")
    if kind in {"v4l2", "csi", "rtsp", "video", "gstreamer"} and not camera.stream.source:
        raise ConfigError(f"camera.stream.source: expected one, since camera.kind is {kind}")
    if (kind == "several") != bool(camera.views):
        raise ConfigError('camera.views: expected two to four files with camera.kind = "several", and none with another kind')
    if kind == "several" and len(camera.views) < 2:
        raise ConfigError("camera.views: expected two to four files, got one; use that camera's kind itself")
    if camera.stream.password and not camera.stream.user:
        raise ConfigError("camera.stream.password: expected camera.stream.user beside it; a password alone is not sent")
    for key, region in (("camera.genicam.region", camera.genicam.region), ("camera.region", camera.region)):
        if region and (len(region) != 4 or min(region) < 0 or min(region[2:]) < 1):
            raise ConfigError(f"{key}: expected [x, y, width, height] in pixels or [], got {region}")


def listen_address(trigger: Trigger) -> tuple[str, int]:
    """Host and port for trigger datagrams. Raises ConfigError."""
    host, _, port = trigger.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"trigger.listen: expected host:port such as 127.0.0.1:47101, got {trigger.listen!r}")
    host = host.strip("[]")
    if trigger.clock == "shared" and host not in {"127.0.0.1", "::1", "localhost"}:
        raise ConfigError(
            f'trigger.listen: expected a loopback address with trigger.clock = "shared", got {host}: stamps of another '
            'machine\'s clock say nothing here; use 127.0.0.1, or trigger.clock = "arrival"'
        )
    return host, int(port)
