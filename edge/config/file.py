"""Read station.toml and print what is in force: unknown keys are refused with the nearest known name, wrong values by path."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from edge.config.station import StationConfig
from edge.config.unknown import is_section, unknown_keys
from edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE_BYTES = 64 * 1024
# Keys that name a file or folder: relative to the configuration's own folder.
_PATHS = (
    "model.bundle",
    "model.limit",
    "model.trust",
    "camera.folder.path",
    "camera.stream.password",
    "camera.views",
    "camera.sight",
    "journal.path",
    "evidence.path",
    "mqtt.password",
    "mqtt.ca",
    "mqtt.cert",
    "mqtt.key",
    "seal.mac_key",
    "journal.anchor_key",
    "bridge.gate_socket",
)


class Key(NamedTuple):
    """One key of the file.

    Attributes:
        path: dotted name. doc: what it means, with its unit. default: msgspec.NODEFAULT where it must be given.
    """

    path: str
    doc: str
    default: Any


def load_config(path: Path) -> StationConfig:
    """Read and check a station's configuration.

    Raises:
        ConfigError: unreadable, no TOML, an unknown key, a wrong type, an impossible value. The text names file and key.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}); copy docs/examples/station.toml and fill it in") from exc
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, it is larger; this is no configuration")
    try:
        data = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: no TOML: {exc}") from exc
    try:
        config = parse_config(data, path.parent)
        require_camera(data)
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return config


def require_camera(data: dict[str, Any]) -> None:
    """A file must say which camera it means: a simulated one by default would pass real parts it has never seen.

    Raises:
        ConfigError: camera.kind is not in the file.
    """
    if _lookup(data, "camera.kind") is None:
        raise ConfigError(f"camera.kind: this key must be given ({_doc('camera.kind')})")


def parse_config(data: dict[str, Any], folder: Path) -> StationConfig:
    """Turn parsed TOML into the checked configuration; relative paths begin at `folder`.

    Raises:
        ConfigError: as `load_config`, without the file's name.
    """
    unknown = unknown_keys(data, StationConfig)
    if unknown:
        raise ConfigError("; ".join(unknown))
    try:
        config = msgspec.convert(_absolute(data, folder), StationConfig)
    except msgspec.ValidationError as exc:
        raise ConfigError(_explain(exc)) from exc
    config.check()
    return config


def keys(struct: type[msgspec.Struct] = StationConfig, prefix: str = "") -> Iterator[Key]:
    """All keys the file may hold, in its order."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        path = f"{prefix}{field.encode_name}"
        if is_section(field.type):
            yield from keys(field.type, f"{path}.")
            continue
        docs = [
            meta.description for meta in get_args(hints[field.name])[1:] if isinstance(meta, msgspec.Meta) and meta.description
        ]
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        yield Key(path, docs[-1] if docs else "", default)


def sections(struct: type[msgspec.Struct] = StationConfig, prefix: str = "") -> dict[str, str]:
    """First line of each section's description, by dotted name."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(struct):
        if is_section(field.type):
            path = f"{prefix}{field.encode_name}"
            found[path] = (field.type.__doc__ or "").strip().splitlines()[0]
            found |= sections(field.type, f"{path}.")
    return found


def render(config: StationConfig, given: dict[str, Any] | None = None) -> str:
    """The effective configuration as a TOML file: every key with its value, where the value comes from, and its meaning.

    Args:
        config: what is in force.
        given: the parsed file, to tell its values from defaults; None marks nothing.
    """
    values = msgspec.to_builtins(config)
    about = sections()
    lines: list[str] = []
    section = ""
    for key in sorted(keys(), key=lambda key: list(about).index(key.path.rpartition(".")[0])):
        head, _, name = key.path.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"[{head}]  # {about[head]}"]
        source = "" if given is None else "file; " if _lookup(given, key.path) is not None else "default; "
        lines.append(f"{name} = {_toml(_lookup(values, key.path))}  # {source}{key.doc}")
    return "\n".join(lines).lstrip("\n") + "\n"


def read_given(path: Path) -> dict[str, Any]:
    """The parsed file as it stands, for `render`; it has been loaded before."""
    given: dict[str, Any] = tomllib.loads(path.read_text())
    return given


def _absolute(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    def at(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {name: at(inner, f"{path}.{name}" if path else name) for name, inner in value.items()}
        if path not in _PATHS:
            return value
        if isinstance(value, list):
            return [str(folder / item) if isinstance(item, str) else item for item in value]
        return str((folder / value).absolute()) if isinstance(value, str) and value else value

    return dict(at(data, ""))


def _explain(exc: msgspec.ValidationError) -> str:
    # "Expected `int`, got `str` - at `$.mqtt.port`" -> "mqtt.port: expected int, got str"
    text, _, where = str(exc).partition(" - at `$")
    missing = re.match(r"Object missing required field `(\w+)`", text)
    where = where.strip("`").lstrip(".")
    if missing:
        path = f"{where}.{missing[1]}" if where else missing[1]
        kind = "section" if path in sections() else "key"
        return f"{path}: this {kind} must be given" + ("" if kind == "section" else f" ({_doc(path)})")
    text = text.replace("`", "")
    hint = _doc(re.sub(r"\[.*", "", where))
    return f"{where}: {text[:1].lower()}{text[1:]}" + (f" ({hint})" if hint else "")


def _doc(path: str) -> str:
    return next((key.doc for key in keys() if key.path == path), "")


def _lookup(data: dict[str, Any], path: str) -> Any:
    value: Any = data
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # a JSON string is a TOML basic string
    return repr(value)
