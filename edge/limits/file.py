r"""Limit files on disk: `NAME.limit`, one signature line, then the signed JSON.

    ed25519 <key id, 64 hex> <signature, 128 hex>\n
    {"schema": 1, ...}\n

The first line has a fixed length and covers every byte after it, so nothing has to be parsed before it is trusted. What is signed
is `onbelt.limit/1\n` and then the JSON: a signature on a limit is none on a bundle, and the other way round.

A key that may sign limits need not be one that may sign models: beside `TRUSTED/*.pub`, which are believed for both, the keys in
`TRUSTED/limits/*.pub` are believed for limits only. So a box can have a key of its own for refits and still accept no model
that was made on it.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bundle.format import MANIFEST
from edge.bundle.signing import TrustStore, sign
from edge.errors import LimitError, SignatureError
from edge.limits.form import LimitForm, decode_limit, encode_limit

MAX_LIMIT_BYTES = 8 * 2**20  # 200,000 scores of four branches with 17 digits each would be more than anybody fits
LIMIT_KEYS = "limits"
_PREFIX = b"onbelt.limit/1\n"
_LINE_BYTES = len(b"ed25519 ") + 64 + 1 + 128 + 1


@dataclass(frozen=True, slots=True)
class SignedLimit:
    """A verified limit file.

    Attributes:
        path: where it was read from, for messages. form: its content. sha256: of the signed JSON, hex. key_id: who signed.
    """

    path: Path
    form: LimitForm
    sha256: str
    key_id: str


def limit_trust(trust: TrustStore) -> TrustStore:
    """The keys believed for limits: those believed for bundles, and those in the folders' `limits` subfolders.

    Raises:
        ConfigError: a file there is no Ed25519 public key.
    """
    own = [folder for source in trust.sources if (folder := Path(source) / LIMIT_KEYS).is_dir()]
    more = TrustStore.from_folders(own)
    return TrustStore(MappingProxyType({**more.keys, **trust.keys}), (*trust.sources, *more.sources))


def pack_limit(form: LimitForm, key: Ed25519PrivateKey) -> bytes:
    """The whole file. Raises LimitError: a value no reader would accept, or more scores than a file may hold."""
    body = encode_limit(form)
    content = sign(_PREFIX + body, key) + body
    if len(content) > MAX_LIMIT_BYTES:
        raise LimitError(f"limit: expected at most {MAX_LIMIT_BYTES} bytes, got {len(content)}; fit it on fewer parts")
    return content


def write_limit(path: Path, form: LimitForm, key: Ed25519PrivateKey) -> SignedLimit:
    """Sign and write a limit file, so that a power cut leaves the old file or the new one.

    Raises:
        LimitError: as `pack_limit`, or the file cannot be written.
    """
    content = pack_limit(form, key)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise LimitError(f"{path}: cannot write the limit there ({exc.strerror}); name a folder you can write to") from exc
    body = content[_LINE_BYTES:]
    return SignedLimit(path, form, hashlib.sha256(body).hexdigest(), content.split(b" ", 2)[1].decode("ascii"))


def read_limit(path: Path, trust: TrustStore) -> SignedLimit:
    """Read and verify a limit file.

    Args:
        path: the file.
        trust: keys believed for bundles; those for limits only are looked up beside them.

    Raises:
        LimitError: missing, too large, unsigned, signed by a stranger, altered, or not in the form agreed.
        ConfigError: a file among the trusted keys is no key.
    """
    return decode_file(_read_capped(path), trust, path)


def decode_file(content: bytes, trust: TrustStore, path: Path) -> SignedLimit:
    """Verify a limit file that is already in memory; arguments and errors as `read_limit`."""
    line, body = content[:_LINE_BYTES], content[_LINE_BYTES:]
    if len(content) > MAX_LIMIT_BYTES:
        raise LimitError(f"{path}: expected at most {MAX_LIMIT_BYTES} bytes, got {len(content)}; this is no limit file")
    if not line.startswith(b"ed25519 ") or not line.endswith(b"\n"):
        raise LimitError(
            f"{path}: expected a limit file to begin with its signature, 'ed25519 KEY-ID SIGNATURE', got {content[:16]!r}; "
            "make one with onbelt limit"
        )
    try:
        signer = limit_trust(trust).verify(_PREFIX + body, line)
    except SignatureError as exc:
        if exc.member == MANIFEST:  # the key is known, the bytes are not those it signed
            raise LimitError(f"{path}: altered after it was signed, or not signed as a limit; copy it again") from exc
        raise LimitError(f"{path}: {exc}") from exc
    try:
        form = decode_limit(body)
    except LimitError as exc:
        raise LimitError(f"{path}: {exc}") from exc
    return SignedLimit(path, form, hashlib.sha256(body).hexdigest(), signer)


def _read_capped(path: Path) -> bytes:
    try:
        # O_NONBLOCK: a FIFO put in its place must not hang the box. It changes nothing for a regular file.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise LimitError(f"{path}: no such limit file; make one with onbelt limit, or leave it out for the bundle's own") from exc
    except (OSError, ValueError) as exc:
        raise LimitError(f"{path}: cannot open the limit file ({exc}); check its permissions") from exc
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise LimitError(f"{path}: expected a limit file, got a folder, device or pipe; name the file itself")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(MAX_LIMIT_BYTES + 1)
    except OSError as exc:
        raise LimitError(f"{path}: cannot read the limit file ({exc.strerror}); copy it again, check the disk") from exc
    finally:
        os.close(handle)
