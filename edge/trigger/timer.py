"""Triggers at a fixed rate: for trials without a line. The rate holds on average, a late one is not made up for in a burst."""

import threading

from edge.clock import Clock
from edge.trigger.base import Deliver
from edge.wire.trigger import TRIGGER_SCHEMA, LineTrigger


class TimerTrigger:
    """Triggers every so many milliseconds.

    Args:
        period_ms: between two triggers.
        clock: stamps them.
    """

    def __init__(self, period_ms: float, clock: Clock) -> None:
        self.name = f"timer {period_ms:g} ms"
        self.refused = 0
        self._period_ns = round(period_ms * 1e6)
        self._clock = clock
        self._count = 0

    def open(self) -> None:
        """Nothing to take."""

    def run(self, stop: threading.Event, deliver: Deliver) -> None:
        """Deliver a trigger each period."""
        due_ns = self._clock.monotonic_ns()
        while not stop.is_set():
            now_ns = self._clock.monotonic_ns()
            if now_ns < due_ns:
                stop.wait((due_ns - now_ns) / 1e9)
                continue
            self._count += 1
            deliver(LineTrigger(TRIGGER_SCHEMA, self._count, now_ns // 1000))
            due_ns = max(due_ns + self._period_ns, now_ns)

    def close(self) -> None:
        """Nothing to free."""
