"""Which parts are suspect, as the station says it: exact ranges, how many bad ones to expect in them, and at most how many.

Retained on `quarantine`, always with every range that is known: whoever comes later sees all of them. A gate writes its own
notice to the same topic (`edge.wire.quarantine`); the station takes the gate's ranges into its own and says both, so that neither
overwrites the other. Ranges outlive a restart: the daemon takes over what the broker still holds. An empty retained payload,
published when the parts have been inspected again, ends it.
"""

from typing import Annotated, Literal

import msgspec

from edge.errors import ContractError
from edge.wire.codec import Boot, Codec, Count, Micros, Name
from edge.wire.quarantine import QUARANTINE_CODEC, QuarantineNotice, SuspectRange

SUSPECTS_SCHEMA = "onbelt.suspects/1"
MAX_WINDOWS = 24
MAX_GATE_RANGES = 16
MAX_SUSPECTS_BYTES = 16_384
MAX_WHY = 160

Doubt = Literal["self-check", "master", "drift", "frozen", "clock"]
Why = Annotated[str, msgspec.Meta(max_length=MAX_WHY)]


class Suspects(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parts of one start of the station that were judged since the last good proof.

    Attributes:
        boot: start of the daemon. first, last: numbers of their verdicts (`seq`), both included.
        trig_first, trig_last: their numbers on the line, by which a person finds them.
        passed: how many of them passed. cause: what was found wrong; why: in words.
        expected: bad parts among those passed, on average, if the station saw nothing.
        bound: at most so many, with 95 % confidence.
        known_parts: proven parts that expected and bound rest on; 0 means that nothing is known: bound = passed.
        at_us: when it was found, microseconds UTC.
    """

    boot: Boot
    first: Count
    last: Count
    trig_first: Count
    trig_last: Count
    passed: Count
    cause: Doubt
    why: Why
    expected: Annotated[float, msgspec.Meta(ge=0.0)]
    bound: Count
    known_parts: Count
    at_us: Micros


class SuspectNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained: all windows of the station and all ranges of gates, newest last; `dropped` counts those that no longer fit."""

    sch: str
    station: Name
    windows: Annotated[list[Suspects], msgspec.Meta(max_length=MAX_WINDOWS)]
    gates: dict[Name, Annotated[list[SuspectRange], msgspec.Meta(max_length=MAX_GATE_RANGES)]]
    dropped: Count
    at_us: Micros


def _check(notice: SuspectNotice) -> None:
    for i, window in enumerate(notice.windows):
        if window.last < window.first or window.passed > window.last - window.first + 1 or window.bound > window.passed:
            raise ContractError(
                f"suspects: expected first <= last and bound <= passed <= parts, got {window.first}-{window.last}, "
                f"{window.passed}, {window.bound} - at `$.windows[{i}]`; refused"
            )


SUSPECTS: Codec[SuspectNotice] = Codec(SUSPECTS_SCHEMA, SuspectNotice, max_bytes=MAX_SUSPECTS_BYTES, check=_check)


def decode_notice(payload: bytes) -> SuspectNotice | QuarantineNotice:
    """A message on the topic `quarantine`: the station's, or a gate's.

    Raises:
        ContractError: it is neither; what the station's codec says of it.
    """
    try:
        return SUSPECTS.decode(payload)
    except ContractError as not_the_stations:
        try:
            return QUARANTINE_CODEC.decode(payload)
        except ContractError:
            raise not_the_stations from None
