"""Root trying or installing something must leave files the service can write, not files of its own."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Be the user a folder belongs to; of a folder that is not there yet, the one it will lie in.

    For anybody but root, and in root's own folders, nothing changes. Becoming the owner is safer than giving files away
    afterwards: whoever owns the folder could put a link to anything there. The identity is the whole process's: no other thread
    may work meanwhile.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
