"""Keys a configuration file must not have: each is said with the nearest one there is. For station, gate and update.toml."""

import difflib
from collections.abc import Iterator
from typing import Any, TypeGuard, get_origin

import msgspec

MOST = 4


def unknown_keys(data: dict[str, Any], root: type[msgspec.Struct]) -> list[str]:
    """What the parsed file holds and the structs do not know, in words; empty when all is known."""
    found = list(_unknown(data, root, "", root))
    if len(found) > MOST:
        return [*found[:MOST], f"and {len(found) - MOST} more: is this another kind of file?"]
    return found


def is_section(kind: Any) -> TypeGuard[type[msgspec.Struct]]:
    """Whether a field's type is a section of its own."""
    # Python 3.10 calls list[str] a type as well.
    return get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _unknown(data: dict[str, Any], struct: type[msgspec.Struct], prefix: str, root: type[msgspec.Struct]) -> Iterator[str]:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for name, value in data.items():
        path = f"{prefix}{name}"
        if name not in fields:
            yield f"unknown key {path}{_nearest(path, fields, root)}"
            continue
        kind = fields[name]
        if is_section(kind):
            if isinstance(value, dict):
                yield from _unknown(value, kind, f"{path}.", root)
            else:
                yield f"{path}: expected a section [{path}], got {value!r}"


def _nearest(path: str, fields: dict[str, Any], root: type[msgspec.Struct]) -> str:
    head, _, name = path.rpartition(".")
    close = difflib.get_close_matches(name, list(fields), 1, 0.6)
    if close:
        return f": did you mean {head + '.' if head else ''}{close[0]}?"
    # A key in the wrong section, or outside all of them.
    elsewhere = [known for known in _paths(root, "") if known.rpartition(".")[2] == name]
    if elsewhere:
        return f": did you mean {' or '.join(elsewhere)}?"
    return f": expected one of {', '.join(fields)}"


def _paths(struct: type[msgspec.Struct], prefix: str) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        path = f"{prefix}{field.encode_name}"
        if is_section(field.type):
            yield from _paths(field.type, f"{path}.")
        else:
            yield path
