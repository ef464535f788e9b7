"""The one message only a gate writes: which parts went through and are suspect now."""

from typing import Annotated

import msgspec

from edge.wire.codec import Codec, Count, Micros, Name

QUARANTINE_SCHEMA = "onbelt.quarantine/1"
MAX_RANGES = 32

Text = Annotated[str, msgspec.Meta(max_length=96)]


class SuspectRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parts by their number on the line, both ends included, and why they are suspect."""

    first: Count
    last: Count
    why: Text


class QuarantineNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained: all ranges since the gate's start, newest last; `dropped` counts ranges that no longer fitted."""

    sch: str
    station: Name
    gate: Name
    ranges: Annotated[list[SuspectRange], msgspec.Meta(max_length=MAX_RANGES)]
    dropped: Count
    at_us: Micros


QUARANTINE_CODEC: Codec[QuarantineNotice] = Codec(QUARANTINE_SCHEMA, QuarantineNotice, max_bytes=4096)
