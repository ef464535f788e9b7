r"""What a fleet says to a box and what the box answers: `update/desired` and `update/reported`, both retained; `update/time`.

A desired state is signed by an operator, because a broker is no authority: it could make a box go to any model the repository
lists. `serial` counts up, so that an old message cannot be played again. It names a channel or a version; what may be fetched
and is run is decided by the repository's metadata, never by this message.

    {"sch":"onbelt.update-desired/2", ..., "key":"<64 hex>","sig":"<128 hex>"}

The signature is Ed25519 over the schema's name, "onbelt.update-desired/2\\n", and all bytes before `,"sig":"`. A time for a box
whose clock is wrong (`onbelt.update-time/1`, not retained) is signed the same way and answers the challenge in its report.

A box reads a desired state of major 1, which names no box (`to`): one lies on its disk and on the broker when its software is
renewed, and a pin must hold. A fleet reads reports of major 1 (no step `shadow`, no `challenge`). Only major 2 is written.
"""

from typing import Annotated, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bundle.signing import TrustStore, key_id
from edge.errors import ContractError
from edge.wire.codec import Codec, Count, Micros, Name

DESIRED_SCHEMA, DESIRED_1 = "onbelt.update-desired/2", "onbelt.update-desired/1"
REPORTED_SCHEMA, REPORTED_1 = "onbelt.update-reported/2", "onbelt.update-reported/1"
TIME_SCHEMA = "onbelt.update-time/1"
_SIG_HEAD = b',"sig":"'
_SIG_TAIL_BYTES = len(_SIG_HEAD) + 128 + len(b'"}')

Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Challenge = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]
Hex128 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]
Clock24 = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]\Z")]


S = TypeVar("S", bound="Desired | SetTime")


