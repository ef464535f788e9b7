"""The updater's time: this machine's, unless an operator has signed another one.

A box without a battery-backed clock wakes up in the wrong year, and metadata that has expired, or seems to, ends updates for
good. An operator's word helps where nobody is on site. It is worth nothing twice: it answers a challenge this box has drawn, and
names this box. The system's clock is left alone, so verdicts keep their labels and the updater needs no right to set it.

What was signed counts on the monotonic clock until the next boot, whatever happens to the system's clock meanwhile. From then on
it is the earliest the time can be.
"""

import secrets
from pathlib import Path
from typing import Annotated

import msgspec

from edge.clock import Clock
from edge.errors import UpdateError
from edge.update.files import write_atomic
from edge.wire.update import SetTime

SCHEMA = 1
MAX_BYTES = 4096
EARLIEST_US, LATEST_US = 1_767_225_600_000_000, 4_102_444_800_000_000  # 2026 and 2100
CHALLENGE_NS = 600 * 1_000_000_000  # a broker may hold an answer back for so long, and the time is off by as much
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator signed: the time, and when that was by the monotonic clock of which boot."""

    schema: int
    utc_us: Annotated[int, msgspec.Meta(ge=EARLIEST_US, le=LATEST_US)]
    mono_ns: Annotated[int, msgspec.Meta(ge=0)]
    boot: Annotated[str, msgspec.Meta(max_length=64)]


class UpdateClock:
    """A clock that can be told the time.

    Args:
        path: file that keeps what was signed. system: this machine's clocks. boot: names this boot, empty to ask the kernel.
        station: topic of this station.

    Attributes:
        challenge: what the next answer must name.
    """

    def __init__(self, path: Path, system: Clock, station: str, boot: str = "") -> None:
        self._path = path
        self._system = system
        self._station = station
        self._boot = boot or _boot_id()
        self._told = _load(path)
        self._draw()

    def monotonic_ns(self) -> int:
        """As the system's."""
        return self._system.monotonic_ns()

    def utc_us(self) -> int:
        """Microseconds UTC, as far as anybody knows."""
        told = self._told
        if told is None:
            return self._system.utc_us()
        if told.boot == self._boot:
            return told.utc_us + (self._system.monotonic_ns() - told.mono_ns) // 1000
        return max(told.utc_us, self._system.utc_us())

    def take(self, said: SetTime) -> None:
        """Obey a time whose signature has been verified; the challenge is used up either way.

        Raises:
            UpdateError: for another box ("not-for-us"), an old challenge or an impossible time ("stale"), or it cannot be kept.
        """
        challenge, late = self.challenge, self._system.monotonic_ns() - self._drawn_ns > CHALLENGE_NS
        self._draw()
        if said.to != self._station:
            raise UpdateError(f"time: for {said.to}, this box is {self._station}", reason="not-for-us")
        if not secrets.compare_digest(said.challenge, challenge) or late:
            raise UpdateError(
                "time: answers an old challenge; read the new one in update/reported and sign again", reason="stale"
            )
        if not EARLIEST_US <= said.utc_us <= LATEST_US:
            raise UpdateError(
                f"time: expected a time of this century, got {said.utc_us} us; compare the signer's clock", reason="stale"
            )
        told = Told(SCHEMA, said.utc_us, self._system.monotonic_ns(), self._boot)
        write_atomic(self._path, msgspec.json.encode(told))
        self._told = told

    def _draw(self) -> None:
        self.challenge = secrets.token_hex(16)
        self._drawn_ns = self._system.monotonic_ns()


def _load(path: Path) -> Told | None:
    """What was kept; a file that is missing or damaged is none: the system's clock counts."""
    try:
        with path.open("rb") as file:
            told = msgspec.json.decode(file.read(MAX_BYTES), type=Told)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    return told if told.schema == SCHEMA else None


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()[:64]
    except OSError:
        # Without it every start of the updater counts as a boot: the time then is the earliest it can be.
        return secrets.token_hex(16)
