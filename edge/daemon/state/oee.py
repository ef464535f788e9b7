"""The counters plants compute their OEE from: good, bad and invalid parts, and the time the station ran, stood idle or was down.

Availability, performance and quality are not computed here: planned time and ideal rate are the plant's to say.

    running  armed, and the last part is no longer ago than IDLE_S
    idle     armed, no parts: the line stands, for a reason of its own
    down     not armed: this station is the reason
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from edge.daemon.state.phase import Station

IDLE_S = 30.0
WINDOW_S = 3600.0
_STEP_S = 60.0  # of the window: an hour to the minute

Doing = Literal["running", "idle", "down"]


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened in some time.

    Attributes:
        good, bad, invalid, uncertain: parts by verdict. running_s, idle_s, down_s: time by what the station did.
    """

    good: int = 0
    bad: int = 0
    invalid: int = 0
    uncertain: int = 0
    running_s: float = 0.0
    idle_s: float = 0.0
    down_s: float = 0.0

    def less(self, before: "Tally") -> "Tally":
        """What came since `before`."""
        return Tally(*(getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__))


class Oee:
    """Counts from the station's own figures. Called by one thread, about once a second.

    Args:
        station: armed or not.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._total = Tally()
        self._minutes: deque[tuple[int, Tally]] = deque(maxlen=round(WINDOW_S / _STEP_S) + 1)
        self._last_ns: int | None = None
        self._parts = 0
        self._part_ns: int | None = None

    @property
    def total(self) -> Tally:
        """Since the start."""
        return self._total

    def hour(self) -> Tally:
        """In the last hour, or since the start."""
        return self._total.less(self._minutes[0][1]) if self._minutes else self._total

    def look(self, verdicts: dict[str, int], now_ns: int) -> None:
        """Take the counters as they stand.

        Args:
            verdicts: by kind, since the start.
            now_ns: CLOCK_MONOTONIC.
        """
        parts = sum(verdicts.values())
        if parts != self._parts:
            self._parts, self._part_ns = parts, now_ns
        passed_s = 0.0 if self._last_ns is None else (now_ns - self._last_ns) / 1e9
        self._last_ns = now_ns
        doing, before = self._doing(now_ns), self._total
        self._total = Tally(
            verdicts.get("pass", 0),
            verdicts.get("reject", 0),
            verdicts.get("invalid", 0),
            verdicts.get("uncertain", 0),
            before.running_s + (passed_s if doing == "running" else 0.0),
            before.idle_s + (passed_s if doing == "idle" else 0.0),
            before.down_s + (passed_s if doing == "down" else 0.0),
        )
        if not self._minutes or now_ns - self._minutes[-1][0] >= _STEP_S * 1e9:
            self._minutes.append((now_ns, before if not self._minutes else self._total))

    def _doing(self, now_ns: int) -> Doing:
        if not self._station.armed:
            return "down"
        quiet = self._part_ns is None or now_ns - self._part_ns > IDLE_S * 1e9
        return "idle" if quiet else "running"
