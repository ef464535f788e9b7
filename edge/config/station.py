"""station.toml: every key with its unit, its default and the reason for it. `edge.config.file` reads and prints the file.

The file holds no secrets: it names their files, or they come from the service manager's credentials (`mqtt.password`,
`verdict.key`, `journal.key`). Paths are relative to the file's own folder.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bundle.signing import private_from
from edge.config.inputs import Camera, Trigger, check_camera, listen_address
from edge.config.masters import Master, parse_shift
from edge.config.outputs import Bridge, Evidence, Journal, Mqtt, Page, Seal
from edge.errors import ConfigError
from edge.mqtt.settings import Broker, read_secret
from edge.wire.codec import Name, Text24
from edge.wire.topics import DEFAULT_PREFIX, Topics
from edge.wire.verdict import MIN_MAC_KEY_BYTES

MAC_CREDENTIAL = "verdict.key"
ANCHOR_CREDENTIAL = "journal.key"
PASSWORD_CREDENTIAL = "mqtt.password"  # noqa: S105 - a name

Doc = msgspec.Meta


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where this is: the levels of every topic, ISA-95 order."""

    site: Annotated[Name, Doc(description="plant")]
    area: Annotated[Name, Doc(description="hall or department")]
    line: Annotated[Name, Doc(description="production line")]
    station: Annotated[Name, Doc(description="this station; also the first part of every verdict's id")]
    gate: Annotated[Name, Doc(description="the gate its verdicts go to")] = "g1"
    prefix: Annotated[str, Doc(description="what every topic begins with")] = DEFAULT_PREFIX
    lot: Annotated[Text24, Doc(description="lot or order written on every verdict; empty for none")] = ""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What judges."""

    bundle: Annotated[str, Doc(description="the signed model file, NAME.onbelt")]
    limit: Annotated[str, Doc(description="signed limit file made by onbelt limit for this model; empty: the bundle's own")] = ""
    trust: Annotated[
        list[str], Doc(max_length=8, description="folders of trusted keys (*.pub); empty: shipped, ~/.config/onbelt, /etc/onbelt")
    ] = []
    engine: Annotated[
        Literal["auto", "openvino", "onnxruntime", "tensorrt"], Doc(description="auto takes the first that runs the model")
    ] = "auto"
    threads: Annotated[int, Doc(ge=0, le=256, description="CPU threads of the engine; 0 takes every core it may use")] = 0
    uncertain_band: Annotated[
        list[float],
        Doc(max_length=2, description="[low, high] around 1.0 in units of the limit: verdict uncertain inside; empty for none"),
    ] = []
    budget_ms: Annotated[
        float, Doc(ge=0.0, description="ms; engine p99 above which the station does not arm; 0 takes the bundle's own")
    ] = 0.0
    check_valid_h: Annotated[
        float, Doc(gt=0.0, le=168.0, description="hours a self-check counts; it is renewed in pauses from half of that on")
    ] = 8.0
    keep_warm_s: Annotated[
        float, Doc(ge=0.0, description="s without parts after which a golden frame keeps caches and clocks warm; 0 never")
    ] = 1.0


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Alarms when what the limit promises stops being true; they promise nothing unless the shares are right."""

    enabled: Annotated[bool, Doc(description="watch for drift; state bad_share and bad_passed of this line first")] = False
    parts_per_alarm: Annotated[
        float, Doc(ge=1000.0, le=1e12, description="mean number of parts between false alarms, at least")
    ] = 10_000_000.0
    bad_share: Annotated[float, Doc(ge=0.0, le=0.5, description="share of all parts that may be bad without an alarm")] = 0.02
    bad_passed: Annotated[
        float, Doc(ge=0.0, le=0.5, description="share of passed parts that may be bad, or of a batch unlike the others")
    ] = 0.01


class SelfCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What proves that judging is right, besides the bundle's golden frames."""

    shifts: Annotated[
        list[str], Doc(max_length=8, description='local times "HH:MM" at which a shift begins: the self-check runs anew then')
    ] = []
    masters: Annotated[
        list[str],
        Doc(
            max_length=8,
            description='master parts by the number their trigger carries: "ID=pass", "ID=reject", "ID=reject@1.3-4.0" (score)',
        ),
    ] = []
    master_valid_h: Annotated[
        float, Doc(gt=0.0, le=168.0, description="hours after which a master part must have come by again; not armed without")
    ] = 12.0
    grace_min: Annotated[
        float,
        Doc(
            ge=0.0, le=480.0, description="minutes after a shift or another model began until the master parts must have come by"
        ),
    ] = 15.0


