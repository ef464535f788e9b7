"""One thing the doctor says."""

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: what is so, and what to do about it (empty where nothing needs doing)."""

    name: str
    status: Status
    text: str
    remedy: str = ""
