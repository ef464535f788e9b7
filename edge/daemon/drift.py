"""Drift alarms of the station: judged parts in, conditions of the station out.

An alarm stands until parts have gone by without a new one of its kind, ten times as many as the last one took: while the cause
stands, the monitor raises it again in about the time it took at first.
"""

from edge.daemon.phase import Station
from edge.drift.monitor import DriftKind, DriftMonitor
from edge.judge import Judgement

QUIET_FACTOR = 10
_LEAST_QUIET = 1000  # parts


class DriftWatch:
    """Feeds the monitor and tells the station. Use it from one thread.

    Args:
        monitor: for the limit in force. station: told.
    """

    def __init__(self, monitor: DriftMonitor, station: Station) -> None:
        self._monitor = monitor
        self._station = station
        self._part = 0
        self._until: dict[DriftKind, int] = {}

    def judged(self, judgement: Judgement) -> None:
        """A part was judged."""
        self._part += 1
        alarm = self._monitor.add(judgement.p, above=judgement.cal > 1.0)
        if alarm is not None:
            self._until[alarm.kind] = self._part + max(_LEAST_QUIET, QUIET_FACTOR * alarm.since)
            text = f"drift: {alarm.text}; it began about {alarm.since} parts ago, at most {alarm.earliest}"
            self._station.raise_(f"drift-{alarm.kind}", "warning", text, alarm.remedy)
        for kind in [kind for kind, until in self._until.items() if self._part >= until]:
            del self._until[kind]
            self._station.clear(f"drift-{kind}")
