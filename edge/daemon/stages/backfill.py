"""After an outage: what is in the journal and no broker has confirmed goes to `verdict-late`, marked as history.

Gates never read that topic. Rows leave the outbox when the broker has confirmed them; until then they are sent again after each
reconnect, so a reader may see a row twice and tells by its id.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from edge.errors import ContractError, JournalError
from edge.journal.reader import Reader
from edge.mqtt.link import Delivering, Link
from edge.wire.verdict import as_history

logger = logging.getLogger(__name__)

EVERY_S = 0.25
AT_ONCE = 32  # 128 rows a second: an outage of an hour at 10 parts/s is back-filled in five minutes, without a burst


class Backfill:
    """Sends the outbox, oldest first.

    Args:
        journal: path of the journal.
        connection: the second one: live verdicts never wait behind history.
        topic: verdict-late of the gate. key: seals them, or None.
        acked: confirmed rows, for the journal's owner.
        settled_n: rows up to here are no longer being sent live.
    """

    def __init__(
        self,
        journal: Path,
        connection: Link,
        topic: str,
        key: bytes | None,
        acked: deque[int],
        settled_n: Callable[[], int],
    ) -> None:
        self.unsent = 0
        self.sent = 0
        self._path = journal
        self._connection = connection
        self._topic = topic
        self._key = key
        self._acked = acked
        self._settled_n = settled_n
        self._under_way: list[tuple[Delivering, int]] = []
        self._cursor = 0
        self._session = 0

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop."""
        try:
            with Reader(self._path) as reader:
                while not stop.wait(EVERY_S):
                    self.step(reader)
        except JournalError as exc:
            # Verdicts still go out live; the rest is said by the journal's owner, who writes to the same file.
            logger.warning("back-fill stopped: %s", exc)

    def step(self, reader: Reader) -> None:
        """Take confirmations and send some more."""
        if not self._connection.connected:
            self._under_way.clear()
            return
        if self._session != self._connection.reconnects:
            self._session = self._connection.reconnects
            self._under_way.clear()
            self._cursor = 0
        self._acked.extend(n for delivery, n in self._under_way if delivery.done)
        self._under_way = [(delivery, n) for delivery, n in self._under_way if not delivery.done]
        self.unsent = reader.count_unsent()
        if self._under_way or not self.unsent:
            return
        for row in reader.unsent(self._cursor, self._settled_n(), AT_ONCE):
            try:
                late = as_history(row.payload, self._key)
            except ContractError as exc:
                logger.warning("journal row %d is no verdict (%s); not sent", row.n, exc)
                self._acked.append(row.n)
                self._cursor = row.n
                continue
            delivery = self._connection.publish(self._topic, late, qos=1)
            if delivery is None:
                return
            self._under_way.append((delivery, row.n))
            self._cursor = row.n
            self.sent += 1
