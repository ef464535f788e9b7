"""Judged parts for a model in the shadow: what the daemon hands over on its own machine, picture and verdict together.

    head length, 4 bytes, little endian | head, JSON | picture, height x width x 3 bytes RGB

over a Unix socket beside the link that names the running model. The daemon listens, one reader at a time connects; nothing is
answered. Both ends check that the other runs as the same user or as root.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ContractError
from edge.preprocess import MAX_PIXELS
from edge.wire.codec import Boot, Codec, Count, ModelRef

PART_SCHEMA = "onbelt.part/1"
SOCKET_NAME = "parts.sock"
MAX_HEAD_BYTES = 1024
_LENGTH = struct.Struct("<I")
_PEER = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
Side = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class PartHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the running model said of a part.

    Attributes:
        boot, seq: as in the verdict. model: that judged it. verdict: its verdict. cal: its score over its limit.
        infer_ms: time in its engine. height, width: of the picture, pixels.
        dropped: judged parts this reader did not get because it was busy, since it connected.
    """

    sch: str
    boot: Boot
    seq: Count
    model: ModelRef
    verdict: Literal["pass", "reject", "uncertain"]
    cal: float
    infer_ms: Annotated[float, msgspec.Meta(ge=0.0)]
    height: Side
    width: Side
    dropped: Count


PART: Codec[PartHead] = Codec(PART_SCHEMA, PartHead, max_bytes=MAX_HEAD_BYTES)


def send_part(connection: socket.socket, head: PartHead, pixels: NDArray[np.uint8]) -> None:
    """Write one part; (H, W, 3) uint8 RGB. Raises OSError, ContractError: the head is out of range."""
    written = PART.encode(head)
    connection.sendall(_LENGTH.pack(len(written)) + written)
    connection.sendall(np.ascontiguousarray(pixels).data.cast("B"))


def receive_part(connection: socket.socket) -> tuple[PartHead, NDArray[np.uint8]] | None:
    """Read one part; None when the daemon hung up.

    Returns:
        Its head and its picture, (H, W, 3) uint8 RGB.

    Raises:
        ContractError: not of this form, or a picture larger than any camera's. OSError, TimeoutError.
    """
    length = _read(connection, _LENGTH.size)
    if length is None:
        return None
    (size,) = _LENGTH.unpack(length)
    if not 1 <= size <= MAX_HEAD_BYTES:
        raise ContractError(f"part: expected a head of 1 to {MAX_HEAD_BYTES} bytes, got {size}; is the daemon of this version?")
    content = _read(connection, size)
    if content is None:
        return None
    head = PART.decode(bytes(content))
    if head.height * head.width > MAX_PIXELS:
        raise ContractError(f"part: expected at most {MAX_PIXELS} pixels, got {head.width}x{head.height}")
    picture = _read(connection, head.height * head.width * 3)
    if picture is None:
        return None
    return head, np.frombuffer(picture, np.uint8).reshape(head.height, head.width, 3)


@contextlib.contextmanager
def address(folder: Path) -> Iterator[str]:
    """The socket's address while it is bound or connected to, however deep its folder lies: it has 107 bytes (unix(7))."""
    path = str(folder / SOCKET_NAME)
    if len(os.fsencode(path)) <= 107:
        yield path
        return
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    finally:
        os.close(handle)


def peer_uid(connection: socket.socket) -> int:
    """User id of the process at the other end, as the kernel knows it."""
    found: int = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1]
    return found


def _read(connection: socket.socket, size: int) -> bytearray | None:
    """Exactly so many bytes; None when the other end hung up."""
    content = bytearray(size)
    view, have = memoryview(content), 0
    while have < size:
        got = connection.recv_into(view[have:])
        if got == 0:
            return None
        have += got
    return content