class Desired(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a box shall run.

    Attributes:
        site, product: whose models; a box that is for others refuses it.
        serial: counts up; a box obeys none below the highest it has obeyed.
        mode: follow the channel, pin the version, or pause: stay with what runs.
        channel: of mode follow. version: of mode pin.
        windows: times of day (UTC) at which a switch may happen, "22:00-04:30"; none for any time.
        not_after_us: void from then on, microseconds UTC.
        issuer: who asks, for logs. key: id of the key that signed.
        to: topic of the one station it is for, empty for every box of the site and product: without it a broker could hand
            what was meant for a canary to everybody.
    """

    sch: str
    site: Name
    product: Name
    serial: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    mode: Literal["follow", "pin", "pause"]
    channel: Name
    version: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    windows: Annotated[list[Clock24], msgspec.Meta(max_length=7)]
    not_after_us: Micros
    issuer: Name
    key: Hex64
    to: Annotated[str, msgspec.Meta(max_length=200)] = ""
    sig: Hex128 | msgspec.UnsetType = msgspec.UNSET


class SetTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What time it is, for one box whose clock is wrong.

    Attributes:
        to: topic of the station. challenge: as its report names it; good once. utc_us: the time, microseconds UTC.
        issuer: who says so, for logs. key: id of the key that signed.
    """

    sch: str
    to: Annotated[str, msgspec.Meta(max_length=200)]
    challenge: Challenge
    utc_us: Micros
    issuer: Name
    key: Hex64
    sig: Hex128 | msgspec.UnsetType = msgspec.UNSET


class ReportedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as a box reports it. `ref`: as in verdicts, empty while it is not verified."""

    version: Count
    sha256: Hex64
    ref: str


class Reported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a box's update stands.

    Attributes:
        step: idle, download, verify, prove, shadow, switch, guard or revert. committed: what has proved itself.
        candidate: what is being brought in. serial: of the desired state in force, 0 for none.
        reason: one word of `edge.update.reasons`, empty when all is well. text: the same for people.
        refused: the newest refusals as "version reason", newest last.
        challenge: what an operator who tells this box the time has to name.
    """

    sch: str
    station: Name
    at_us: Micros
    software: str
    site: Name
    product: Name
    step: Literal["idle", "download", "verify", "prove", "shadow", "switch", "guard", "revert"]
    committed: ReportedModel | None
    candidate: ReportedModel | None
    serial: Count
    mode: Literal["follow", "pin", "pause"]
    channel: Name
    reason: str
    text: Annotated[str, msgspec.Meta(max_length=400)]
    refused: Annotated[list[str], msgspec.Meta(max_length=16)]
    challenge: Challenge = ""


def _check(desired: Desired) -> None:
    if (desired.mode == "pin") != (desired.version > 0):
        raise ContractError(f"desired: expected a version with mode pin and 0 otherwise, got {desired.version} - at `$.version`")


DESIRED: Codec[Desired] = Codec(DESIRED_SCHEMA, Desired, max_bytes=2048, check=_check, older=DESIRED_1, since=("to",))
REPORTED: Codec[Reported] = Codec(REPORTED_SCHEMA, Reported, max_bytes=4096, older=REPORTED_1, since=("challenge",))
TIME: Codec[SetTime] = Codec(TIME_SCHEMA, SetTime, max_bytes=2048)


def sign_desired(desired: Desired, key: Ed25519PrivateKey) -> bytes:
    """Write a desired state, signed. Raises ContractError: a value is out of range."""
    return _sign(desired, DESIRED, key)


def open_desired(payload: bytes, operators: TrustStore) -> Desired:
    """Read a desired state; nothing in it is looked at before its signature holds, except whose it claims to be.

    Raises:
        ContractError: malformed, or not signed by a trusted operator.
    """
    return _open(payload, DESIRED, operators, "desired", "onbelt update desire")


def sign_time(said: SetTime, key: Ed25519PrivateKey) -> bytes:
    """Write a time, signed. Raises ContractError: a value is out of range."""
    return _sign(said, TIME, key)


def open_time(payload: bytes, operators: TrustStore) -> SetTime:
    """Read a time, as `open_desired`. Raises ContractError."""
    return _open(payload, TIME, operators, "time", "onbelt update set-time")


def _sign(message: S, codec: Codec[S], key: Ed25519PrivateKey) -> bytes:
    body = msgspec.json.encode(msgspec.structs.replace(message, key=key_id(key.public_key()), sig=msgspec.UNSET))
    head = body[:-1]
    payload = head + _SIG_HEAD + key.sign(codec.schema.encode() + b"\n" + head).hex().encode() + b'"}'
    codec.decode(payload)
    return payload


def _open(payload: bytes, codec: Codec[S], operators: TrustStore, kind: str, command: str) -> S:
    if len(payload) > codec.max_bytes:
        raise ContractError(f"{kind}: expected at most {codec.max_bytes} bytes, got {len(payload)}; refused")
    head, tail = payload[:-_SIG_TAIL_BYTES], payload[-_SIG_TAIL_BYTES:]
    if not (tail.startswith(_SIG_HEAD) and tail.endswith(b'"}')):
        raise ContractError(f"{kind}: expected a signature at its end; sign it with {command}")
    try:
        signature = bytes.fromhex(tail[len(_SIG_HEAD) : -2].decode("ascii"))
    except ValueError as exc:
        raise ContractError(f"{kind}: expected a signature of 128 hex digits; sign it with {command}") from exc
    # A handful of operators: each key is tried, so that nothing has to be parsed to know which.
    for schema in codec.schemas:
        for key in operators.keys.values():
            try:
                key.verify(signature, schema.encode() + b"\n" + head)
            except InvalidSignature:
                continue
            message = codec.decode(payload)
            if message.sch != schema:  # else a signature over one major would count for another
                raise ContractError(f"{kind}: signed as {schema}, says {message.sch} - at `$.sch`; sign it with {command}")
            return message
    raise ContractError(
        f"{kind}: not signed by an operator this box trusts ({len(operators.keys)} keys in "
        f"{', '.join(operators.sources) or 'no folder'}); put the operator's .pub there if you trust them"
    )
