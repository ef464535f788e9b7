"""The two clocks: a monotonic one for every interval, and the wall clock as a label only.

Nothing in Onbelt subtracts two wall-clock stamps to get a duration: the wall clock may step.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the daemon and the gate ask for the time; tests pass their own."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back, comparable within one machine and one boot."""
        ...

    def utc_us(self) -> int:
        """Microseconds since 1970-01-01 UTC by the wall clock; a label, never subtracted."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds (shared by all processes of this machine)."""
        return time.monotonic_ns()

    def utc_us(self) -> int:
        """CLOCK_REALTIME in microseconds."""
        return time.time_ns() // 1000
