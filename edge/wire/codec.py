"""Encode and decode for every message of ours: pure, bounded, and refusing whatever it does not fully understand.

Rules, the same for all messages:
- A message names its schema and major version in `sch`; an unknown major is refused before anything else is looked at.
- Unknown fields, missing fields, wrong types and values out of range are refused with the path of the fault. A reader that
  guesses is a reader that opens a gate by mistake; a new optional field therefore means a new major. A reader may know the major
  before its own (`older`), where that differs by fields that have a default now.
- A message has a largest size, checked before it is parsed and after it is written.
- What is written is read back before it leaves: nothing is ever sent that the receiver would have to refuse (3 us a message).
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec

from edge.errors import ContractError

MAX_MESSAGE_BYTES = 1024
MAX_U63 = 2**63 - 1  # what an SQLite integer and a Java long hold; at 1000 parts/s it lasts 292 million years

# Names that become one level of an MQTT topic and a part of an id: no slash, no wildcard, no space.
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")]
# Text from scanners and recipes: printable ASCII without quote and backslash, so that its length on the wire is its length here.
Text24 = Annotated[str, msgspec.Meta(pattern=r"^[ !#-\[\]-~]{0,24}\Z")]
Text48 = Annotated[str, msgspec.Meta(pattern=r"^[ !#-\[\]-~]{0,48}\Z")]
# Hashes are given by their first 128 bits: nobody finds a second preimage, and a verdict must fit in 1 kB.
Short = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{32}\Z")]
ModelRef = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,32}@sha256:[0-9a-f]{32}\Z")]
Boot = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_U63)]
Micros = Annotated[int, msgspec.Meta(ge=0, le=MAX_U63)]


class Message(Protocol):
    """A struct of ours: it carries its schema."""

    @property
    def sch(self) -> str:
        """Schema name and major version."""
        ...


M = TypeVar("M", bound=Message)


class _Head(msgspec.Struct):
    sch: str


class Codec(Generic[M]):
    """Turns one kind of message into bytes and back.

    Args:
        schema: what `sch` must hold, "onbelt.verdict/1".
        struct: the message's struct.
        max_bytes: largest size on the wire.
        check: raises ContractError where fields contradict each other.
        older: schema of an earlier major that is read as well, and never written.
        since: fields that came with `schema`; a message of `older` that has one is refused.
    """

    def __init__(
        self,
        schema: str,
        struct: type[M],
        *,
        max_bytes: int = MAX_MESSAGE_BYTES,
        check: Callable[[M], None] | None = None,
        older: str = "",
        since: tuple[str, ...] = (),
    ) -> None:
        self.schema = schema
        self.schemas = (schema, older) if older else (schema,)
        self.max_bytes = max_bytes
        self._since = frozenset(since)
        self._kind = schema.removeprefix("onbelt.").partition("/")[0]
        self._check = check
        self._decoder: msgspec.json.Decoder[M] = msgspec.json.Decoder(struct)
        self._encoder = msgspec.json.Encoder()

    def encode(self, message: M) -> bytes:
        """Write a message as UTF-8 JSON, fields in the order of the struct.

        Raises:
            ContractError: a value is out of range, or the message is too large.
        """
        payload = self._encoder.encode(message)
        if message.sch != self.schema:
            raise ContractError(self._other_schema(message.sch))
        self.decode(payload)
        return payload

    def decode(self, payload: bytes) -> M:
        """Read a message.

        Raises:
            ContractError: too large, not JSON, another schema or major, an unknown or missing field, a wrong type, a value
                out of range, or fields that contradict each other. The text names the field's path.
        """
        if len(payload) > self.max_bytes:
            raise ContractError(f"{self._kind}: expected at most {self.max_bytes} bytes, got {len(payload)}; refused")
        try:
            message = self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ContractError(self._refusal(payload, exc)) from exc
        if message.sch not in self.schemas:
            raise ContractError(self._other_schema(message.sch))
        if message.sch != self.schema and (newer := sorted(self._since & set(msgspec.json.decode(payload)))):
            raise ContractError(f"{self._kind}: {newer[0]} came with {self.schema} - at `$.{newer[0]}`; message refused")
        if self._check is not None:
            self._check(message)
        return message

    def _refusal(self, payload: bytes, exc: Exception) -> str:
        # A message of another major differs in its fields too: say the cause, not the first consequence.
        try:
            schema = msgspec.json.decode(payload, type=_Head).sch
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            schema = self.schema
        if schema not in self.schemas:
            return self._other_schema(schema)
        return f"{self._kind}: {exc}; expected {self.schema}, message refused"

    def _other_schema(self, schema: str) -> str:
        return (
            f"{self._kind}: expected schema {self.schema!r}, got {schema[:64]!r} - at `$.sch`; "
            "update the older of sender and receiver"
        )


def schema_of(payload: bytes) -> str:
    """What `sch` says, where messages of several kinds share a wire; empty when it cannot be read or is too large."""
    if len(payload) > MAX_MESSAGE_BYTES:
        return ""
    try:
        return msgspec.json.decode(payload, type=_Head).sch
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def significant(value: float, digits: int = 6) -> float:
    """Round to so many significant digits: a float32 carries 7, and each digit costs a byte of every message."""
    return float(f"{value:.{digits}g}")


def to_builtins(message: Any) -> dict[str, Any]:
    """A message as plain dict, for pages and `--json`."""
    plain: dict[str, Any] = msgspec.to_builtins(message)
    return plain
