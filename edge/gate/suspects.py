"""Parts that went through and are suspect: what this gate knows of them, those of its earlier starts included.

All of them stand in one retained notice on `quarantine`, which the station writes as well (`edge.wire.suspects`): it takes our
ranges into its own. So the gate reads the topic back. After a restart it takes over what was said of it, and says its own again
only where the broker's notice lacks it: a notice put over the station's while the station is down would lose the station's parts.
An empty message, published when the parts have been inspected again, ends it for both.
"""

from enum import Enum

from edge.wire.quarantine import MAX_RANGES, QUARANTINE_CODEC, QUARANTINE_SCHEMA, QuarantineNotice, SuspectRange
from edge.wire.suspects import MAX_GATE_RANGES, SuspectNotice, decode_notice

MAX_WHY = 96


class Heard(Enum):
    """What a message on the topic means for the gate."""

    NOTHING = "nothing"  # somebody else's
    COVERED = "covered"  # it names all that we know
    LACKING = "lacking"  # ours must be said again
    ENDED = "ended"  # the parts have been found


class SuspectParts:
    """The ranges of one gate, bounded, newest last.

    Args:
        station, gate: in whose name.

    Attributes:
        ranges: known ones. forgotten: those that no longer fitted.
    """

    def __init__(self, station: str, gate: str) -> None:
        self.ranges: list[SuspectRange] = []
        self.forgotten = 0
        self._station = station
        self._gate = gate

    def add(self, first: int, last: int, why: str) -> None:
        """Trigger numbers, both included."""
        self._keep([*self.ranges, SuspectRange(first, last, why[:MAX_WHY])])

    def hear(self, payload: bytes) -> Heard:
        """A message came on `quarantine`: ours, perhaps of an earlier start, the station's, another gate's, or the end of it.

        Raises:
            ContractError: it is none of these.
        """
        if not payload:
            self.ranges, self.forgotten = [], 0
            return Heard.ENDED
        said, by_station = self._said(payload)
        if said is None:
            return Heard.NOTHING
        mine = self.ranges
        self._keep([*(one for one in said if one not in mine), *mine])
        newest = mine[-MAX_GATE_RANGES:] if by_station else mine
        return Heard.COVERED if all(one in said for one in newest) else Heard.LACKING

    def notice(self, at_us: int) -> bytes:
        """All of them, for the topic; `at_us` is a label."""
        return QUARANTINE_CODEC.encode(
            QuarantineNotice(QUARANTINE_SCHEMA, self._station, self._gate, list(self.ranges), self.forgotten, at_us)
        )

    def _said(self, payload: bytes) -> tuple[list[SuspectRange] | None, bool]:
        """What a notice says of this gate, None for one that is not about it; and whether the station wrote it."""
        notice = decode_notice(payload)
        if isinstance(notice, SuspectNotice):
            return (notice.gates.get(self._gate, []) if notice.station == self._station else None), True
        return (notice.ranges if (notice.station, notice.gate) == (self._station, self._gate) else None), False

    def _keep(self, ranges: list[SuspectRange]) -> None:
        self.forgotten += max(0, len(ranges) - MAX_RANGES)
        self.ranges = ranges[-MAX_RANGES:]
