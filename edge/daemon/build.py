"""From configuration to parts: which camera, which trigger, which model. Each failure says what to do."""

from collections.abc import Callable
from pathlib import Path

from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.camera.base import Camera
from edge.clock import Clock
from edge.config.station import StationConfig
from edge.daemon import build_camera
from edge.daemon.stages.compose import check_room
from edge.daemon.stages.framecheck import FrameCheck
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.recorder import Recorder
from edge.daemon.state.drift import DriftWatch
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.masters import MasterWatch
from edge.daemon.state.phase import Station
from edge.drift.monitor import DriftMonitor, DriftSettings
from edge.engine import open_engine
from edge.engine.base import Engine
from edge.journal.evidence import EvidenceStore
from edge.judge import Judge
from edge.limits.apply import with_limit
from edge.limits.file import read_limit
from edge.page.live import LiveView
from edge.page.server import PageServer
from edge.trigger.base import TriggerSource
from edge.trigger.command import CommandTrigger
from edge.trigger.frames import FrameTrigger, PartDetector
from edge.trigger.gpio import GpioSettings, GpioTrigger
from edge.trigger.pitch import PitchTrigger
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
    """The camera of the configuration, not opened yet. Raises ConfigError: a setting it does not know, a missing library."""
    return build_camera.make_camera(config.camera)


def make_check(config: StationConfig) -> FrameCheck:
    """What questions each frame. Raises ConfigError: a sight that cannot be read."""
    camera = config.camera
    kinds = {view.kind for view in build_camera.views_of(camera)} or {camera.kind}
    return FrameCheck(camera.early_ms, build_camera.sights_of(camera), torn=not kinds & build_camera.COMPRESSED)


def make_trigger(config: StationConfig, clock: Clock, camera: Camera) -> tuple[TriggerSource, Camera]:
    """The source of triggers, not opened yet, and the camera as the station uses it: one that triggers is both.

    Raises:
        ConfigError: a setting that cannot be.
    """
    wanted = config.trigger
    if wanted.kind in {"camera", "motion"}:
        frames = FrameTrigger(camera, PartDetector(wanted.change) if wanted.kind == "motion" else None)
        return _pitched(frames, wanted.min_pitch_ms), frames
    return _pitched(_source(config, clock), wanted.min_pitch_ms), camera


def _source(config: StationConfig, clock: Clock) -> TriggerSource:
    wanted = config.trigger
    if wanted.kind == "timer":
        return TimerTrigger(wanted.period_ms, clock)
    if wanted.kind == "mqtt":
        return CommandTrigger()
    if wanted.kind in {"gpio", "encoder"}:
        counts = wanted.pitch_counts if wanted.kind == "encoder" else 0
        return GpioTrigger(GpioSettings(wanted.chip, wanted.line, wanted.line_b, wanted.edge, wanted.debounce_us, counts))
    return UdpTrigger(*config.listen_address())


def _pitched(source: TriggerSource, min_pitch_ms: float) -> TriggerSource:
    return PitchTrigger(source, min_pitch_ms) if min_pitch_ms else source


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


def make_page(config: StationConfig, view: LiveView) -> PageServer:
    """The page's server, not started yet."""
    page = config.page
    evidence = config.evidence_folder if config.evidence.enabled else None
    return PageServer(view, page.host, page.port, allowed_hosts=tuple(page.allowed_hosts), evidence=evidence)


def make_identity(config: StationConfig, bundle: Bundle, boot: str, key: bytes | None) -> Identity:
    """What is the same on every verdict. Raises ConfigError: the names are too long together."""
    model, recipe, limit = references(bundle.manifest, bundle.sha256)
    station = config.station
    who = Identity(
        station.station,
        boot,
        station.gate,
        station.lot,
        config.camera.id,
        config.deadline.valid_ms,
        model,
        recipe,
        limit,
        key,
        build_camera.names_of(config.camera),
    )
    check_room(who)
    return who
