"""The line above every page of evidence: what made it, when, and on what."""

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
