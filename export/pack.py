"""Pack and sign a bundle, and write it so that a power cut leaves the old file or the new one."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from PIL import Image

from edge.bundle import format as layout
from edge.bundle.manifest import Golden, Manifest, Member, encode_manifest
from edge.bundle.signing import sign


def png(frame: NDArray[np.uint8]) -> bytes:
    """A frame as a lossless PNG."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def golden_members(
    frames: Sequence[tuple[str, NDArray[np.uint8]]], scores: NDArray[np.float64], limit: float, engine: str
) -> dict[str, bytes]:
    """The golden pictures and the scores they must give.

    Args:
        frames: (label, (size, size, 3) uint8), labels of a-z 0-9 and dashes, all different.
        scores: (len(frames), 4).
        limit: on raw.
        engine: who made the scores.
    """
    members: dict[str, bytes] = {}
    listed = []
    for (label, frame), row in zip(frames, scores, strict=True):
        name = f"golden/{label}.png"
        members[name] = png(frame)
        listed.append(Golden(name, engine, [float(v) for v in row], "pass" if row[0] <= limit else "reject"))
    members[layout.GOLDEN] = msgspec.json.format(msgspec.json.encode(listed), indent=1) + b"\n"
    return members


def write_bundle(path: Path, manifest: Manifest, members: dict[str, bytes], key: Ed25519PrivateKey) -> int:
    """Hash, sign, pack and write.

    Args:
        path: the file; replaced as a whole or not at all.
        manifest: with empty `members`, filled here.
        members: model, certificate and golden frames.
        key: signs the manifest.

    Returns:
        Size in bytes.

    Raises:
        BundleError: a member breaks the format.
        OSError: the file cannot be written.
    """
    listed = {name: Member(hashlib.sha256(content).hexdigest(), len(content)) for name, content in sorted(members.items())}
    head = encode_manifest(msgspec.structs.replace(manifest, members=listed))
    content = layout.pack({**members, layout.MANIFEST: head, layout.SIGNATURE: sign(head, key)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return len(content)
