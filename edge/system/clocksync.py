"""How good this machine's wall clock is, asked of the kernel with adjtimex(2), and whether it has just been set.

The wall clock is a label on verdicts and nothing depends on it, but people compare stamps of several machines, and a gate
disarms when the clock jumps.
"""

import ctypes
from dataclasses import dataclass
from typing import Literal

from edge.clock import Clock

ClockSource = Literal["ptp", "ntp", "free"]
_STA_UNSYNC = 0x40
_STA_NANO = 0x2000
STEP_US = 20_000  # NTP slews at most 0.5 ms a second: more than this between two looks is a step


class _Timex(ctypes.Structure):
    # struct timex of linux/timex.h on 64-bit machines; the tail is room for what newer kernels add.
    _fields_ = [  # noqa: RUF012 - the form ctypes asks for
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("tail", ctypes.c_long * 32),
    ]


@dataclass(frozen=True, slots=True)
class ClockState:
    """The wall clock.

    Attributes:
        src: "ptp" only where the configuration says that PTP drives the system clock: the kernel cannot tell; "ntp" when
            it is disciplined; "free" when nobody sets it.
        off_us: the offset still being corrected. unc_us: estimated error. None: unknown.
    """

    src: ClockSource
    off_us: int | None
    unc_us: int | None


def read_clock(declared: str = "auto") -> ClockState:
    """Ask the kernel; `declared` is "auto" or "ptp"."""
    timex = _Timex(modes=0)
    try:
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return ClockState("free", None, None)
    if result < 0 or timex.status & _STA_UNSYNC:
        return ClockState("free", None, None)
    scale = 1000 if timex.status & _STA_NANO else 1
    return ClockState("ptp" if declared == "ptp" else "ntp", int(timex.offset) // scale, int(timex.esterror))


class StepWatch:
    """Sees the wall clock jump against the monotonic one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us: int | None = None

    def look(self) -> int:
        """Microseconds the wall clock was set by since the last look, 0 when it only ran."""
        # The wall clock between two readings of the other: a pause in between is no step.
        before = self._clock.monotonic_ns()
        utc_us = self._clock.utc_us()
        after = self._clock.monotonic_ns()
        offset_us = utc_us - (before + after) // 2000
        last, self._offset_us = self._offset_us, offset_us
        moved = 0 if last is None else offset_us - last
        return moved if abs(moved) > STEP_US + (after - before) // 1000 else 0
