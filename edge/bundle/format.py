"""The one byte layout a bundle may have: member names, size caps, and a packer and an unpacker that agree on every byte.

A bundle is a zip so that any tool can look inside, but only one zip per content is accepted: members stored uncompressed,
one after the other from byte 0, `manifest.json` first, `manifest.sig` second, the others by name; every header field has the
one value it may have. Given the members the whole file is determined, so a byte outside the hashed contents cannot be
changed either, and the tricks zip allows (a second directory, hidden bytes, two members of one name, headers that disagree,
compression bombs, paths) have no place to live. Names come from an ASCII lower-case list: two that differ only in case or
in Unicode normalisation cannot occur.

Source of the layout: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end).
"""

import re
import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from edge.errors import BundleError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MODEL = "model.onnx"
CERTIFICATE = "certificate.json"
GOLDEN = "golden/golden.json"
REQUIRED = (MANIFEST, SIGNATURE, MODEL, CERTIFICATE, GOLDEN)
PICTURE = re.compile(r"golden/[a-z0-9][a-z0-9_-]{0,59}\.png")

MAX_BUNDLE_BYTES = 64 * 2**20  # EfficientAD-M in fp16 is about 45 MB; nothing larger belongs on a box
MAX_PICTURES = 64
_MAX_BYTES = {MANIFEST: 2**20, SIGNATURE: 1024, MODEL: 60 * 2**20, CERTIFICATE: 2**20, GOLDEN: 2**20}
_MAX_PICTURE_BYTES = 4 * 2**20  # a 1024 px RGB picture as PNG that does not compress at all

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_MADE_BY = 0x0314  # UNIX, version 2.0
_NEEDS = 20
_DATE = 0x0021  # 1980-01-01, the earliest a zip can say: a bundle's bytes do not depend on when it was packed
_MODE = 0o100644 << 16


class _Header(NamedTuple):
    """The fields that the local and the central header of one member share."""

    needs: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    name_bytes: int
    extra_bytes: int


def max_bytes(name: str) -> int:
    """Size cap of a member in bytes.

    Raises:
        BundleError: no member of a bundle is called so.
    """
    cap = _MAX_BYTES.get(name)
    if cap is not None:
        return cap
    if PICTURE.fullmatch(name):
        return _MAX_PICTURE_BYTES
    raise BundleError(
        f"expected members {', '.join(REQUIRED)} and golden/NAME.png (a-z 0-9 _ -), got {name[:80]!r}; export the bundle again",
        member=name[:80],
    )


def _order(name: str) -> tuple[int, str]:
    return ((MANIFEST, SIGNATURE).index(name) if name in {MANIFEST, SIGNATURE} else 2, name)


def pack(members: Mapping[str, bytes]) -> bytes:
    """Lay out a bundle; the same members give the same bytes on every machine.

    Args:
        members: content by member name, signature included.

    Raises:
        BundleError: a member is missing, unknown or too large, or the whole is.
    """
    _check_names(list(members))
    body, directory = bytearray(), bytearray()
    for name in sorted(members, key=_order):
        content = members[name]
        if len(content) > max_bytes(name):
            raise BundleError(f"{name}: expected at most {max_bytes(name)} bytes, got {len(content)}", member=name)
        shared = _Header(
            _NEEDS, 0, 0, 0, _DATE, zlib.crc32(content), len(content), len(content), len(name), 0
        )  # fmt: skip
        directory += _CENTRAL.pack(_CENTRAL_MARK, _MADE_BY, *shared, 0, 0, 0, _MODE, len(body)) + name.encode("ascii")
        body += _LOCAL.pack(_LOCAL_MARK, *shared) + name.encode("ascii") + content
    end = _END.pack(_END_MARK, 0, 0, len(members), len(members), len(directory), len(body), 0)
    packed = bytes(body + directory + end)
    if len(packed) > MAX_BUNDLE_BYTES:
        raise BundleError(f"expected a bundle of at most {MAX_BUNDLE_BYTES} bytes, got {len(packed)}; use fewer golden pictures")
    return packed


