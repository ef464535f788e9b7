"""Everything that makes the process answer in time, in one place.

Measured on two cores at 30 parts/s: what hurts is not the arithmetic but waiting, for the interpreter's lock and for the
collector of cyclic garbage.
"""

import ctypes
import gc
import logging
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

logger = logging.getLogger(__name__)

SWITCH_S = 0.0005  # a thread that wants the interpreter's lock gets it after this; the default of 5 ms is a tenth of a budget
_GC_THRESHOLD = 50_000
_MCL_CURRENT, _MCL_FUTURE = 1, 2  # sys/mman.h, the same on x86-64 and arm64


def prepare_process() -> None:
    """After warm-up and before arming: what lives now stays, so the collector need not look at it again; hand the lock over fast.

    The collection itself takes some 100 ms: a part that came meanwhile would lose them.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 50, 50)


def lock_memory() -> str:
    """Keep every page in memory, now and later: a page read back from a disk costs a part its deadline.

    Returns:
        Why it was refused, or an empty string.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
            return ""
        return os.strerror(ctypes.get_errno())
    except (OSError, AttributeError) as exc:
        return str(exc)


def prepare_memory(*, lock: bool) -> None:
    """Lock the process' memory where that is asked for. Refused is logged, not an error."""
    refused = lock_memory() if lock else ""
    if refused:
        logger.warning("memory not locked (%s); set LimitMEMLOCK=infinity in the service or process.lock_memory = false", refused)


def prepare_cpus(cpus: Sequence[int]) -> None:
    """Keep the calling thread, and what it starts, on these processors; none given leaves it as it is. Refused is logged."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as exc:
        logger.warning("process.cpus = %s refused (%s); this machine has %s", list(cpus), exc, sorted(os.sched_getaffinity(0)))


def prepare_thread(priority: int) -> None:
    """Give the calling thread a real-time priority; 0 leaves it as it is. Not allowed is logged, not an error."""
    if not priority:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (PermissionError, OSError) as exc:
        logger.warning(
            "real-time priority %d refused (%s); set LimitRTPRIO in the service or process.priority = 0", priority, exc
        )


class Shortfall(NamedTuple):
    """What is asked of the scheduler and will be refused: what, what there is instead, and the remedy."""

    what: str
    found: str
    remedy: str


def shortfalls(priority: int, cpus: Sequence[int], *, lock_memory: bool) -> Iterator[Shortfall]:
    """What of `prepare_thread`, `prepare_cpus` and `prepare_memory` this process would be refused, without trying it."""
    have = os.sched_getaffinity(0)
    foreign = sorted(set(cpus) - have)
    if foreign:
        yield Shortfall("cpus", f"process.cpus names {foreign}, this process may use {sorted(have)}", "correct process.cpus")
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if lock_memory and not _allowed(locked, resource.RLIM_INFINITY):
        yield Shortfall("memory lock", f"allowed for {locked // 1024} kB, it needs all of its own", "LimitMEMLOCK=infinity")
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if not _allowed(limit, priority):
        yield Shortfall("priority", f"process.priority = {priority}, allowed is {limit}", f"LimitRTPRIO={priority}")


def _allowed(limit: int, wanted: int) -> bool:
    return os.geteuid() == 0 or limit in {resource.RLIM_INFINITY, -1} or (wanted >= 0 and limit >= wanted)
