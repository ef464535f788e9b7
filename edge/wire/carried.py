"""A repository carried over MQTT, for boxes whose only way out is the broker: retained topics under one base.

    {base}/index            which files there are, by their path in the repository: bytes and tag
    {base}/{tag}/{n}        32 KiB of the file with this tag, from byte n x 32768 on

A tag is the first half of the content's SHA-256, so a topic never changes its meaning, and a file that changes in place
(`timestamp.json`) gets new topics; the index that names them is replaced last. Nothing here is trusted: a broker that alters any
of it alters bytes that the update framework then refuses, one that hides it is a server that is down.
"""

import hashlib
from typing import Annotated

import msgspec

from edge.bundle.format import MAX_BUNDLE_BYTES
from edge.wire.codec import Codec, Micros

INDEX_SCHEMA = "onbelt.carried/1"
CHUNK_BYTES = 32 * 1024
MAX_INDEX_BYTES = 60 * 1024  # a connection takes messages of 64 KiB

Path = Annotated[str, msgspec.Meta(pattern=r"^(metadata|targets)(/[A-Za-z0-9~._-]{1,160}){1,4}\Z")]
Tag = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_BUNDLE_BYTES)]


class CarriedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One file: its size in bytes and its tag."""

    size: Size
    tag: Tag


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is carried.

    Attributes:
        at_us: when it was written, microseconds UTC, a label. files: by path in the repository.
        stale: tags and sizes of the index before this one; a box may be reading them, so they go with the next.
    """

    sch: str
    at_us: Micros
    files: dict[Path, CarriedFile]
    stale: dict[Tag, Size]


INDEX: Codec[Index] = Codec(INDEX_SCHEMA, Index, max_bytes=MAX_INDEX_BYTES)


def index_topic(base: str) -> str:
    """Where the index is."""
    return f"{base}/index"


def chunk_topic(base: str, tag: str, number: int) -> str:
    """Where a chunk is."""
    return f"{base}/{tag}/{number}"


def chunks(size: int) -> int:
    """How many chunks a file of so many bytes has."""
    return -(-size // CHUNK_BYTES)


def tag_of(content: bytes) -> str:
    """The tag of a file."""
    return hashlib.sha256(content).hexdigest()[:32]
