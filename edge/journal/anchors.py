"""Signed anchors: at a time, the chain stood at this row with this head. They prove what a chain alone cannot: its end.

A journal whose tail was cut off is a valid chain, and so is one whose rows were rewritten with every hash after them. An anchor
kept elsewhere tells both: its row must be there, with its hash. One line of JSON each, signed with an Ed25519 key that signs
nothing else:

    {"sch":"onbelt.anchor/1","station":...,"boot":...,"n":...,"head":"sha256:...","at_us":...,"key":...,"sig":...}

`sig` is over all bytes before `,"sig":"`. The station appends them to a file beside the journal and publishes them on `audit`;
whoever keeps what `audit` says can judge the journal later, also one whose anchor file was cut with it. Rows younger than the
newest anchor (a minute, by default) are proved by nothing but the chain.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edge.bundle.signing import key_id
from edge.errors import ChainError, ContractError, JournalError
from edge.wire.codec import Boot, Codec, Count, Micros, Name, Short

SCHEMA = "onbelt.anchor/1"
MAX_FILE_BYTES = 16 * 2**20  # some 40,000: four weeks at one a minute; the older half goes then
MAX_READ_BYTES = 256 * 2**20
_SIG_HEAD = b',"sig":"'


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One anchor.

    Attributes:
        station, boot: who wrote it. n, head: the newest row then, and the hash of its payload.
        at_us: microseconds UTC, a label. key: SHA-256 of the public key, hex. sig: Ed25519, hex.
    """

    sch: str
    station: Name
    boot: Boot
    n: Annotated[int, msgspec.Meta(ge=1)]
    head: Short
    at_us: Micros
    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    sig: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]


ANCHOR: Codec[Anchor] = Codec(SCHEMA, Anchor)
_NOTHING = "0" * 128


def make_anchor(station: str, boot: str, n: Count, head: str, at_us: int, key: Ed25519PrivateKey) -> bytes:
    """One line, without its newline. Raises ContractError: a value is out of range."""
    unsigned = ANCHOR.encode(Anchor(SCHEMA, station, boot, n, head, at_us, key_id(key.public_key()), _NOTHING))
    body = unsigned[: unsigned.rindex(_SIG_HEAD)]
    return body + _SIG_HEAD + key.sign(body).hex().encode() + b'"}'


def check_anchor(line: bytes, keys: dict[str, Ed25519PublicKey]) -> Anchor:
    """Read an anchor. Raises ChainError: it is none, by a key not named, or altered after it was signed."""
    try:
        anchor = ANCHOR.decode(line)
    except ContractError as exc:
        raise ChainError(f"is no anchor ({exc})") from exc
    key = keys.get(anchor.key)
    if key is None:
        known = ", ".join(name[:16] for name in keys)
        raise ChainError(f"signed by key {anchor.key[:16]}, expected {known}: another station's, or forged")
    body = line[: line.rindex(_SIG_HEAD)] if _SIG_HEAD in line else b""
    try:
        key.verify(bytes.fromhex(anchor.sig), body)
    except InvalidSignature as exc:
        raise ChainError(f"its signature by key {anchor.key[:16]} does not hold: altered after it was signed") from exc
    return anchor


@dataclass(frozen=True, slots=True)
class AnchorReport:
    """What became of the anchors.

    Attributes:
        held: found in the chain, with their hash. older: of rows the journal no longer holds, which prove nothing of it.
        newest_n: row of the newest one. after: rows behind it, proved by the chain only.
    """

    held: int
    older: int
    newest_n: int
    after: int


class Anchors:
    """Anchors to be found in a chain: give it every row, then ask for the report.

    Args:
        lines: one anchor each; empty lines are passed over. keys: whose signatures count. where: for messages.

    Raises:
        ChainError: a line that is no anchor of one of these keys; the text names its number.
    """

    def __init__(self, lines: Iterable[bytes], keys: Iterable[Ed25519PublicKey], where: str) -> None:
        trusted = {key_id(key): key for key in keys}
        self._where = where
        self._open: dict[int, list[Anchor]] = {}
        self._newest = 0
        self._held = self._older = 0
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                anchor = check_anchor(line.strip(), trusted)
            except ChainError as exc:
                raise ChainError(f"{where}: line {number}: {exc}") from exc
            self._open.setdefault(anchor.n, []).append(anchor)
            self._newest = max(self._newest, anchor.n)

    @classmethod
    def from_file(cls, path: Path, keys: Iterable[Ed25519PublicKey]) -> "Anchors":
        """The station's own file, or what somebody kept of topic `audit`, one message a line. Raises JournalError, ChainError."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_READ_BYTES + 1)
        except OSError as exc:
            raise JournalError(f"{path}: cannot read the anchors ({exc.strerror}); the station writes JOURNAL.anchors") from exc
        if len(content) > MAX_READ_BYTES:
            raise JournalError(f"{path}: expected at most {MAX_READ_BYTES // 2**20} MB of anchors; give the newest ones")
        return cls(content.splitlines(), keys, str(path))

    def row(self, n: int, station: str, head: str) -> None:
        """The chain has this row. Raises ChainError: an anchor says otherwise."""
        for anchor in self._open.pop(n, ()):
            if (anchor.station, anchor.head) != (station, head):
                raise ChainError(
                    f"{self._where}: the anchor of row {n} says {anchor.head[:23]} of {anchor.station}, the journal has "
                    f"{head[:23]} of {station}: the chain was written anew after it was anchored"
                )
            self._held += 1

    def report(self, first_n: int, last_n: int) -> AnchorReport:
        """After the last row. Raises ChainError: an anchored row is missing at the end, or no anchor is of this journal."""
        missing = sorted(n for n in self._open if n > last_n)
        if missing:
            raise ChainError(
                f"{self._where}: row {missing[-1]} was anchored, the journal ends at row {last_n}: its end was cut off"
            )
        self._older = sum(len(found) for n, found in self._open.items() if n < first_n)
        if not self._held:
            raise ChainError(
                f"{self._where}: no anchor is of a row of this journal (rows {first_n} to {last_n}): nothing is proved"
            )
        return AnchorReport(self._held, self._older, self._newest, last_n - self._newest)


def append_anchor(path: Path, line: bytes) -> None:
    """Write a line and wait until it is on the disk; a file that has grown too large first loses its older half.

    Raises:
        JournalError: it cannot be written.
    """
    try:
        if path.exists() and path.stat().st_size + len(line) > MAX_FILE_BYTES:
            lines = path.read_bytes().splitlines(keepends=True)
            new = path.with_name(path.name + ".new")
            new.write_bytes(b"".join(lines[len(lines) // 2 :]))
            new.replace(path)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        with os.fdopen(handle, "wb") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise JournalError(f"{path}: cannot write an anchor ({exc.strerror}); the chain's end is proved by nothing") from exc
