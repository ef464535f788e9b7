"""Signs the journal's head: at the start, every `journal.anchor_s` while there are verdicts, and at the end.

Beside the verdict path, with a connection of its own to the database: what is signed is what is committed. Each anchor goes to
the file first, then to `audit`; those that find no broker wait, the oldest given up first, and the file has them all.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.clock import Clock
from edge.daemon.state.phase import Station
from edge.errors import JournalError
from edge.journal.anchors import append_anchor, make_anchor
from edge.journal.reader import Reader
from edge.wire.verdict import payload_hash

logger = logging.getLogger(__name__)

WAITING = 100  # anchors of an hour and a half without a broker


class Anchoring:
    """Anchors one journal.

    Args:
        journal: the database. station, boot: names in the anchors. key: signs them. period_s: between two of them.
        publish: hands a payload to topic `audit`; False when it was not taken. state: told when anchors cannot be written.
        clock: labels.

    Attributes:
        written: anchors so far.
    """

    def __init__(
        self,
        journal: Path,
        station: str,
        boot: str,
        key: Ed25519PrivateKey,
        period_s: float,
        publish: Callable[[bytes], bool],
        state: Station,
        clock: Clock,
    ) -> None:
        self.path = journal.with_suffix(".anchors")
        self.written = 0
        self._journal = journal
        self._names = (station, boot)
        self._key = key
        self._period_s = period_s
        self._publish = publish
        self._state = state
        self._clock = clock
        self._last = (0, "")
        self._waiting: deque[bytes] = deque(maxlen=WAITING)

    def run(self, stop: threading.Event) -> None:
        """Until told to stop, and once more then: verdicts given after that are behind the first anchor of the next start."""
        while True:
            self.step()
            if stop.wait(self._period_s):
                self.step()
                return

    def step(self) -> None:
        """Sign the head where it has moved, and tell what waits."""
        try:
            with Reader(self._journal) as reader:
                newest = reader.newest()
            head = (newest.n, payload_hash(newest.payload)) if newest is not None else (0, "")
            if newest is not None and head != self._last:
                line = make_anchor(*self._names, *head, self._clock.utc_us(), self._key)
                append_anchor(self.path, line)
                self._last = head
                self.written += 1
                self._waiting.append(line)
        except JournalError as error:
            logger.warning("%s", error)
            self._state.raise_("anchor", "warning", f"{error}"[:240], "make room beside the journal; anchors go on by themselves")
        else:
            self._state.clear("anchor")
        while self._waiting and self._publish(self._waiting[0]):
            self._waiting.popleft()
