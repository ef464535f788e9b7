"""Drift alarms of the station: judged parts in, conditions of the station and suspect parts out.

An alarm stands until parts have gone by without a new one of its kind, ten times as many as the last one took: while the cause
stands, the monitor raises it again in about the time it took at first.
"""

from collections.abc import Callable

import numpy as np

from edge.daemon.state.phase import Station
from edge.drift.detector import HISTORY
from edge.drift.monitor import KINDS, DriftAlarm, DriftKind, DriftMonitor
from edge.judge import Judgement

QUIET_FACTOR = 10
_LEAST_QUIET = 1000  # parts


class DriftWatch:
    """Feeds the monitor and tells the station. Use it from one thread.

    Args:
        monitor: for the limit in force. station: told; alarms of an earlier limit are cleared there.
        reference: (model, limit) as verdicts name them; parts judged by anything else are not counted.
        doubt: told of an alarm: first part that may be affected, and why; None for nobody.
    """

    def __init__(
        self,
        monitor: DriftMonitor,
        station: Station,
        reference: tuple[str, str],
        doubt: Callable[[int, str], None] | None = None,
    ) -> None:
        self.reference = reference
        self._monitor = monitor
        self._station = station
        self._doubt = doubt
        self._part = 0
        self._until: dict[DriftKind, int] = {}
        self._seqs = _Numbers()
        self._below = _Numbers()
        for kind in KINDS:
            station.clear(f"drift-{kind}")

    def judged(self, seq: int, judgement: Judgement) -> None:
        """A part was judged."""
        self._part += 1
        above = judgement.above
        self._seqs.add(seq)
        if not above:
            self._below.add(seq)
        alarm = self._monitor.add(judgement.p, above=above)
        if alarm is not None:
            self._raise(alarm)
        for kind in [kind for kind, until in self._until.items() if self._part >= until]:
            del self._until[kind]
            self._station.clear(f"drift-{kind}")

    def _raise(self, alarm: DriftAlarm) -> None:
        self._until[alarm.kind] = self._part + max(_LEAST_QUIET, QUIET_FACTOR * alarm.since)
        text = f"drift: {alarm.text}; it began about {alarm.since} parts ago, at most {alarm.earliest}"
        self._station.raise_(f"drift-{alarm.kind}", "warning", text, alarm.remedy)
        if self._doubt is not None:
            watched = self._seqs if alarm.kind == "promise" else self._below
            self._doubt(watched.ago(alarm.surely), f"drift ({alarm.kind}): {alarm.text}")


class _Numbers:
    """The numbers of the newest parts, as far back as a detector remembers."""

    def __init__(self) -> None:
        self._held = np.full(HISTORY, 0, np.int64)  # all of it at once, as in `Detector`
        self._count = 0

    def add(self, seq: int) -> None:
        self._held[self._count % HISTORY] = seq
        self._count += 1

    def ago(self, parts: int) -> int:
        """Number of the part so many parts ago, the newest being 1."""
        back = max(1, min(parts, self._count, HISTORY))
        return int(self._held[(self._count - back) % HISTORY])
