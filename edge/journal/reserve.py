"""Give a file its room on the disk in advance, so that others run out of space first."""

import ctypes
import errno
import logging
import os
from pathlib import Path

from edge.errors import JournalError

logger = logging.getLogger(__name__)

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h: blocks beyond the end, the file's length stays


def reserve(path: Path, size: int) -> None:
    """Give a file its blocks on the disk now, without changing its length; it is made when missing.

    Args:
        path: the file.
        size: bytes it may take one day.

    Raises:
        JournalError: the disk has less than that. A file system that cannot reserve is logged, not refused.
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate64(handle, _KEEP_SIZE, ctypes.c_longlong(0), ctypes.c_longlong(size)) != 0:
            number = ctypes.get_errno()
            if number == errno.ENOSPC:
                raise JournalError(
                    f"{path}: expected {size / 2**20:.0f} MB of free disk for the journal, there is less; free some, or lower "
                    "journal.max_mb"
                )
            logger.info(
                "%s: this file system reserves no room (%s); a full disk will stop the journal", path, os.strerror(number)
            )
    finally:
        os.close(handle)
