"""One content, one byte layout: whatever a zip can say otherwise is refused, and never by another error than BundleError."""

import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.bundle.format import MAX_BUNDLE_BYTES, max_bytes, pack, unpack
from edge.errors import BundleError

MEMBERS = {
    "manifest.json": b'{"schema": 1}\n',
    "manifest.sig": b"ed25519 of somebody\n",
    "certificate.json": b"{}",
    "golden/a.png": b"\x89PNG and more",
    "golden/golden.json": b"[]",
    "model.onnx": b"weights " * 5,
}
PACKED = pack(MEMBERS)
ORDER = list(MEMBERS)


@dataclass
class Entry:
    """One member as an attacker writes it: every header field can be set apart from the other header's."""

    name: bytes
    content: bytes
    local: dict[str, int] = field(default_factory=dict)
    central: dict[str, int] = field(default_factory=dict)
    both: dict[str, int] = field(default_factory=dict)
    local_name: bytes | None = None
    extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    after: bytes = b""
    offset: int | None = None


def write_zip(
    entries: list[Entry], *, comment: bytes = b"", before: bytes = b"", between: bytes = b"", inside: bytes = b"", **end: int
) -> bytes:
    """A zip writer of its own, from APPNOTE.TXT, so that the reader is not tested by its own writer."""
    body, directory = bytearray(before), bytearray()
    for entry in entries:
        crc, size = zlib.crc32(entry.content), len(entry.content)
        plain = {"needs": 20, "flags": 0, "method": 0, "time": 0, "date": 33, "crc": crc, "packed": size, "size": size}
        lo, ce = {**plain, **entry.both, **entry.local}, {**plain, **entry.both, **entry.central}
        at = len(body) if entry.offset is None else entry.offset
        local_name = entry.name if entry.local_name is None else entry.local_name
        body += (
            b"PK\3\4" + struct.pack("<HHHHHIII", *(lo[k] for k in plain)) + struct.pack("<HH", len(local_name), len(entry.extra))
        )
        body += local_name + entry.extra + entry.content + entry.after
        made, mode = entry.central.get("made", 0x314), entry.central.get("mode", 0o100644 << 16)
        directory += b"PK\1\2" + struct.pack("<HHHHHHIII", made, *(ce[k] for k in plain))
        directory += struct.pack("<HHH", len(entry.name), len(entry.central_extra), len(entry.comment))
        directory += struct.pack("<HHII", entry.central.get("disk", 0), entry.central.get("internal", 0), mode, at)
        directory += entry.name + entry.central_extra + entry.comment
    directory += inside
    fields = {
        "disk": 0,
        "start_disk": 0,
        "here": len(entries),
        "total": len(entries),
        "size": len(directory),
        "at": len(body) + len(between),
    }
    fields.update(end)
    tail = b"PK\5\6" + struct.pack("<HHHHII", *fields.values()) + struct.pack("<H", len(comment)) + comment
    return bytes(body) + between + bytes(directory) + tail


def entries() -> list[Entry]:
    return [Entry(name.encode(), MEMBERS[name]) for name in ORDER]


def with_entry(index: int, **changes: Any) -> bytes:
    listed = entries()
    listed[index] = replace(listed[index], **changes)
    return write_zip(listed)


def test_two_writers_and_the_standard_library_agree_on_the_bytes():
    assert write_zip(entries()) == PACKED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in MEMBERS.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    assert buffer.getvalue() == PACKED
    assert hashlib.sha256(PACKED).hexdigest()[:16] == "e3c2328df6bffd9c"


def test_round_trip_keeps_contents_and_order():
    assert unpack(PACKED) == MEMBERS
    assert list(unpack(PACKED)) == ORDER
    assert pack(dict(reversed(MEMBERS.items()))) == PACKED


