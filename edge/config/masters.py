"""Master parts and shifts, as station.toml writes them."""

import re
from dataclasses import dataclass
from typing import Literal

from edge.errors import ConfigError

_MASTER = re.compile(r"([ -<>-~]{1,24})=(pass|reject)(?:@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?))?")
_SHIFT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Master:
    """One master part.

    Attributes:
        part_id: the number it carries. expect: its verdict.
        low, high: its score must lie between, in units of the limit; a master that still is rejected but scores half of what it
            did shows a lens that has begun to blur.
    """

    part_id: str
    expect: Literal["pass", "reject"]
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "Master":
        """Read "ID=pass", "ID=reject" or "ID=reject@LOW-HIGH". Raises ConfigError."""
        match = _MASTER.fullmatch(text)
        if match is None:
            raise ConfigError(f'selfcheck.masters: expected "ID=pass", "ID=reject" or "ID=reject@1.3-4.0", got {text!r}')
        part_id, expect, low, high = match.groups()
        master = cls(part_id, "pass" if expect == "pass" else "reject", float(low or 0.0), float(high) if high else float("inf"))
        if master.low >= master.high or (expect == "reject" and master.high <= 1.0) or (expect == "pass" and master.low > 1.0):
            raise ConfigError(
                f"selfcheck.masters: {text!r}: no score, in units of the limit, lies between {low} and {high} and means {expect}"
            )
        return master


def parse_shift(text: str) -> int:
    """Minutes since midnight of "HH:MM". Raises ConfigError."""
    match = _SHIFT.fullmatch(text)
    if match is None:
        raise ConfigError(f'selfcheck.shifts: expected "HH:MM" of the local clock, such as "06:00", got {text!r}')
    return 60 * int(match[1]) + int(match[2])