class Deadline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time a verdict has."""

    valid_ms: Annotated[float, Doc(gt=0.0, le=60_000.0, description="ms after the trigger until which a verdict is valid")]
    give_up_ms: Annotated[
        float, Doc(ge=0.0, description="ms after the trigger when an unfinished part is answered invalid; 0: 90 % of valid_ms")
    ] = 0.0


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What sets the wall clock."""

    source: Annotated[
        Literal["auto", "ptp"], Doc(description="auto asks the kernel: ntp or free; ptp where PTP disciplines the system clock")
    ] = "auto"


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon as a process."""

    priority: Annotated[
        int, Doc(ge=0, le=49, description="real-time priority of the inference thread (SCHED_FIFO); 0 leaves it ordinary")
    ] = 0
    cpus: Annotated[
        list[int],
        Doc(max_length=256, description="processors of the inference thread, best ones nothing else runs on; empty: any"),
    ] = []
    lock_memory: Annotated[bool, Doc(description="keep every page in memory; needs LimitMEMLOCK, as the unit has")] = False


class StationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    station: Station
    model: Model
    deadline: Deadline
    drift: Drift = Drift()
    selfcheck: SelfCheck = SelfCheck()
    camera: Camera = Camera()
    trigger: Trigger = Trigger()
    mqtt: Mqtt = Mqtt()
    seal: Seal = Seal()
    page: Page = Page()
    journal: Journal = Journal()
    evidence: Evidence = Evidence()
    clock: Clock = Clock()
    process: Process = Process()
    bridge: Bridge = Bridge()

    def check(self) -> None:
        """What holds between keys.

        Raises:
            ConfigError: the text names the keys.
        """
        self.topics()
        valid, give_up = self.deadline.valid_ms, self.deadline.give_up_ms
        if give_up >= valid:
            raise ConfigError(f"deadline.give_up_ms: expected less than deadline.valid_ms = {valid:g}, got {give_up:g}")
        if self.model.uncertain_band and len(self.model.uncertain_band) != 2:
            raise ConfigError(f"model.uncertain_band: expected [low, high] or [], got {self.model.uncertain_band}")
        self.masters()
        self.shifts()
        check_camera(self.camera)
        if bool(self.mqtt.cert) != bool(self.mqtt.key):
            raise ConfigError("mqtt.cert and mqtt.key: expected both or none")
        if (self.mqtt.ca or self.mqtt.cert) and not self.mqtt.tls:
            raise ConfigError("mqtt.ca and mqtt.cert have no effect while mqtt.tls = false; switch it on or remove them")
        if self.mqtt.password and not self.mqtt.user:
            raise ConfigError("mqtt.password: expected mqtt.user beside it; a password alone is not sent")
        self.listen_address()

    @property
    def give_up_ms(self) -> float:
        """When an unfinished part is answered `invalid`, ms after its trigger."""
        # A tenth of the time is what journal and broker took at worst here (p99.9 of 9 ms for the disk, 1 ms for the way).
        return self.deadline.give_up_ms or 0.9 * self.deadline.valid_ms

    @property
    def evidence_folder(self) -> Path:
        """Where evidence lies."""
        return Path(self.evidence.path) if self.evidence.path else Path(self.journal.path).parent / "evidence"

    def masters(self) -> tuple[Master, ...]:
        """The master parts. Raises ConfigError: one is not understood, or named twice."""
        masters = tuple(Master.parse(text) for text in self.selfcheck.masters)
        if len({one.part_id for one in masters}) != len(masters):
            raise ConfigError(f"selfcheck.masters: expected each part once, got {', '.join(self.selfcheck.masters)}")
        return masters

    def shifts(self) -> tuple[int, ...]:
        """When shifts begin, minutes since midnight. Raises ConfigError."""
        return tuple(map(parse_shift, self.selfcheck.shifts))

    def topics(self) -> Topics:
        """The station's topics. Raises ConfigError."""
        where = self.station
        return Topics(where.site, where.area, where.line, where.station, where.prefix)

    def listen_address(self) -> tuple[str, int]:
        """Host and port for trigger datagrams. Raises ConfigError."""
        return listen_address(self.trigger)

    def broker(self) -> Broker:
        """The broker, with the password read from its file or from the service manager's credentials. Raises ConfigError."""
        mqtt = self.mqtt
        password = read_secret(PASSWORD_CREDENTIAL, mqtt.password).decode(errors="replace") if mqtt.user else ""
        return Broker(
            mqtt.host, mqtt.port, mqtt.protocol, mqtt.keepalive_s, mqtt.user, password, mqtt.tls, mqtt.ca, mqtt.cert, mqtt.key
        )

    def mac_key(self) -> bytes | None:
        """The key verdicts are sealed with, None when they are not. Raises ConfigError: missing or too short."""
        if not self.seal.enabled:
            return None
        key = read_secret(MAC_CREDENTIAL, self.seal.mac_key)
        if len(key) < MIN_MAC_KEY_BYTES:
            raise ConfigError(
                f"seal.enabled: expected a key of at least {MIN_MAC_KEY_BYTES} bytes, got {len(key)}; name its file in "
                f"seal.mac_key, or add LoadCredential={MAC_CREDENTIAL}:/etc/onbelt/credentials/{MAC_CREDENTIAL} to the service"
            )
        return key

    def anchor_key(self) -> Ed25519PrivateKey | None:
        """The key the chain's heads are signed with, None where they are not. Raises ConfigError: missing, or no such key."""
        if not self.journal.anchors:
            return None
        content = read_secret(ANCHOR_CREDENTIAL, self.journal.anchor_key)
        if not content:
            raise ConfigError(
                "journal.anchors: expected an Ed25519 key, there is none; make one with onbelt keygen, name its file in "
                f"journal.anchor_key, or add LoadCredential={ANCHOR_CREDENTIAL}:/etc/onbelt/credentials/{ANCHOR_CREDENTIAL}"
            )
        return private_from(content, self.journal.anchor_key or ANCHOR_CREDENTIAL)

    def trust_folders(self) -> list[Path]:
        """Folders of trusted keys named in the file."""
        return [Path(folder) for folder in self.model.trust]