def unpack(data: bytes) -> dict[str, bytes]:
    """Take a bundle apart, accounting for every byte of it.

    Contents are not trusted yet: only the layout, the sizes and the CRCs are checked here.

    Args:
        data: the whole file.

    Returns:
        Content by member name, in file order.

    Raises:
        BundleError: anything that `pack` would not have written, with the member's name where it can be known.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(f"expected at most {MAX_BUNDLE_BYTES} bytes, got {len(data)}; this is no bundle")
    entries, start = _directory_of(data)
    members: dict[str, bytes] = {}
    at, expected_at = start, 0
    for _ in range(entries):
        name, at, expected_at, content = _member(data, at, expected_at, len(data) - _END.size)
        if name in members:
            raise BundleError(f"{name}: expected one member of this name, got two", member=name)
        members[name] = content
    if at != len(data) - _END.size:
        raise BundleError(f"expected the directory to end at byte {len(data) - _END.size}, it ends at {at}; altered")
    if expected_at != start:
        raise BundleError(
            f"expected the directory to follow the last member at byte {expected_at}, it stands at {start}; altered"
        )
    _check_names(list(members))
    if list(members) != sorted(members, key=_order):
        raise BundleError(f"expected members in the order {sorted(members, key=_order)}, got {list(members)}; altered")
    return members


def _check_names(names: list[str]) -> None:
    for name in names:
        max_bytes(name)
    for name in REQUIRED:
        if name not in names:
            what = "it is unsigned: sign it by exporting with a key" if name == SIGNATURE else "export it again"
            raise BundleError(f"expected a member {name}, found none; {what}", member=name)
    pictures = len(names) - len(REQUIRED)
    if pictures > MAX_PICTURES:
        raise BundleError(f"expected at most {MAX_PICTURES} golden pictures, got {pictures}")


def _directory_of(data: bytes) -> tuple[int, int]:
    """Number of members, and the byte where the directory begins."""
    if not data:
        raise BundleError("expected a bundle, got an empty file; copy it again")
    if data[:4] != _LOCAL_MARK:
        inside = data.find(_LOCAL_MARK)
        hint = f"; {inside} bytes stand before the first member" if inside > 0 else "; this is no .onbelt file"
        raise BundleError(f"expected a bundle to begin with {_LOCAL_MARK!r}, got {data[:4]!r}{hint}")
    if len(data) < _LOCAL.size + _END.size or data[-_END.size : -_END.size + 4] != _END_MARK:
        found = data.rfind(_END_MARK)
        hint = (
            f"{len(data) - found - _END.size} bytes follow the end record; they were appended"
            if 0 <= found < len(data) - _END.size
            else f"{len(data)} bytes is not all of it; copy it again"
        )
        raise BundleError(f"expected the end record in the last {_END.size} bytes, found none: {hint}")
    _, disk, directory_disk, here, entries, size, start, comment = _END.unpack_from(data, len(data) - _END.size)
    if (disk, directory_disk, comment) != (0, 0, 0) or here != entries:
        raise BundleError(
            "expected one disk and no comment in the end record, got "
            f"disks {disk}/{directory_disk}, members {here}/{entries}, comment {comment} bytes; altered"
        )
    if entries > len(REQUIRED) + MAX_PICTURES:
        raise BundleError(f"expected at most {len(REQUIRED) + MAX_PICTURES} members, got {entries}")
    if start + size != len(data) - _END.size:
        raise BundleError(
            f"expected the directory to fill bytes {start} to {len(data) - _END.size}, it says {size} bytes; altered or truncated"
        )
    return int(entries), int(start)


def _member(data: bytes, at: int, offset: int, directory_end: int) -> tuple[str, int, int, bytes]:
    """Read the member whose central header stands at `at` and whose local header must stand at `offset`.

    Returns:
        Its name, the byte after its central header, the byte after its content, its content.
    """
    if at + _CENTRAL.size > directory_end:
        raise BundleError(f"expected a directory entry at byte {at}, the directory ends at {directory_end}; altered or truncated")
    mark, made_by, *rest = _CENTRAL.unpack_from(data, at)
    if mark != _CENTRAL_MARK:
        raise BundleError(f"expected a directory entry at byte {at}, got {mark!r}; altered")
    central = _Header(*rest[:10])
    comment, disk, internal, mode, local_at = rest[10:]
    after = at + _CENTRAL.size + central.name_bytes
    if after > directory_end:
        raise BundleError(
            f"expected a member name of {central.name_bytes} bytes at byte {at}, the directory ends before; altered"
        )
    raw_name = data[at + _CENTRAL.size : after]
    name = raw_name.decode("ascii", "backslashreplace")
    cap = max_bytes(name)
    _check_header(name, central)
    if (made_by, comment, disk, internal, mode) != (_MADE_BY, 0, 0, 0, _MODE):
        raise BundleError(
            f"{name}: expected a plain file of ours (no comment, link, folder or attributes), got made-by {made_by:#x}, "
            f"comment {comment} bytes, disk {disk}, attributes {internal:#x}/{mode:#x}; altered",
            member=name,
        )
    if local_at != offset:
        raise BundleError(f"{name}: expected at byte {offset}, the directory says {local_at}; altered", member=name)
    if central.size > cap:
        raise BundleError(f"{name}: expected at most {cap} bytes, got {central.size}", member=name)
    begin = offset + _LOCAL.size + central.name_bytes
    end = begin + central.size
    if end > directory_end:
        raise BundleError(f"{name}: expected {central.size} bytes from byte {begin}, the file is shorter; truncated", member=name)
    local_mark, *local = _LOCAL.unpack_from(data, offset)
    if local_mark != _LOCAL_MARK or tuple(local) != tuple(central) or data[offset + _LOCAL.size : begin] != raw_name:
        raise BundleError(
            f"{name}: expected the same header before the member and in the directory, they differ; altered", member=name
        )
    content = data[begin:end]
    if zlib.crc32(content) != central.crc:
        raise BundleError(
            f"{name}: expected CRC {central.crc:08x}, got {zlib.crc32(content):08x}; altered or damaged, copy it again",
            member=name,
        )
    return name, after, end, content


def _check_header(name: str, header: _Header) -> None:
    if header.flags & 0x0001:
        raise BundleError(
            f"{name}: expected a readable member, it is encrypted; a bundle is signed, never encrypted", member=name
        )
    if header.flags & 0x0008:
        raise BundleError(f"{name}: expected sizes in the header, it defers them to a data descriptor", member=name)
    if header.method != 0 or header.packed != header.size:
        raise BundleError(
            f"{name}: expected a stored member, got compression method {header.method} "
            f"({header.packed} of {header.size} bytes); zip it again without compression",
            member=name,
        )
    if header.extra_bytes:
        raise BundleError(f"{name}: expected no extra field, got {header.extra_bytes} bytes", member=name)
    if (header.needs, header.flags, header.time, header.date) != (_NEEDS, 0, 0, _DATE):
        raise BundleError(
            f"{name}: expected version {_NEEDS}, flags 0, date {_DATE:#x}, got version {header.needs}, flags {header.flags:#x}, "
            f"time {header.time:#x}, date {header.date:#x}; altered",
            member=name,
        )
