"""The box's way to a repository that is carried over MQTT (`edge.wire.carried`): files as streams of chunks.

A few chunks are asked for at a time, by subscribing to their retained topics, so memory and the broker's queues stay small, and a
download goes on with the byte where it was cut. Errors are those of the update framework's fetchers.
"""

import logging
import threading
import time
from collections.abc import Generator

from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError

from edge.errors import ContractError
from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming
from edge.mqtt.settings import Broker
from edge.wire.carried import CHUNK_BYTES, INDEX, CarriedFile, Index, chunk_topic, chunks, index_topic

logger = logging.getLogger(__name__)

SCHEME = "mqtt"
AHEAD = 8  # chunks asked for at a time: 256 KiB
SILENCE_S = 10.0
CONNECT_S = 15.0
Chunks = Generator[bytes, None, None]


class Carrier:
    """One connection to a carried repository; opened by the first file that is asked for.

    Args:
        broker: where. base: topic of the repository. client_id: of this connection.
    """

    def __init__(self, broker: Broker, base: str, client_id: str) -> None:
        self.base = base
        self._broker = broker
        self._client_id = client_id
        self._connection: Connection | None = None
        self._news = threading.Condition()
        self._index: Index | None = None
        self._asked: set[str] = set()
        self._got: dict[str, bytes] = {}

    def open(self, path: str, at: int) -> tuple[int, Chunks]:
        """A file from a byte on.

        Args:
            path: such as metadata/timestamp.json.
            at: first byte wanted; a file that has become shorter begins anew.

        Returns:
            Where the bytes begin, and the bytes.

        Raises:
            DownloadHTTPError: 404, the index does not name it. SlowRetrievalError: no index came. DownloadError: no broker.
        """
        index = self._listen()
        file = index.files.get(path)
        if file is None:
            raise DownloadHTTPError(f"{self.base}: {path} is not carried", 404)
        begin = at if at <= file.size else 0
        return begin, self._stream(path, file, begin)

    def close(self) -> None:
        """Hang up. May be called twice; `open` connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(0.0)
        with self._news:
            self._index = None
            self._asked.clear()
            self._got.clear()

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _listen(self) -> Index:
        """Connected, and the index is there."""
        if self._connection is None:
            self._connection = Connection(
                self._broker,
                self._client_id,
                subscriptions=[(index_topic(self.base), 1)],
                on_message=self._take,
                quiet=True,
            )
            self._connection.start()
        with self._news:
            if self._news.wait_for(lambda: self._index is not None, CONNECT_S) and self._index is not None:
                return self._index
        if not self._connection.connected:
            raise DownloadError(f"{self._broker}: {self._connection.why}")
        raise SlowRetrievalError(
            f"{index_topic(self.base)}: nothing is carried there; run onbelt repo carry where models are published"
        )

    def _stream(self, path: str, file: CarriedFile, at: int) -> Chunks:
        total = chunks(file.size)
        number = at // CHUNK_BYTES
        skip = at - number * CHUNK_BYTES
        while number < total:
            topics = [chunk_topic(self.base, file.tag, one) for one in range(number, min(number + AHEAD, total))]
            self._ask(topics)
            try:
                for topic in topics:
                    content = self._wait(topic, path)
                    expected = min(CHUNK_BYTES, file.size - number * CHUNK_BYTES)
                    if len(content) != expected:
                        raise DownloadError(f"{topic}: expected {expected} bytes of {path}, got {len(content)}")
                    number += 1
                    yield content[skip:]
                    skip = 0
            finally:
                self._forget(topics)

    def _ask(self, topics: list[str]) -> None:
        end = time.monotonic() + SILENCE_S
        with self._news:
            self._asked.update(topics)
        # The connection comes back by itself after an outage; until then nobody can be asked.
        while self._connection is None or not self._connection.subscribe(topics, 1):
            if self._connection is None or time.monotonic() > end:
                raise DownloadError(f"{self._broker}: the connection is gone; it goes on with the next attempt")
            time.sleep(0.1)

    def _wait(self, topic: str, path: str) -> bytes:
        with self._news:
            if not self._news.wait_for(lambda: topic in self._got, SILENCE_S):
                raise SlowRetrievalError(f"{topic}: no bytes of {path} for {SILENCE_S:g} s")
            return self._got.pop(topic)

    def _forget(self, topics: list[str]) -> None:
        with self._news:
            self._asked.difference_update(topics)
            for topic in topics:
                self._got.pop(topic, None)
        if self._connection is not None:
            self._connection.unsubscribe(topics)

    def _take(self, message: Incoming) -> None:
        """In the connection's thread."""
        if message.topic == index_topic(self.base):
            try:
                index = INDEX.decode(message.payload)
            except ContractError as exc:
                logger.warning("%s refused: %s", message.topic[:160], exc)
                return
            with self._news:
                self._index = index
                self._news.notify_all()
            return
        with self._news:
            # What was not asked for, or is larger than a chunk may be, is not kept.
            if message.topic in self._asked and len(message.payload) <= CHUNK_BYTES:
                self._got[message.topic] = message.payload
                self._news.notify_all()
