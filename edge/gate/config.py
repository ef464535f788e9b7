"""gate.toml: one typed file, unknown keys refused, every default with its unit and its reason.

Secrets never stand in the file: it names theirs, or they come from the service manager's credentials.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edge.config.unknown import unknown_keys
from edge.errors import ConfigError
from edge.gate.encoder_table import EncoderTable
from edge.gate.pins import PinSettings
from edge.gate.settings import GateSettings
from edge.mqtt.settings import Broker, read_secret
from edge.wire.codec import Name
from edge.wire.topics import DEFAULT_PREFIX, Topics
from edge.wire.verdict import MIN_MAC_KEY_BYTES

MAC_CREDENTIAL = "verdict.key"

Positive = Annotated[float, msgspec.Meta(gt=0.0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose verdicts count: the levels of the topic, and which of the station's gates this is."""

    site: Name
    area: Name
    line: Name
    station: Name
    gate: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,15}$")] = "g1"
    prefix: str = DEFAULT_PREFIX


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The belt: when a part reaches the rejector after its trigger, what the actuator needs, and the loop's reserve."""

    gate_ms: Positive
    lead_ms: NotNegative = 20.0  # a pneumatic blow-off valve opens in 5 to 20 ms
    margin_ms: NotNegative = 20.0  # worst with six times the work two cores can do: 24 ms late; later than this costs a good part
    min_pitch_ms: NotNegative = 0.0  # 0: `GateConfig.min_pitch_ms` finds it


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contract's numbers. `pass` for a missing verdict does not exist: it would need a signed waiver."""

    on_missing: Literal["reject", "hold"] = "reject"
    on_uncertain: Literal["reject", "reinspect"] = "reject"
    missing_stop: AtLeastOne = 3
    outage_stop_s: Positive = 2.0
    stop_hold_s: NotNegative = 1.0
    stop_retry_s: NotNegative = 5.0
    missed_beats: AtLeastOne = 3
    commissioning_parts: AtLeastOne = 100
    clock_uncertainty_ms: NotNegative = 0.1  # box and gate on one machine share a clock; raise it where they do not
    clock_step_ms: Positive = 50.0
    stamp_apart_ms: NotNegative = 20.0  # a busy box wakes up that late; parts at 30/s are 33 ms apart
    max_slots: AtLeastOne = 256
    require_mac: bool = False
    mac_key: str = ""  # file; without it the credential verdict.key counts


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the gate is armed for; an empty value takes what the station announces."""

    model: str = ""
    limit: str = ""
    recipe: str = ""


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the broker is: the same keys as in station.toml. `password` names a file; without it the credential counts."""

    host: str = "127.0.0.1"
    port: Port = 1883
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: AtLeastOne = 5
    user: str = ""
    password: str = ""
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""


PinNumber = Annotated[int, msgspec.Meta(ge=-1, le=1023)]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The wiring: UDP on loopback, or pins of this box (`edge.gate.pins`); and how often the watchdog is kicked."""

    kind: Literal["udp", "gpio"] = "udp"
    listen: str = "127.0.0.1:47102"
    output: str = "127.0.0.1:47103"
    toggle_ms: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 20.0
    chip: str = "/dev/gpiochip0"
    trigger_pin: PinNumber = -1
    output_pin: PinNumber = -1
    watchdog_pin: PinNumber = -1
    stop_pin: PinNumber = -1
    reinspect_pin: PinNumber = -1
    falling: bool = False
    debounce_us: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1000
    encoder_pin: PinNumber = -1
    encoder_b_pin: PinNumber = -1
    open_ms: Annotated[float, msgspec.Meta(gt=0.0, le=10_000.0)] = 60.0
    forward: str = ""
    socket: str = ""


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate as a process: its loop's real-time priority (SCHED_FIFO, 0 for none), its processors, its memory kept in place."""

    priority: Annotated[int, msgspec.Meta(ge=0, le=49)] = 0
    cpus: Annotated[list[int], msgspec.Meta(max_length=256)] = []
    lock_memory: bool = False


class GateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    station: Station
    timing: Timing
    encoder: EncoderTable = EncoderTable()
    rules: Rules = Rules()
    expect: Expect = Expect()
    mqtt: Mqtt = Mqtt()
    line: Line = Line()
    process: Process = Process()

    def settings(self) -> GateSettings:
        """What the rules need of it.

        Raises:
            ConfigError: the times leave nothing for a verdict.
        """
        rules = {
            name: getattr(self.rules, name) for name in self.rules.__struct_fields__ if name not in {"require_mac", "mac_key"}
        }
        try:
            return GateSettings(
                station=self.station.station,
                gate=self.station.gate,
                gate_ms=self.timing.gate_ms,
                lead_ms=self.timing.lead_ms,
                margin_ms=self.timing.margin_ms,
                model=self.expect.model,
                limit=self.expect.limit,
                recipe=self.expect.recipe,
                sealed=self.rules.require_mac,
                min_pitch_ms=self.min_pitch_ms,
                encoder=self.encoder.settings(self.timing.lead_ms, self.timing.margin_ms),
                **rules,
            )
        except ValueError as exc:
            raise ConfigError(f"[timing]: {exc}") from exc

    @property
    def min_pitch_ms(self) -> float:
        """The shortest pitch in force.

        A pin is a level, which holds for whatever stands before the rejector: unless told otherwise, parts must be as far apart
        as the output stays open for one, which is until that one has gone. Datagrams name their part, and no pitch is asked.
        """
        timing, line = self.timing, self.line
        if timing.min_pitch_ms or line.kind == "udp":
            return timing.min_pitch_ms
        return max(timing.lead_ms + timing.margin_ms, line.open_ms)

    def broker(self) -> Broker:
        """The broker's address, the password read from its file or from the service manager's credentials.

        Raises:
            ConfigError: the file cannot be read, or is readable by everybody.
        """
        mqtt = self.mqtt
        password = read_secret("mqtt.password", mqtt.password).decode()
        return Broker(
            mqtt.host, mqtt.port, mqtt.protocol, mqtt.keepalive_s, mqtt.user, password, mqtt.tls, mqtt.ca, mqtt.cert, mqtt.key
        )

    def mac_key(self) -> bytes:
        """The key of sealed verdicts; empty where none is required.

        Raises:
            ConfigError: required and not there, or too short.
        """
        if not self.rules.require_mac:
            return b""
        key = read_secret(MAC_CREDENTIAL, self.rules.mac_key)
        if len(key) < MIN_MAC_KEY_BYTES:
            raise ConfigError(
                f"rules.require_mac: expected a key of at least {MIN_MAC_KEY_BYTES} bytes, got {len(key)}; name its file in "
                f"rules.mac_key, or add LoadCredential={MAC_CREDENTIAL}:/etc/onbelt/credentials/{MAC_CREDENTIAL} to the service"
            )
        return key

    def check(self) -> None:
        """What holds between keys.

        Raises:
            ConfigError: the times leave nothing for a verdict, a wire is not on loopback, or half of a certificate is given.
        """
        self.settings()
        self.topics()
        for key in ("listen", "output", *(["forward"] if self.line.forward else [])):
            loopback_address(getattr(self.line, key), f"line.{key}")
        self.pins()
        if bool(self.mqtt.cert) != bool(self.mqtt.key):
            raise ConfigError("mqtt.cert and mqtt.key: expected both or none")

    def pins(self) -> PinSettings | None:
        """The wires where they are pins, else None.

        Raises:
            ConfigError: a pin is missing, or two wires share one.
        """
        line = self.line
        if line.kind == "udp":
            return None
        pins = {"trigger_pin": line.trigger_pin, "output_pin": line.output_pin, "watchdog_pin": line.watchdog_pin}
        for key, pin in pins.items():
            if pin < 0:
                raise ConfigError(f'line.{key}: expected the number of a pin with line.kind = "gpio", there is none')
        if self.encoder.gate_counts and line.encoder_pin < 0:
            raise ConfigError(
                "line.encoder_pin: expected the pin of the encoder's channel A with encoder.gate_counts, there is none"
            )
        if (line.reinspect_pin >= 0) != (self.rules.on_uncertain == "reinspect"):
            raise ConfigError(
                f'line.reinspect_pin: expected a pin with rules.on_uncertain = "reinspect", and none without, got '
                f"{line.reinspect_pin} with {self.rules.on_uncertain!r}"
            )
        used = [
            pin for pin in (*pins.values(), line.stop_pin, line.reinspect_pin, line.encoder_pin, line.encoder_b_pin) if pin >= 0
        ]
        if len(set(used)) != len(used):
            raise ConfigError(f"line: expected a pin of its own for each wire, got {used}")
        forward = loopback_address(line.forward, "line.forward") if line.forward else None
        return PinSettings(
            line.chip, line.trigger_pin, line.output_pin, line.watchdog_pin, line.stop_pin, line.falling, line.debounce_us,
            line.open_ms, forward, line.encoder_pin, line.encoder_b_pin, line.reinspect_pin,
        )  # fmt: skip

    def topics(self) -> Topics:
        """The station's topics."""
        where = self.station
        return Topics(where.site, where.area, where.line, where.station, where.prefix)


def load_config(path: Path) -> GateConfig:
    """Read and check gate.toml.

    Raises:
        ConfigError: unreadable, no TOML, an unknown key, a wrong type, an impossible value. The text names file and key.
    """
    try:
        text = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}); copy docs/examples/gate.toml and fill it in") from exc
    try:
        data = msgspec.toml.decode(text)
        if unknown := unknown_keys(data, GateConfig):
            raise ConfigError(f"{path}: {'; '.join(unknown)}")
        config = msgspec.convert(data, GateConfig)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{path}: {exc}; docs/examples/gate.toml has every key") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: no TOML: {exc}") from exc
    try:
        config.check()
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return config


def loopback_address(text: str, key: str) -> tuple[str, int]:
    """Split "127.0.0.1:47102".

    Raises:
        ConfigError: no host:port, or not on loopback: the datagrams stand for two wires and carry this machine's clock.
    """
    host, _, port = text.rpartition(":")
    try:
        fits = 1 <= int(port) <= 65535 and ipaddress.ip_address(host).is_loopback
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(f"{key}: expected a loopback address as 127.0.0.1:PORT, got {text!r}")
    return host, int(port)


def describe(config: GateConfig, path: Path) -> list[str]:
    """Every value in force, as TOML, each with the place it comes from."""
    given: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    lines = []
    for section, values in msgspec.to_builtins(config).items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            shown = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
            source = path.name if key in given.get(section, {}) else "default"
            lines.append(f"{key} = {shown}  # {source}")
        lines.append("")
    return lines[:-1]
