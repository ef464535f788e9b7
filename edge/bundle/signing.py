r"""Keys and signatures: Ed25519 over the bytes of `manifest.json`, which in turn holds the hash of every other member.

`manifest.sig` is one ASCII line of fixed length, so that nothing has to be parsed before it is trusted:

    ed25519 <key id: sha256 of the raw public key, 64 hex> <signature, 128 hex>\n

The same signature can be checked without Onbelt: `openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in manifest.json
-sigfile RAW`. A key signs bundles and nothing else. Trusted keys are PEM files `*.pub` in folders only an administrator can
write; removing the file revokes the key. Source: RFC 8032 (Ed25519), RFC 8410 (PEM form).
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from edge.bundle.format import MANIFEST, SIGNATURE
from edge.errors import ConfigError, SignatureError

_LINE = re.compile(rb"ed25519 ([0-9a-f]{64}) ([0-9a-f]{128})\n")
_MAX_KEY_BYTES = 4096  # a PEM Ed25519 key has about 120


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The public keys this box believes.

    Attributes:
        keys: public key by key id.
        sources: the files and folders looked at, for messages.
    """

    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    @classmethod
    def from_folders(cls, folders: Iterable[Path]) -> "TrustStore":
        """Load every `*.pub` of the folders, which must exist.

        Raises:
            ConfigError: a folder is missing, or a file in it is no Ed25519 public key.
        """
        keys: dict[str, Ed25519PublicKey] = {}
        sources = []
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError(
                    f"{folder}: expected a folder of trusted keys (*.pub), there is none; create it or name another"
                )
            sources.append(str(folder))
            for path in sorted(folder.glob("*.pub")):
                key = load_public(path)
                keys[key_id(key)] = key
        return cls(MappingProxyType(keys), tuple(sources))

    def verify(self, manifest: bytes, signature: bytes) -> str:
        """Check who signed a manifest.

        Args:
            manifest: bytes of manifest.json, unparsed.
            signature: bytes of manifest.sig.

        Returns:
            The key id that signed.

        Raises:
            SignatureError: the signature is malformed, by a key that is not trusted, or does not fit the manifest.
        """
        match = _LINE.fullmatch(signature)
        if match is None:
            raise SignatureError(
                f"expected one line 'ed25519 KEY-ID SIGNATURE', got {len(signature)} bytes beginning {signature[:16]!r}; "
                "sign the bundle by exporting it again",
                member=SIGNATURE,
            )
        signer = match[1].decode("ascii")
        key = self.keys.get(signer)
        if key is None:
            known = ", ".join(name[:16] for name in self.keys) or "none"
            raise SignatureError(
                f"signed by key {signer[:16]}, which this box does not trust (trusted: {known}; looked in "
                f"{', '.join(self.sources) or 'no folder'}); put the signer's .pub file there if you trust them",
                member=SIGNATURE,
            )
        try:
            key.verify(bytes.fromhex(match[2].decode("ascii")), manifest)
        except InvalidSignature as exc:
            raise SignatureError(
                f"the signature by key {signer[:16]} does not fit {MANIFEST}: altered after signing; fetch the bundle again",
                member=MANIFEST,
            ) from exc
        return signer


def default_trust() -> TrustStore:
    """The keys trusted where nothing else is said: shipped with Onbelt, the user's own, the machine's.

    Raises:
        ConfigError: a key file in one of the folders is damaged.
    """
    folders = (
        Path(__file__).resolve().parents[1] / "data" / "trusted",
        Path.home() / ".config" / "onbelt" / "trusted",
        Path("/etc/onbelt/trusted"),
    )
    # os.path says False of a folder that may not be entered, such as root's home; Path.is_dir raises.
    store = TrustStore.from_folders(folder for folder in folders if os.path.isdir(folder))  # noqa: PTH112
    return replace(store, sources=tuple(map(str, folders)))  # a missing folder is named too: it is where a key would go


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw public key, 64 hex digits."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of manifest.sig for these bytes of manifest.json."""
    return b"ed25519 %s %s\n" % (key_id(key.public_key()).encode("ascii"), key.sign(manifest).hex().encode("ascii"))


def generate_key(path: Path) -> str:
    """Make a key pair: the private key in `path` (mode 0600), the public one in `path` + ".pub".

    Returns:
        The key id.

    Raises:
        ConfigError: one of the two files exists (a key is never overwritten), or the folder cannot be written.
    """
    public = public_path(path)
    for file in (path, public):
        if file.exists() or file.is_symlink():
            raise ConfigError(f"{file}: exists; a key is never overwritten: choose another name, or remove it yourself")
    key = Ed25519PrivateKey.generate()
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    try:
        _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    except ConfigError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return key_id(key.public_key())


def public_path(path: Path) -> Path:
    """Where the public half of the private key `path` is written: the same name with ".pub" appended."""
    return path.with_name(path.name + ".pub")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot write a key there ({exc.strerror}); name a folder you can write to") from exc
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), mode)  # os.open's mode is cut by the umask; a public key must stay readable
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load_private(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        ConfigError: missing, unreadable, readable by others than its owner, or not an unencrypted Ed25519 key.
    """
    content = _read_key(path)
    if path.stat().st_mode & 0o077:
        raise ConfigError(
            f"{path}: expected a private key only its owner can read, got mode {path.stat().st_mode & 0o777:o}; chmod 600 it"
        )
    return private_from(content, str(path))


def private_from(content: bytes, name: str) -> Ed25519PrivateKey:
    """Read a private key that came otherwise than by its file; `name` is for messages.

    Raises:
        ConfigError: not an unencrypted Ed25519 key.
    """
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ConfigError(
            f"{name}: expected an Ed25519 private key in PEM form ({exc}); make one with: onbelt keygen OUT"
        ) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{name}: expected an Ed25519 private key, got {type(key).__name__}; make one with: onbelt keygen OUT")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        ConfigError: missing, unreadable, or not an Ed25519 public key.
    """
    content = _read_key(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(
            f"{path}: expected an Ed25519 public key in PEM form ({exc}); copy the .pub file of onbelt keygen"
        ) from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            f"{path}: expected an Ed25519 public key, got {type(key).__name__}; copy the .pub file of onbelt keygen"
        )
    return key


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot read the key ({exc.strerror}); make one with: onbelt keygen OUT") from exc
    if len(content) > _MAX_KEY_BYTES:
        raise ConfigError(f"{path}: expected a key of at most {_MAX_KEY_BYTES} bytes, it is larger; this is no key")
    return content
