"""From configuration to a camera. Adapters of vendors are imported when they are asked for: no box needs all of them."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge.camera.base import Camera
from edge.camera.folder import FolderCamera
from edge.camera.pipelines import StreamWish, pipeline_of
from edge.camera.several import SeveralCameras
from edge.camera.sight import Sight, read_sight
from edge.camera.view import ViewedCamera
from edge.config import inputs
from edge.config.file import require_camera
from edge.config.inputs import CAMERA_CREDENTIAL, check_camera
from edge.config.unknown import unknown_keys
from edge.daemon.stages.parts import NS_PER_MS
from edge.errors import ConfigError
from edge.mqtt.settings import read_secret

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_VIEW_BYTES = 16 * 1024
SIMULATED = frozenset({"belt", "folder", "video"})  # no real part stands before them
COMPRESSED = frozenset({"rtsp", "video"})  # their decoders repeat rows that have not changed


def make_camera(camera: inputs.Camera) -> Camera:
    """The camera of the configuration, not opened yet. Raises ConfigError: a setting it does not know, a missing library."""
    if camera.kind == "several":
        return SeveralCameras([(view.id, make_camera(view)) for view in views_of(camera)])
    made = _MAKERS[camera.kind](camera)
    if not camera.region and not camera.rotate:
        return made
    x, y, width, height = camera.region or (0, 0, 0, 0)
    return ViewedCamera(made, (x, y, width, height), camera.rotate)


def names_of(camera: inputs.Camera) -> tuple[str, ...]:
    """What verdicts call the cameras of a part; empty for a single one. Raises ConfigError."""
    names = tuple(view.id for view in views_of(camera)) if camera.kind == "several" else ()
    if len(set(names)) != len(names):
        raise ConfigError(f"camera.views: expected a camera.id of its own in each file, got {', '.join(names)}")
    return names


def is_simulated(camera: inputs.Camera) -> bool:
    """Whether its pictures, or those of one of its views, are drawn or come from files. Raises ConfigError."""
    return bool(({view.kind for view in views_of(camera)} or {camera.kind}) & SIMULATED)


def sights_of(camera: inputs.Camera) -> dict[str, Sight]:
    """What each camera should see, by name, empty for a single one. Raises ConfigError: a file that is no sight."""
    if camera.kind != "several":
        return {"": read_sight(Path(camera.sight))} if camera.sight else {}
    return {view.id: read_sight(Path(view.sight)) for view in views_of(camera) if view.sight}


def views_of(camera: inputs.Camera) -> list[inputs.Camera]:
    """The cameras of kind several, from their files. Raises ConfigError: unreadable, unknown keys, impossible values."""
    return [_view(Path(path)) for path in camera.views]


class _ViewFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    camera: inputs.Camera


def _view(path: Path) -> inputs.Camera:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_VIEW_BYTES + 1)
        camera = _parse_view(content)
    except OSError as exc:
        raise ConfigError(f"camera.views: {path} cannot be read ({exc.strerror}); it holds one [camera] section") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, ConfigError) as exc:
        raise ConfigError(f"camera.views: {path}: {exc}; keys are those of [camera] in docs/examples/station.toml") from exc
    sight = str((path.parent / camera.sight).absolute()) if camera.sight else ""
    folder = msgspec.structs.replace(camera.folder, path=str((path.parent / camera.folder.path).absolute()))
    return msgspec.structs.replace(camera, sight=sight, folder=folder if camera.folder.path else camera.folder)


def _parse_view(content: bytes) -> inputs.Camera:
    if len(content) > MAX_VIEW_BYTES:
        raise ConfigError(f"expected at most {MAX_VIEW_BYTES} bytes, it is larger; this is no camera's file")
    data = tomllib.loads(content.decode())
    if unknown := unknown_keys(data, _ViewFile):
        raise ConfigError("; ".join(unknown))
    camera = msgspec.convert(data, _ViewFile).camera
    require_camera(data)
    if camera.kind == "several":
        raise ConfigError("camera.kind: expected one camera here, got several")
    check_camera(camera)
    return camera


def _late_ns(camera: inputs.Camera) -> int:
    return round(camera.late_ms * NS_PER_MS)


def _make_folder(camera: inputs.Camera) -> Camera:
    return FolderCamera(Path(camera.folder.path), loop=camera.folder.loop)


def _make_genicam(camera: inputs.Camera) -> Camera:
    try:
        from edge.camera.genicam import GenicamCamera, GenicamSettings
    except (ImportError, ValueError) as exc:
        raise ConfigError(
            f'camera.kind = "genicam" needs Aravis and PyGObject, which cannot be loaded ({exc}); '
            "apt-get install gir1.2-aravis-0.8, and pip install 'onbelt[genicam]'"
        ) from exc
    genicam = camera.genicam
    x, y, width, height = genicam.region or (0, 0, 0, 0)
    return GenicamCamera(
        GenicamSettings(
            device=genicam.device,
            mode=genicam.mode,
            line=genicam.line,
            rate_hz=genicam.rate_hz,
            exposure_us=genicam.exposure_us,
            gain=genicam.gain,
            pixel_format=genicam.pixel_format,
            region=(x, y, width, height),
            strobe=genicam.strobe,
            early_ns=round(camera.early_ms * NS_PER_MS),
            late_ns=_late_ns(camera),
            packet_socket=genicam.packet_socket,
            socket_buffer_bytes=round(genicam.socket_buffer_mb * 2**20),
        )
    )


def _make_stream(camera: inputs.Camera) -> Camera:
    stream = camera.stream
    assert camera.kind in {"v4l2", "csi", "rtsp", "video", "gstreamer"}
    settings = pipeline_of(
        StreamWish(
            kind=camera.kind,  # type: ignore[arg-type]  # the assertion above says which
            source=stream.source,
            width=stream.width,
            height=stream.height,
            rate_hz=stream.rate_hz,
            exposure_us=stream.exposure_us,
            gain=stream.gain,
            latency_ms=stream.latency_ms,
            loop=stream.loop,
            user=stream.user,
            password=read_secret(CAMERA_CREDENTIAL, stream.password).decode(errors="replace") if stream.user else "",
            early_ns=round(camera.early_ms * NS_PER_MS),
            late_ns=_late_ns(camera),
            triggered=stream.triggered,
        )
    )
    try:
        from edge.camera.gstreamer import GstreamerCamera
    except (ImportError, ValueError) as exc:
        raise ConfigError(
            f'camera.kind = "{camera.kind}" needs GStreamer and PyGObject, which cannot be loaded ({exc}); apt-get install '
            "gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good, and pip install 'onbelt[genicam]'"
        ) from exc
    return GstreamerCamera(settings)


def _make_picamera2(camera: inputs.Camera) -> Camera:
    try:
        from edge.camera.picamera2 import Picamera2Camera, Picamera2Settings
    except ImportError as exc:
        raise ConfigError(
            f'camera.kind = "picamera2" needs picamera2, which cannot be loaded ({exc}); apt-get install python3-picamera2 on a '
            "Raspberry Pi, and a virtual environment that sees the system's packages"
        ) from exc
    wanted = camera.picamera2
    return Picamera2Camera(
        Picamera2Settings(
            wanted.number, wanted.width, wanted.height, wanted.rate_hz, wanted.exposure_us, wanted.gain, _late_ns(camera)
        )
    )


def _make_belt(camera: inputs.Camera) -> Camera:
    from edge.camera.belt import BeltCamera
    from edge.camera.belt_faults import FaultKind

    belt = camera.belt
    made = BeltCamera(
        belt.product,
        belt.seed,
        size=belt.size,
        logical_share=belt.logical_share,
        structural_share=belt.structural_share,
        late_ns=_late_ns(camera),
    )
    for text in belt.faults:
        match = re.fullmatch(r"([a-z]+)(?:=(-?[\d.]+))?(?:@(\d+)-(\d+))?", text)
        kind, strength, first, last = match.groups() if match else (text, None, None, None)
        try:
            parts = None if first is None or last is None else range(int(str(first)), int(str(last)) + 1)
            made.fail(FaultKind(kind), None if strength is None else float(strength), parts)
        except ValueError as exc:
            kinds = ", ".join(one.value for one in FaultKind)
            raise ConfigError(
                f'camera.belt.faults: {text!r}: {exc}; expected "kind", "kind=strength" or "kind=strength@first-last", '
                f"kinds are {kinds}"
            ) from exc
    return made


_MAKERS: dict[str, Callable[[inputs.Camera], Camera]] = {
    "belt": _make_belt,
    "folder": _make_folder,
    "genicam": _make_genicam,
    "picamera2": _make_picamera2,
    **dict.fromkeys(("v4l2", "csi", "rtsp", "video", "gstreamer"), _make_stream),
}
