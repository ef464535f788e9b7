"""Sparkplug B payloads: the few fields an edge node needs, in protobuf's wire format, without the protobuf package.

Written are birth, data and death of a node; read is one command, `Node Control/Rebirth`. What comes from outside is bounded in
size and number before anything is believed.

Source: Eclipse Sparkplug 3.0.0, chapters 4 (topics) and 6 (payloads); sparkplug_b.proto of Eclipse Tahu; protobuf encoding guide.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from edge.engine.protobuf import fields
from edge.errors import BundleError, ContractError

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
BD_SEQ = "bdSeq"
MAX_COMMAND_BYTES = 4096
MAX_COMMAND_METRICS = 16

_VARINT, _FIXED64, _BYTES = 0, 1, 2


class DataType(IntEnum):
    """The data types we write, by their number in Sparkplug."""

    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


Value = float | bool | str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; a value of None is Sparkplug's null."""

    name: str
    kind: DataType
    value: Value


def topic(group: str, message: str, node: str) -> str:
    """`spBv1.0/group/NBIRTH/node`."""
    return f"{NAMESPACE}/{group}/{message}/{node}"


def encode(metrics: Iterable[Metric], at_ms: int, seq: int | None) -> bytes:
    """A payload of metrics in this order; `at_ms`: milliseconds UTC; `seq`: 0 to 255, None for a death, which has none."""
    found = [_number(1, at_ms)]
    found += [_bytes(2, _metric(metric, at_ms)) for metric in metrics]
    if seq is not None:
        found.append(_number(3, seq))
    return b"".join(found)


def wants_rebirth(payload: bytes) -> bool:
    """Read an NCMD: True when it asks for another birth.

    Raises:
        ContractError: too large, damaged, or it asks for something else; nothing else is taken from there.
    """
    if len(payload) > MAX_COMMAND_BYTES:
        raise ContractError(f"NCMD: expected at most {MAX_COMMAND_BYTES} bytes, got {len(payload)}; refused")
    try:
        metrics = [value for number, value in fields(memoryview(payload), "NCMD") if number == 2]
        if len(metrics) > MAX_COMMAND_METRICS:
            raise ContractError(f"NCMD: expected at most {MAX_COMMAND_METRICS} metrics, got {len(metrics)}; refused")
        asked = [_command(metric) for metric in metrics if not isinstance(metric, int)]
    except (BundleError, UnicodeDecodeError) as exc:
        raise ContractError("NCMD: expected a Sparkplug B payload, got damaged protobuf; refused") from exc
    others = [name for name, _ in asked if name != REBIRTH]
    if others or not asked:
        named = others[0][:48] if others else "nothing"
        raise ContractError(f"NCMD: expected {REBIRTH!r}, got {named!r}; nothing else can be written here")
    return any(on for _, on in asked)


def _command(metric: memoryview) -> tuple[str, bool]:
    """Name and boolean value; a value of another type is no yes."""
    name, on = "", False
    for number, value in fields(metric, "NCMD metric"):
        if number == 1 and not isinstance(value, int):
            name = bytes(value).decode()
        elif number == 14:
            on = value == 1
    return name, on


def _metric(metric: Metric, at_ms: int) -> bytes:
    head = _bytes(1, metric.name.encode()) + _number(3, at_ms) + _number(4, metric.kind)
    return head + (_number(7, 1) if metric.value is None else _value(metric.kind, metric.value))


def _value(kind: DataType, value: float | bool | str) -> bytes:
    if kind is DataType.STRING:
        return _bytes(15, str(value).encode())
    if kind is DataType.DOUBLE:
        return _key(13, _FIXED64) + struct.pack("<d", float(value))
    if kind is DataType.BOOLEAN:
        return _number(14, int(bool(value)))
    return _number(11, int(value) & (2**64 - 1))  # a negative Int64 is written as its two's complement


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _number(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
