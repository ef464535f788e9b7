"""The strict reader: layout, then signature, then manifest, then hashes, in this order and never another.

Until the signature holds, nothing inside the file is interpreted: the layout check looks at headers only. What comes out is
either a whole bundle that a trusted key vouched for byte by byte, or BundleError with the member's name.
"""

import hashlib
import io
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.bundle.format import CERTIFICATE, GOLDEN, MANIFEST, MAX_BUNDLE_BYTES, MODEL, SIGNATURE, unpack
from edge.bundle.manifest import Golden, Manifest, decode_manifest
from edge.bundle.signing import TrustStore
from edge.errors import BundleError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LimitFile:
    """A limit file in force: its version, hash of what was signed, who signed, who approved it and why."""

    version: int
    sha256: str
    key_id: str
    approved_by: str
    note: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified model, ready for an engine.

    Attributes:
        path: where it was read from, for messages.
        manifest: its promises. golden: the frames and scores it must reproduce. certificate: float against INT8.
        sha256: hash of manifest.json, the bundle's identity (hex).
        key_id: who signed it.
        members: content of every member by name.
        limit_file: where the limit in force comes from when it is not the bundle's own.
    """

    path: Path
    manifest: Manifest
    golden: tuple[Golden, ...]
    certificate: dict[str, Any]
    sha256: str
    key_id: str
    members: Mapping[str, bytes]
    limit_file: LimitFile | None = None

    @property
    def model(self) -> bytes:
        """The ONNX file."""
        return self.members[MODEL]

    def picture(self, name: str) -> NDArray[np.uint8]:
        """Decode a golden picture.

        Args:
            name: member name, as `Golden.picture` gives it.

        Returns:
            (size, size, 3) uint8 RGB.

        Raises:
            BundleError: no such picture, or it is not a PNG of the model's input size.
        """
        if name not in {golden.picture for golden in self.golden}:
            raise BundleError(f"{self.path}: expected a golden picture, got {name!r}", member=name)
        size = self.manifest.size
        try:
            with Image.open(io.BytesIO(self.members[name]), formats=("PNG",)) as opened:
                if opened.size != (size, size) or opened.mode != "RGB":
                    raise BundleError(
                        f"{self.path}: {name}: expected {size}x{size} RGB, got {opened.width}x{opened.height} {opened.mode}",
                        member=name,
                    )
                return np.array(opened, dtype=np.uint8)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
            raise BundleError(f"{self.path}: {name}: expected a whole PNG picture ({exc}); export again", member=name) from exc


def open_bundle(path: Path, trust: TrustStore) -> Bundle:
    """Read and verify a bundle file.

    Args:
        path: the .onbelt file.
        trust: the keys this box believes.

    Raises:
        BundleError: missing, unreadable, not a file, empty, too large, malformed, altered, or of a schema not known here.
        SignatureError: unsigned, signed by a stranger, or altered after signing.
    """
    return read_bundle(_read_capped(path), trust, path)


def read_bundle(data: bytes, trust: TrustStore, path: Path) -> Bundle:
    """Verify a bundle that is already in memory.

    Args:
        data: the whole file.
        trust: the keys this box believes.
        path: where it came from, for messages.

    Raises:
        BundleError, SignatureError: as `open_bundle`.
    """
    try:
        return _verified(data, trust, path)
    except BundleError as exc:
        raise type(exc)(f"{path}: {exc}", member=exc.member) from exc


def _verified(data: bytes, trust: TrustStore, path: Path) -> Bundle:
    members = unpack(data)
    signer = trust.verify(members[MANIFEST], members[SIGNATURE])
    manifest = decode_manifest(members[MANIFEST])
    _check_members(manifest, members)
    golden = tuple(_decode(members[GOLDEN], list[Golden], GOLDEN))
    _check_golden(golden, members)
    certificate = _decode(members[CERTIFICATE], dict[str, Any], CERTIFICATE)
    return Bundle(
        path=path,
        manifest=manifest,
        golden=golden,
        certificate=certificate,
        sha256=hashlib.sha256(members[MANIFEST]).hexdigest(),
        key_id=signer,
        members=MappingProxyType(members),
    )


def _check_members(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    present = set(members) - {MANIFEST, SIGNATURE}
    for name in sorted(present ^ set(manifest.members)):
        if name in present:
            raise BundleError(f"{name}: is in the file but not in the manifest; added after signing", member=name)
        raise BundleError(f"{name[:80]!r}: is in the manifest but not in the file; removed after signing", member=name[:80])
    for name, said in manifest.members.items():
        content = members[name]
        digest = hashlib.sha256(content).hexdigest()
        if len(content) != said.bytes or digest != said.sha256:
            raise BundleError(
                f"{name}: expected {said.bytes} bytes, sha256 {said.sha256[:12]}, got {len(content)} bytes, {digest[:12]}; "
                "altered after signing, fetch the bundle again",
                member=name,
            )


def _check_golden(golden: tuple[Golden, ...], members: Mapping[str, bytes]) -> None:
    pictures = [one.picture for one in golden]
    in_file = sorted(name for name in members if name.endswith(".png"))
    if not pictures or sorted(pictures) != in_file:
        raise BundleError(
            f"{GOLDEN}: expected one entry for each golden picture, at least one; got {len(pictures)} entries for {len(in_file)} "
            "pictures; export again",
            member=GOLDEN,
        )
    for one in golden:
        if len(one.scores) != 4 or not all(np.isfinite(one.scores)) or one.verdict not in {"pass", "reject"}:
            raise BundleError(
                f"{GOLDEN}: {one.picture}: expected four finite scores and pass or reject, got {one.scores} {one.verdict!r}",
                member=GOLDEN,
            )


def _decode(content: bytes, kind: type[_T], member: str) -> _T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise BundleError(f"{member}: not as agreed ({exc}); export the bundle again", member=member) from exc


def _read_capped(path: Path) -> bytes:
    try:
        # O_NONBLOCK: a FIFO put in a bundle's place must not hang the box. It changes nothing for a regular file.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise BundleError(f"{path}: no such bundle; expected an .onbelt file there") from exc
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path}: cannot open the bundle ({exc}); check its permissions") from exc
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
            raise BundleError(f"{path}: expected an .onbelt file, got {kind}; name the file itself")
        if status.st_size > MAX_BUNDLE_BYTES:
            raise BundleError(f"{path}: expected at most {MAX_BUNDLE_BYTES} bytes, got {status.st_size}; this is no bundle")
        chunks, left = [], MAX_BUNDLE_BYTES + 1  # the file may grow while it is read
        while left and (chunk := os.read(handle, min(left, 2**22))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as exc:
        raise BundleError(f"{path}: cannot read the bundle ({exc.strerror}); copy it again, check the disk") from exc
    finally:
        os.close(handle)
    return b"".join(chunks)
