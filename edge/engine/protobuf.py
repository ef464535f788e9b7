"""Split protobuf messages: what a model file is made of, without the packages that act on it.

Source: protobuf encoding guide (wire types). Damaged input raises BundleError with the name of what was being read.
"""

from collections.abc import Iterator

from edge.bundle.format import MODEL
from edge.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(message: memoryview, what: str) -> Iterator[tuple[int, int | memoryview]]:
    """Split a protobuf message into (field number, varint or bytes)."""
    at = 0
    while at < len(message):
        key, at = varint(message, at, what)
        wire = key & 7
        if wire == _VARINT:
            number, at = varint(message, at, what)
            yield key >> 3, number
            continue
        if wire == _BYTES:
            length, at = varint(message, at, what)
        elif wire in {_FIXED32, _FIXED64}:
            length = 4 if wire == _FIXED32 else 8
        else:
            raise broken(f"expected protobuf in {what}, found wire type {wire}; damaged or no ONNX model")
        if length > len(message) - at:
            raise broken(f"{what} is cut short: {length} bytes announced, {len(message) - at} left")
        yield key >> 3, message[at : at + length]
        at += length


def varint(message: memoryview, at: int, what: str) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    value = 0
    for index, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise broken(f"expected protobuf in {what}, found a broken number; damaged or no ONNX model")


def as_bytes(value: int | memoryview, what: str) -> memoryview:
    """A field that must be a message, a text or packed values."""
    if isinstance(value, int):
        raise broken(f"expected {what} to be a message, found a number; damaged or no ONNX model")
    return value


def as_integer(value: int | memoryview, what: str) -> int:
    """A field that must be a number."""
    if not isinstance(value, int):
        raise broken(f"expected {what} to be a number, found bytes; damaged or no ONNX model")
    return value


def as_text(value: int | memoryview, what: str) -> str:
    """A field that must be text; bytes that are none are escaped."""
    return bytes(as_bytes(value, what)).decode("utf-8", "backslashreplace")


def as_integers(value: int | memoryview, what: str) -> list[int]:
    """A repeated number: one, or several packed into bytes."""
    if isinstance(value, int):
        return [signed(value)]
    numbers, at = [], 0
    while at < len(value):
        number, at = varint(value, at, what)
        numbers.append(signed(number))
    return numbers


def signed(number: int) -> int:
    """A protobuf int32 or int64 is sign-extended to 64 bits before it is written."""
    return number - 2**64 if number >= 2**63 else number


def broken(message: str) -> BundleError:
    """The error for a model file that is not what it must be."""
    return BundleError(f"{MODEL}: {message}", member=MODEL)
