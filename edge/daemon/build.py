"""From configuration to parts: which camera, which trigger, which model. Each failure says what to do."""

import re
from collections.abc import Callable
from pathlib import Path

from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.camera.base import Camera
from edge.camera.folder import FolderCamera
from edge.clock import Clock
from edge.daemon.compose import Identity, check_room
from edge.daemon.config import Belt, Genicam, StationConfig
from edge.daemon.drift import DriftWatch
from edge.daemon.escape import EscapeWatch
from edge.daemon.masters import MasterWatch
from edge.daemon.parts import NS_PER_MS
from edge.daemon.phase import Station
from edge.daemon.recorder import Recorder
from edge.drift.monitor import DriftMonitor, DriftSettings
from edge.engine import open_engine
from edge.engine.base import Engine
from edge.errors import ConfigError
from edge.journal.evidence import EvidenceStore
from edge.judge import Judge
from edge.limits.apply import with_limit
from edge.limits.file import read_limit
from edge.trigger.base import TriggerSource
from edge.trigger.command import CommandTrigger
from edge.trigger.timer import TimerTrigger
from edge.trigger.udp import UdpTrigger
from edge.update.limited import limited
from edge.wire.verdict import references


def load_bundle(config: StationConfig) -> Bundle:
    """Open and verify the model file, and the limit file where one is named.

    Raises:
        BundleError, SignatureError, LimitError, ConfigError: one of them is not to be used.
    """
    folders = config.trust_folders()
    trust = TrustStore.from_folders(folders) if folders else default_trust()
    path = Path(config.model.bundle)
    bundle = open_bundle(path, trust)
    if path.is_symlink():  # an updater moves it: the limit file is for one of the networks it brings
        return limited(bundle, config.model.limit, trust)
    return with_limit(bundle, read_limit(Path(config.model.limit), trust)) if config.model.limit else bundle


def make_camera(config: StationConfig) -> Camera:
    """The camera of the configuration, not opened yet. Raises ConfigError: a setting it does not know.

    The belt is imported when it is asked for: a box with a real camera need not pay for it.
    """
    camera = config.camera
    if camera.kind == "folder":
        return FolderCamera(Path(camera.folder.path), loop=camera.folder.loop)
    if camera.kind == "genicam":
        return _make_genicam(camera.genicam, camera.early_ms)
    return _make_belt(camera.belt)


def _make_genicam(genicam: Genicam, early_ms: float) -> Camera:
    try:
        from edge.camera.genicam import GenicamCamera, GenicamSettings
    except (ImportError, ValueError) as exc:
        raise ConfigError(
            f'camera.kind = "genicam" needs Aravis and PyGObject, which cannot be loaded ({exc}); '
            "apt-get install gir1.2-aravis-0.8, and pip install 'onbelt[genicam]'"
        ) from exc
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
            early_ns=round(early_ms * NS_PER_MS),
            packet_socket=genicam.packet_socket,
            socket_buffer_bytes=round(genicam.socket_buffer_mb * 2**20),
        )
    )


def _make_belt(belt: Belt) -> Camera:
    from edge.camera.belt import BeltCamera
    from edge.camera.belt_faults import FaultKind

    camera = BeltCamera(
        belt.product,
        belt.seed,
        size=belt.size,
        logical_share=belt.logical_share,
        structural_share=belt.structural_share,
    )
    for text in belt.faults:
        match = re.fullmatch(r"([a-z]+)(?:=(-?[\d.]+))?(?:@(\d+)-(\d+))?", text)
        kind, strength, first, last = match.groups() if match else (text, None, None, None)
        try:
            parts = None if first is None or last is None else range(int(str(first)), int(str(last)) + 1)
            camera.fail(FaultKind(kind), None if strength is None else float(strength), parts)
        except ValueError as exc:
            kinds = ", ".join(one.value for one in FaultKind)
            raise ConfigError(
                f'camera.belt.faults: {text!r}: {exc}; expected "kind", "kind=strength" or "kind=strength@first-last", '
                f"kinds are {kinds}"
            ) from exc
    return camera


def make_trigger(config: StationConfig, clock: Clock) -> TriggerSource:
    """The source of triggers of the configuration, not opened yet. Raises ConfigError."""
    if config.trigger.kind == "timer":
        return TimerTrigger(config.trigger.period_ms, clock)
    if config.trigger.kind == "mqtt":
        return CommandTrigger()
    return UdpTrigger(*config.listen_address())


def make_engine(config: StationConfig, bundle: Bundle) -> Engine:
    """Build the engine; call it in the thread that will use it. Raises EngineError, BundleError."""
    return open_engine(bundle, config.model.engine, config.model.threads or None)


def make_judge(config: StationConfig, bundle: Bundle) -> Judge:
    """The judge of this model. Raises ConfigError."""
    band = config.model.uncertain_band
    return Judge(bundle.manifest, (band[0], band[1]) if band else None)


def make_drift(config: StationConfig, bundle: Bundle, station: Station, doubt: Callable[[int, str], None]) -> DriftWatch | None:
    """The drift alarms of the limit in force; None when they are off. `doubt` is told which parts one puts in doubt."""
    drift = config.drift
    if not drift.enabled:
        return None
    settings = DriftSettings(drift.parts_per_alarm, drift.bad_share, drift.bad_passed)
    model, _, limit = references(bundle.manifest, bundle.sha256)
    return DriftWatch(DriftMonitor.of(bundle.manifest, settings), station, (model, limit), doubt)


def make_masters(config: StationConfig, station: Station, escape: EscapeWatch, clock: Clock) -> MasterWatch | None:
    """The watch over master parts; None where there are none."""
    check, masters = config.selfcheck, config.masters()
    if not masters:
        return None
    return MasterWatch(masters, station, escape, clock, check.master_valid_h * 3_600_000, check.grace_min * 60_000)


def make_recorder(config: StationConfig, station: Station) -> Recorder | None:
    """What keeps evidence; None where none is to be kept. Raises EvidenceError: its folder cannot be made."""
    evidence = config.evidence
    if not evidence.enabled:
        return None
    store = EvidenceStore(config.evidence_folder, round(evidence.max_mb * 2**20), round(evidence.keep_free_mb * 2**20))
    return Recorder(store, station, evidence.pass_every)


def make_identity(config: StationConfig, bundle: Bundle, boot: str, key: bytes | None) -> Identity:
    """What is the same on every verdict. Raises ConfigError: the names are too long together."""
    model, recipe, limit = references(bundle.manifest, bundle.sha256)
    station = config.station
    who = Identity(
        station.station, boot, station.gate, station.lot, config.camera.id, config.deadline.valid_ms, model, recipe, limit, key
    )
    check_room(who)
    return who
