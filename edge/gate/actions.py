"""What the rules ask the outside to do; the loop in `edge.gate.process` carries it out.

`Open` is the only action that lets a part through; `Reinspect` sends it to a person. Everything else is for the line's stop
input, the journal and people.
"""

from dataclasses import dataclass
from typing import Literal

from edge.wire.station import Ack

Why = Literal["verdict", "missing", "late", "stale-boot", "wrong-model", "no-token", "bad-mac", "disarmed"]


@dataclass(frozen=True, slots=True)
class Open:
    """Drive the output for this one part: it goes through."""

    count: int


@dataclass(frozen=True, slots=True)
class Close:
    """Leave the output undriven for this part: it is ejected; with `hold`, it is kept at the gate for a person."""

    count: int
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Reinspect:
    """Send this one part to the place where a person looks at it; the output that lets parts through stays undriven."""

    count: int


@dataclass(frozen=True, slots=True)
class SendAck:
    """Tell the station what was done with a part."""

    ack: Ack


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Parts that went through and are suspect now: trigger numbers, both included."""

    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True)
class RaiseAlarm:
    """An alarm that stands until it is cleared; raising it again replaces its text."""

    code: str
    severity: Literal["warning", "fault"]
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ClearAlarm:
    """The alarm's cause is gone."""

    code: str


@dataclass(frozen=True, slots=True)
class Armed:
    """From now on a valid PASS opens."""

    model: str
    p999_ms: float


@dataclass(frozen=True, slots=True)
class Disarmed:
    """From now on every part is rejected or held, and these are the reasons, each with what to do."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineStop:
    """Ask the line to stop, or take the request back."""

    on: bool
    why: str


Action = Open | Close | Reinspect | SendAck | Quarantine | RaiseAlarm | ClearAlarm | Armed | Disarmed | LineStop
