"""Every MQTT topic of a station in one table: direction, QoS, retained or not, which connection, and what happens on overflow.

    {prefix}/{site}/{area}/{line}/{station}/...      ISA-95 order; the prefix is onbelt/v1 unless configured

The daemon, the gate and the tests read the table; nobody writes a topic or a QoS by hand.
"""

import re
from dataclasses import dataclass
from enum import Enum

from edge.errors import ConfigError

DEFAULT_PREFIX = "onbelt/v1"
_LEVEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class Overflow(Enum):
    """What gives way when the queue to the broker is full."""

    JOURNAL = "journal"  # it is in the journal already: back-fill later
    DROP_OLDEST = "drop-oldest"  # telemetry: the newest counts
    LATEST = "latest"  # retained state: only the newest value of a topic is kept


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of topic.

    Attributes:
        suffix: what follows the station's topic; `{name}` stands for a gate, camera, alarm code or command.
        out: True when the station publishes it. qos, retain: as MQTT has them.
        live: True on the first connection (verdict and beat), False on the second (the rest).
        overflow: what gives way.
    """

    suffix: str
    out: bool
    qos: int
    retain: bool
    live: bool
    overflow: Overflow


VERDICT = Channel("verdict/{name}", out=True, qos=1, retain=False, live=True, overflow=Overflow.JOURNAL)
BEAT = Channel("beat", out=True, qos=0, retain=False, live=True, overflow=Overflow.DROP_OLDEST)
VERDICT_LATE = Channel("verdict-late/{name}", out=True, qos=1, retain=False, live=False, overflow=Overflow.JOURNAL)
STATUS = Channel("status", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
STATE = Channel("state", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
BIRTH = Channel("birth", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
CAMERA_STATE = Channel("camera/{name}/state", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
ALARM = Channel("alarm/{name}", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
HEALTH = Channel("health", out=True, qos=0, retain=False, live=False, overflow=Overflow.DROP_OLDEST)
STATS = Channel("stats/{name}", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
AUDIT = Channel("audit", out=True, qos=1, retain=False, live=False, overflow=Overflow.DROP_OLDEST)
EVIDENCE = Channel("evidence", out=True, qos=1, retain=False, live=False, overflow=Overflow.DROP_OLDEST)
RESULT = Channel("cmd/{name}/result", out=True, qos=1, retain=False, live=False, overflow=Overflow.DROP_OLDEST)
QUARANTINE = Channel("quarantine", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
ACK = Channel("gate/{name}/ack", out=False, qos=1, retain=False, live=False, overflow=Overflow.DROP_OLDEST)
COMMAND = Channel("cmd/{name}", out=False, qos=1, retain=False, live=False, overflow=Overflow.DROP_OLDEST)
UPDATE_DESIRED = Channel("update/desired", out=False, qos=1, retain=True, live=False, overflow=Overflow.LATEST)
UPDATE_TIME = Channel("update/time", out=False, qos=1, retain=False, live=False, overflow=Overflow.LATEST)
UPDATE_REPORTED = Channel("update/reported", out=True, qos=1, retain=True, live=False, overflow=Overflow.LATEST)

CHANNELS = (
    VERDICT,
    BEAT,
    VERDICT_LATE,
    STATUS,
    STATE,
    BIRTH,
    CAMERA_STATE,
    ALARM,
    HEALTH,
    STATS,
    RESULT,
    QUARANTINE,
    AUDIT,
    EVIDENCE,
    ACK,
    COMMAND,
    UPDATE_DESIRED,
    UPDATE_TIME,
    UPDATE_REPORTED,
)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one station.

    Raises:
        ConfigError: a level is empty, too long, or holds a character MQTT or an id gives another meaning.
    """

    site: str
    area: str
    line: str
    station: str
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        for level in self.prefix.split("/"):
            _check_level("prefix", level)
        for key in ("site", "area", "line", "station"):
            _check_level(key, getattr(self, key))

    @property
    def base(self) -> str:
        """Topic of the station, without a slash at the end."""
        return f"{self.prefix}/{self.site}/{self.area}/{self.line}/{self.station}"

    def topic(self, channel: Channel, name: str = "") -> str:
        """The topic to publish to; `name` fills the gate, camera, alarm code or command."""
        if ("{name}" in channel.suffix) != bool(name):
            raise ValueError(f"channel {channel.suffix!r}: name={name!r} does not fit")
        if name:
            _check_level(channel.suffix, name)
        return f"{self.base}/{channel.suffix.format(name=name)}"

    def filter(self, channel: Channel) -> str:
        """The filter to subscribe to: all names of a channel."""
        return f"{self.base}/{channel.suffix.replace('{name}', '+')}"

    def name_in(self, channel: Channel, topic: str) -> str | None:
        """The name a received topic carries, "" for a channel without one, or None when it is not of this channel."""
        head, found, tail = channel.suffix.partition("{name}")
        prefix = f"{self.base}/{head}"
        if not found:
            return "" if topic == prefix else None
        if not (topic.startswith(prefix) and topic.endswith(tail)):
            return None
        name = topic[len(prefix) : len(topic) - len(tail)]
        return name if _LEVEL.fullmatch(name) else None


def _check_level(key: str, level: str) -> None:
    if not _LEVEL.fullmatch(level):
        raise ConfigError(
            f"{key}: expected 1 to 32 of A-Z a-z 0-9 . _ - beginning with a letter or digit, got {level!r}; "
            "it becomes one level of an MQTT topic"
        )
