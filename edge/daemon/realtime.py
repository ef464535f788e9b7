"""Everything that makes the process answer in time, in one place.

Measured on two cores at 30 parts/s: what hurts is not the arithmetic but waiting, for the interpreter's lock and for the
collector of cyclic garbage.
"""

import gc
import logging
import os
import sys

logger = logging.getLogger(__name__)

SWITCH_S = 0.0005  # a thread that wants the interpreter's lock gets it after this; the default of 5 ms is a tenth of a budget
_GC_THRESHOLD = 50_000


def prepare_process() -> None:
    """After warm-up and before arming: what lives now stays, so the collector need not look at it again; hand the lock over fast.

    The collection itself takes some 100 ms: a part that came meanwhile would lose them.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 50, 50)


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
