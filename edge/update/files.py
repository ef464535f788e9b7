"""Files that survive a power cut: whole or not there, and never a name whose content is still on its way.

Every write goes to a temporary name in the same folder, is flushed to the disk, and takes its place with one rename; then the
folder itself is flushed, so that the rename is on the disk before anything is built on it.
"""

import errno
import os
from pathlib import Path

from edge.errors import UpdateError

TEMPORARY = ".new-"


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, content: bytes) -> None:
    """Give `path` this content, all of it or none.

    Raises:
        UpdateError: the disk is full ("disk-full") or cannot be written ("disk").
    """
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, exc) from exc


def move_in(source: Path, path: Path) -> None:
    """Put a finished file, already flushed or not, in its place under its final name.

    Raises:
        UpdateError: as `write_atomic`.
    """
    try:
        handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        source.replace(path)
        sync_folder(path.parent)
    except OSError as exc:
        raise disk_error(path, exc) from exc


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target` (relative to its folder), in one step.

    Raises:
        UpdateError: as `write_atomic`.
    """
    temporary = link.with_name(TEMPORARY + link.name)
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
        sync_folder(link.parent)
    except OSError as exc:
        raise disk_error(link, exc) from exc


def disk_error(path: Path, exc: OSError) -> UpdateError:
    """A failed write in words, with its reason."""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UpdateError(f"{path}: the disk is full; free space, the update is tried again", reason="disk-full")
    return UpdateError(f"{path}: cannot be written ({exc.strerror or exc}); check the disk and its permissions", reason="disk")