def test_every_flipped_bit_is_refused():
    for at in range(len(PACKED)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            altered = bytearray(PACKED)
            altered[at] ^= flip
            with pytest.raises(BundleError):
                unpack(bytes(altered))


def test_every_truncation_is_refused():
    for length in range(len(PACKED)):
        with pytest.raises(BundleError):
            unpack(PACKED[:length])


def test_every_truncation_from_the_front_is_refused():
    for start in range(1, len(PACKED)):
        with pytest.raises(BundleError):
            unpack(PACKED[start:])


def test_a_flipped_content_byte_names_its_member():
    for name, content in MEMBERS.items():
        at = PACKED.index(content)
        altered = bytearray(PACKED)
        altered[at] ^= 1
        with pytest.raises(BundleError, match="CRC") as caught:
            unpack(bytes(altered))
        assert caught.value.member == name


LAST = len(ORDER) - 1
TRICKS = {
    "compressed": (with_entry(LAST, both={"method": 8}), "compression method 8"),
    "compressed sizes differ": (with_entry(LAST, both={"packed": 30}), "stored member"),
    "encrypted": (with_entry(LAST, both={"flags": 1}), "encrypted"),
    "data descriptor": (with_entry(LAST, both={"flags": 8}), "data descriptor"),
    "utf-8 name flag": (with_entry(LAST, both={"flags": 0x800}), "flags 0"),
    "extra field": (with_entry(LAST, extra=b"\x01\0\4\0abcd", central_extra=b"\x01\0\4\0abcd"), "extra field"),
    "local extra field only": (with_entry(LAST, extra=b"\x01\0\4\0abcd"), "differ|end|directory"),
    "member comment": (with_entry(LAST, comment=b"hello"), "comment 5"),
    "archive comment": (write_zip(entries(), comment=b"hello"), "end record|appended"),
    "prepended bytes": (b"#!/bin/sh\n" + PACKED, "10 bytes stand before"),
    "prepended and offsets fixed": (write_zip(entries(), before=b"#!/bin/sh\n"), "stand before"),
    "trailing byte": (PACKED + b"\0", "1 bytes follow the end record"),
    "trailing zip": (PACKED + PACKED, "directory|altered"),
    "hidden bytes between members": (with_entry(1, after=b"hidden"), "at byte"),
    "hidden bytes before directory": (write_zip(entries(), between=b"hidden"), "follow the last member"),
    "hidden bytes behind the directory's entries": (write_zip(entries(), inside=b"hidden"), "directory to end"),
    "second entry points at first": (with_entry(2, offset=0), "at byte"),
    "time": (with_entry(0, both={"time": 1}), "time 0x1"),
    "date": (with_entry(0, both={"date": 34}), "date 0x22"),
    "needs version": (with_entry(0, both={"needs": 45}), "version 45"),
    "local name differs": (with_entry(LAST, local_name=b"model.onnY"), "differ"),
    "local size differs": (with_entry(LAST, local={"size": 39}), "differ"),
    "local crc differs": (with_entry(LAST, local={"crc": 0}), "differ"),
    "both crc wrong": (with_entry(LAST, both={"crc": 0}), "CRC 00000000"),
    "size beyond file": (with_entry(LAST, both={"size": 10**6, "packed": 10**6}), "truncated"),
    "size beyond cap": (with_entry(1, both={"size": 2000, "packed": 2000}), "at most 1024 bytes"),
    "zip64 sentinel": (with_entry(LAST, both={"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF}), "at most"),
    "symbolic link": (with_entry(LAST, central={"mode": 0o120777 << 16}), "plain file"),
    "executable": (with_entry(LAST, central={"mode": 0o100755 << 16}), "plain file"),
    "setuid": (with_entry(LAST, central={"mode": 0o104644 << 16}), "plain file"),
    "made on DOS": (with_entry(LAST, central={"made": 20}), "plain file"),
    "on another disk": (with_entry(LAST, central={"disk": 1}), "plain file"),
    "internal attributes": (with_entry(LAST, central={"internal": 1}), "plain file"),
    "several disks": (write_zip(entries(), disk=1), "one disk"),
    "entries on this disk differ": (write_zip(entries(), here=LAST), "members"),
    "one entry too few": (write_zip(entries(), here=LAST, total=LAST), "directory"),
    "one entry too many": (write_zip(entries(), here=LAST + 2, total=LAST + 2), "directory entry"),
    "no entries": (write_zip([], at=0), "begin with"),
    "too many entries": (write_zip(entries(), here=60000, total=60000), "at most"),
    "directory size lies": (write_zip(entries(), size=10), "fill"),
    "directory offset lies": (write_zip(entries(), at=0), "fill"),
    "order": (write_zip([entries()[1], entries()[0], *entries()[2:]]), "order"),
    "order of the rest": (write_zip([*entries()[:2], *reversed(entries()[2:])]), "order"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_zip_tricks_are_refused(trick):
    data, message = TRICKS[trick]
    with pytest.raises(BundleError, match=message):
        unpack(data)


@pytest.mark.parametrize(
    "name",
    [
        "../manifest.json", "/etc/passwd", "golden/../model.onnx", "golden\\a.png", "golden/", "golden", "C:model.onnx", "",
        "MODEL.ONNX", "Model.onnx", "golden/A.png", "golden/ä.png", "golden/a\u0308.png", "golden/a.png\0", "golden/a .png",
        "golden/.png", "golden/-a.png", "golden/a/b.png", "model.onnx ", "model.onnx.", "engine.plan",
        "golden/" + "a" * 61 + ".png",
    ],
)  # fmt: skip
def test_names_that_are_not_ours_are_refused(name):
    extra = Entry(name.encode(), b"x")
    with pytest.raises(BundleError) as caught:
        unpack(write_zip([*entries(), extra]))
    assert "expected members" in str(caught.value)


def test_a_name_of_invalid_utf8_is_refused_printably():
    with pytest.raises(BundleError, match=r"xff") as caught:
        unpack(write_zip([*entries(), Entry(b"golden/\xff.png", b"x")]))
    str(caught.value).encode("ascii")


@pytest.mark.parametrize("content", [b"x", MEMBERS["model.onnx"]])
def test_two_members_of_one_name_are_refused(content):
    with pytest.raises(BundleError, match="two") as caught:
        unpack(write_zip([*entries(), Entry(b"model.onnx", content)]))
    assert caught.value.member == "model.onnx"


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "model.onnx", "certificate.json", "golden/golden.json"])
def test_a_missing_member_is_named(name):
    rest = {key: value for key, value in MEMBERS.items() if key != name}
    with pytest.raises(BundleError, match=name) as caught:
        unpack(write_zip([Entry(key.encode(), rest[key]) for key in rest]))
    assert caught.value.member == name
    with pytest.raises(BundleError, match=name):
        pack(rest)
    if name == "manifest.sig":
        assert "unsigned" in str(caught.value)


def test_sizes_are_capped_by_kind_when_writing_and_reading():
    for name, cap in (("manifest.json", 2**20), ("manifest.sig", 1024), ("golden/a.png", 4 * 2**20)):
        assert max_bytes(name) == cap
        fits, large = {**MEMBERS, name: b"x" * cap}, {**MEMBERS, name: b"x" * (cap + 1)}
        assert unpack(pack(fits))[name] == fits[name]
        with pytest.raises(BundleError, match=f"at most {cap}"):
            pack(large)
        with pytest.raises(BundleError, match=f"at most {cap}"):
            unpack(write_zip([Entry(key.encode(), large[key]) for key in ORDER]))


def test_more_pictures_than_allowed_are_refused():
    pictures = {f"golden/p{number:03}.png": b"x" for number in range(64)}
    most = {**{k: v for k, v in MEMBERS.items() if k != "golden/a.png"}, **pictures}
    assert unpack(pack(most)) == most
    with pytest.raises(BundleError, match="64 golden pictures"):
        pack({**most, "golden/one_more.png": b"x"})


def test_a_whole_bundle_above_the_cap_is_refused():
    pictures = {f"golden/{number}.png": b"x" * (4 * 2**20) for number in range(16)}
    with pytest.raises(BundleError, match=str(MAX_BUNDLE_BYTES)):
        pack({**MEMBERS, **pictures})
    with pytest.raises(BundleError, match=str(MAX_BUNDLE_BYTES)):
        unpack(bytes(MAX_BUNDLE_BYTES + 1))


@settings(deadline=None)
@given(st.binary(max_size=400))
@example(b"")
@example(b"PK\5\6" + bytes(18))
@example(b"PK\3\4" + bytes(40) + b"PK\5\6" + bytes(18))
def test_random_bytes_raise_nothing_but_bundle_error(data):
    for candidate in (data, b"PK\3\4" + data, b"PK\3\4" + data + PACKED[-22:]):
        with pytest.raises(BundleError):
            unpack(candidate)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_bundles_are_refused(data):
    altered = bytearray(PACKED)
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(altered)))
        end = data.draw(st.integers(begin, min(begin + 8, len(altered))))
        altered[begin:end] = data.draw(st.binary(max_size=8))
    if bytes(altered) == PACKED:
        return
    try:
        members = unpack(bytes(altered))
    except BundleError:
        return
    # Only a change of contents together with their CRC gets this far; that is for hashes and signature to refuse.
    assert pack(members) == bytes(altered)


NUMBERS = st.integers(0, 2**16 - 1)
WIDE = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 100), st.just(2**32 - 1))


@settings(max_examples=300, deadline=None)
@given(
    index=st.integers(0, LAST),
    both=st.dictionaries(st.sampled_from(["needs", "flags", "method", "time", "date"]), NUMBERS, max_size=2),
    sizes=st.dictionaries(st.sampled_from(["crc", "packed", "size"]), WIDE, max_size=3),
    offset=st.none() | WIDE,
)
def test_random_header_fields_give_the_same_bytes_or_an_error(index, both, sizes, offset):
    data = with_entry(index, both={**both, **sizes}, offset=offset)
    try:
        assert unpack(data) == MEMBERS
    except BundleError:
        assert data != PACKED
    else:
        assert data == PACKED
