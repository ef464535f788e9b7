"""Which stage is busy and since when: what the watchdog is fed by.

A timer that feeds a watchdog proves that the timer runs. Here a stage says when it takes something up and when it has finished;
a stage that is busy with one thing for longer than it may be is stuck, and then nothing feeds the watchdog.
"""

from edge.clock import Clock
from edge.daemon.stages.parts import NS_PER_MS


class Progress:
    """One stage's work. Written by its thread, read by the pulse.

    Args:
        name: the stage. limit_ms: longest it may be busy with one thing.
        clock: this machine's.
    """

    def __init__(self, name: str, limit_ms: float, clock: Clock) -> None:
        self.name = name
        self.limit_ms = limit_ms
        self.finished = 0
        self._clock = clock
        self._since_ns = 0
        self._limit_ms = limit_ms

    def begin(self, limit_ms: float = 0.0) -> None:
        """Something is taken up; `limit_ms` where it may take another time than usual."""
        self._limit_ms = limit_ms or self.limit_ms
        self._since_ns = self._clock.monotonic_ns()

    def end(self) -> None:
        """It is finished."""
        self._since_ns = 0
        self.finished += 1

    def stuck_ms(self) -> float:
        """How long it has been busy beyond its limit, 0 when it is not."""
        since_ns = self._since_ns
        if not since_ns:
            return 0.0
        busy_ms = (self._clock.monotonic_ns() - since_ns) / NS_PER_MS
        return busy_ms if busy_ms > self._limit_ms else 0.0
