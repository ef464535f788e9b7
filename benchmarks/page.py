"""Pages of evidence: the line that says what made one, when and on what, and blocks of figures in pages written by hand."""

import os
import platform
from datetime import datetime, timezone
from pathlib import Path


def made_by(target: str, *more: str) -> str:
    """One sentence for the head of a page.

    Args:
        target: the make target.
        *more: what else must be known to repeat it ("seed 1", "612 s").
    """
    words = [
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
        *more,
        f"{os.cpu_count()} cores {processor()}",
        f"load {os.getloadavg()[0]:.0f}",
    ]
    return f"Made by `make {target}` ({', '.join(words)}, Linux {platform.release()})."


def processor() -> str:
    """The processor's name, as far as the kernel tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())


def replace_block(path: Path, begin: str, end: str, block: str) -> None:
    """Put measured figures between the two comments of a page that hold their place."""
    head, rest = path.read_text().split(begin)
    path.write_text(head + begin + "\n" + block + end + rest.split(end)[1])
