"""update.toml: every key with its unit and its default. The station's own file says the rest: broker, topics, trust, engine."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge.config.file import load_config
from edge.config.station import StationConfig
from edge.config.unknown import unknown_keys
from edge.errors import ConfigError
from edge.wire.codec import Name
from edge.wire.update import Clock24

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE_BYTES = 64 * 1024
Doc = msgspec.Meta
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,32}(/[A-Za-z0-9._-]{1,32}){0,7}")


class UpdateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    station: Annotated[str, Doc(description="the station's configuration, station.toml; its model.bundle is FOLDER/current")]
    metadata_url: Annotated[
        str, Doc(description="where the repository's metadata is: https://..., file:///... or mqtt:TOPIC/metadata/")
    ]
    target_url: Annotated[str, Doc(description="where its targets are: https://..., file:///... or mqtt:TOPIC/targets/")]
    root: Annotated[str, Doc(description="file of the trusted root: the repository's 1.root.json")]
    product: Annotated[Name, Doc(description="what this box inspects")]
    folder: Annotated[str, Doc(description="where models and metadata are kept")] = "/var/lib/onbelt/update"
    channel: Annotated[Name, Doc(description="channel to follow until a desired state says otherwise")] = "stable"
    operators: Annotated[
        list[str],
        Doc(max_length=8, description="folders of keys (*.pub) that may sign a desired state; none: only the channel counts"),
    ] = []
    ca: Annotated[str, Doc(description="CA file for HTTPS; empty: the system's")] = ""
    poll_s: Annotated[float, Doc(ge=1.0, le=604800.0, description="s between two looks at the repository")] = 3600.0
    windows: Annotated[
        list[Clock24], Doc(max_length=7, description='times of day (UTC) for a switch: "22:00-04:30"; none for any time')
    ] = []
    reserve_mb: Annotated[float, Doc(ge=0.0, description="MB on the disk an update leaves free")] = 64.0
    memory_mb: Annotated[float, Doc(gt=0.0, description="MB a model's process may take at most")] = 2048.0
    certificate: Annotated[bool, Doc(description="ask that the certificate says the model equals its float reference")] = False
    shadow_parts: Annotated[
        int,
        Doc(ge=0, le=1_000_000, description="parts a new model judges beside the running one before it takes over; 0 for none"),
    ] = 300
    guard_parts: Annotated[int, Doc(ge=1, description="parts a new model must have judged before it is committed")] = 300
    guard_s: Annotated[float, Doc(ge=0.0, description="s it must have run before it is committed")] = 300.0
    take_s: Annotated[float, Doc(gt=0.0, description="s within which the daemon must run it")] = 60.0
    arm_s: Annotated[float, Doc(gt=0.0, description="s the station may be without arms while it is watched")] = 10.0


def load_update_config(path: Path) -> tuple[UpdateConfig, StationConfig]:
    """Read update.toml and the station.toml it names.

    Raises:
        ConfigError: unreadable, an unknown key, an impossible value, or the two files do not fit.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        data: dict[str, Any] = tomllib.loads(content[:MAX_FILE_BYTES].decode())
        if unknown := unknown_keys(data, UpdateConfig):
            raise ConfigError(f"{path}: {'; '.join(unknown)}")
        config = msgspec.convert(data, UpdateConfig)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}); copy docs/examples/update.toml and fill it in") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: no TOML: {exc}") from exc
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{path}: {exc}; see docs/examples/update.toml") from exc

    def at(value: str) -> str:
        return str((path.parent / value).absolute()) if value else ""

    config = msgspec.structs.replace(
        config,
        station=at(config.station),
        root=at(config.root),
        folder=at(config.folder),
        ca=at(config.ca),
        operators=[at(one) for one in config.operators],
    )
    station = load_config(Path(config.station))
    _check(path, config, station)
    return config, station


def carried_base(config: UpdateConfig) -> str:
    """Topic of the repository on the station's broker; empty where it is not carried over MQTT."""
    url = config.metadata_url
    return url.removeprefix("mqtt:").removesuffix("/metadata/") if url.startswith("mqtt:") else ""


def _check(path: Path, config: UpdateConfig, station: StationConfig) -> None:
    for name in ("metadata_url", "target_url"):
        url = getattr(config, name)
        local = url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
        if not url.startswith(("https://", "file:///", "mqtt:")) and not local:
            raise ConfigError(f"{path}: {name}: expected https://..., file:///... or mqtt:TOPIC/..., got {url!r}")
    if config.metadata_url.startswith("mqtt:") or config.target_url.startswith("mqtt:"):
        base = carried_base(config)
        expected = (f"mqtt:{base}/metadata/", f"mqtt:{base}/targets/")
        if (config.metadata_url, config.target_url) != expected or not _TOPIC.fullmatch(base):
            raise ConfigError(
                f"{path}: expected metadata_url mqtt:TOPIC/metadata/ and target_url mqtt:TOPIC/targets/ of the topic given to "
                f"onbelt repo carry, got {config.metadata_url!r} and {config.target_url!r}"
            )
    current = str(Path(config.folder) / "current")
    if station.model.bundle != current:
        raise ConfigError(
            f"{config.station}: model.bundle: expected {current!r}, the link this updater moves, got {station.model.bundle!r}"
        )
