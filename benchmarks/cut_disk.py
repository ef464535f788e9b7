"""A disk whose power can be cut: a real ext4 in an image file on an XFS that shares blocks.

A cut is a reflink clone of the image while ext4 is mounted and written: it holds what had reached the block device at one instant
and nothing that was only in ext4's memory.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

FICLONE = 0x40049409  # ioctl of linux/fs.h: share all blocks of another file, on the instant


def missing() -> str:
    """What this machine lacks, or an empty string."""
    if os.geteuid() != 0:
        return "needs root to mount file systems"
    lacking = [tool for tool in ("mkfs.ext4", "mkfs.xfs", "mount", "umount") if shutil.which(tool) is None]
    if lacking:
        return f"{', '.join(lacking)} not found (apt-get install e2fsprogs xfsprogs mount)"
    if not Path("/dev/loop-control").exists():
        return "no loop devices (/dev/loop-control)"
    return ""


def can_mount(folder: Path) -> str:
    """Why an image cannot be mounted here, or an empty string: root in a container may not be allowed to."""
    try:
        with cut_disk(folder, 64):
            return ""
    except (subprocess.CalledProcessError, OSError) as exc:
        told = exc.stderr.decode(errors="replace").strip() if isinstance(exc, subprocess.CalledProcessError) else str(exc)
        return f"cannot mount an image ({told or exc})"


@contextlib.contextmanager
def mounted(image: Path, at: Path, *options: str) -> Iterator[Path]:
    """A file system in a file, mounted while inside."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", ",".join(("loop", *options)), str(image), str(at)], check=True, capture_output=True)
    try:
        yield at
    finally:
        if subprocess.run(["umount", str(at)], check=False, capture_output=True).returncode != 0:
            subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextlib.contextmanager
def cut_disk(folder: Path, size_mb: int) -> Iterator[tuple[Path, Path]]:
    """An ext4 image on an XFS with reflinks: (the image, where it is mounted)."""
    outer = folder / "outer.xfs"
    with outer.open("wb") as file:
        file.truncate(2 * 2**30)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(outer)], check=True, capture_output=True)
    with mounted(outer, folder / "outer") as host:
        image = host / "disk.img"
        with image.open("wb") as file:
            file.truncate(size_mb * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
        with mounted(image, folder / "disk") as disk:
            yield image, disk


def clone(image: Path) -> Path:
    """Cut the power: what the image holds now, as a file beside it, to be removed by the caller."""
    snapshot = image.with_name("cut.img")
    with image.open("rb") as source, snapshot.open("wb") as target:
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
    return snapshot
