"""What is wanted of a box: the configuration's wish until an operator's signed desired state is obeyed, kept over restarts."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.bundle.signing import TrustStore
from edge.clock import Clock
from edge.errors import ContractError, UpdateError
from edge.update.files import write_atomic
from edge.wire import update as wire

logger = logging.getLogger(__name__)

Mode = Literal["follow", "pin", "pause"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted: by a desired state, or by the configuration while there is none (`serial` 0)."""

    mode: Mode
    channel: str
    version: int
    windows: list[str]
    serial: int


@dataclass(frozen=True, slots=True)
class Addressee:
    """This box, as desired states name it: plant, product, and the beginning of its topics."""

    site: str
    product: str
    base: str


class Desired:
    """The wish in force.

    Args:
        file: where the desired state obeyed last is kept. plain: what is wanted while there is none.
        me: this box. operators: keys that may sign desired states. clock: tells whether one is too old.

    Attributes:
        wish: what is wanted now.
    """

    def __init__(self, file: Path, plain: Wish, me: Addressee, operators: TrustStore, clock: Clock) -> None:
        self._file = file
        self._me = me
        self._operators = operators
        self._clock = clock
        self.wish = self._load(plain)

    def take(self, payload: bytes) -> bool:
        """Obey a desired state.

        Returns:
            True when it is in force from now on and was not before.

        Raises:
            UpdateError: not signed by an operator, for another box, too old, or it cannot be kept.
        """
        wish = self._checked(payload)
        if wish.serial == self.wish.serial:  # the broker retains it, so it comes with every connect
            return False
        write_atomic(self._file, payload)
        self.wish = wish
        return True

    def _checked(self, payload: bytes) -> Wish:
        me = self._me
        try:
            desired = wire.open_desired(payload, self._operators)
        except ContractError as exc:
            raise UpdateError(str(exc), reason="not-signed-by-operator") from exc
        if (desired.site, desired.product) != (me.site, me.product):
            raise UpdateError(
                f"desired: for {desired.site}/{desired.product}, this box is {me.site}/{me.product}", reason="not-for-us"
            )
        if desired.to not in {"", me.base}:
            raise UpdateError(f"desired: for {desired.to}, this box is {me.base}", reason="not-for-us")
        if desired.serial < self.wish.serial or self._clock.utc_us() > desired.not_after_us:
            raise UpdateError(
                f"desired: serial {desired.serial} (obeyed: {self.wish.serial}), valid until {desired.not_after_us} us; "
                "sign a new one, and compare the clocks",
                reason="stale",
            )
        return _wish_of(desired)

    def _load(self, plain: Wish) -> Wish:
        try:
            desired = wire.open_desired(self._file.read_bytes(), self._operators)
        except FileNotFoundError:
            return plain
        except (OSError, ContractError) as exc:
            logger.warning("%s: %s; the configuration counts until the next desired state", self._file, exc)
            return plain
        return _wish_of(desired)  # it was in force before: its age says nothing against it now


def _wish_of(desired: wire.Desired) -> Wish:
    return Wish(desired.mode, desired.channel, desired.version, list(desired.windows), desired.serial)
