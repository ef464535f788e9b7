"""The gate's side of the broker: what it hears, stamped as it comes; what it says, bounded.

The connection's thread stamps each message, so that a busy loop costs a verdict no time. Acks that find no connection wait in a
bounded queue, the oldest given up first; retained topics are the connection's business, newest value only.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from edge.clock import Clock
from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming
from edge.mqtt.settings import Broker
from edge.wire.topics import BEAT, BIRTH, QUARANTINE, STATE, STATUS, VERDICT, Channel, Topics

INBOX = 1000  # messages; at 100 verdicts/s ten seconds of a loop that stands still
OUTBOX = 1000  # acks kept while there is no connection
QUEUE = 200  # acks that may wait inside the connection beyond those in flight
HEARD = (VERDICT, BEAT, BIRTH, STATE, STATUS, QUARANTINE)


class Received(NamedTuple):
    """One message: when it came (CLOCK_MONOTONIC, ns), on which channel, and its bytes."""

    at_ns: int
    channel: Channel
    payload: bytes


class Link:
    """Hears the station and speaks for the gate; nothing here blocks the gate's loop.

    Args:
        broker: where and how. topics, gate: what to listen to. clock: for the stamps.
        wake: called from the connection's thread when something came.

    Attributes:
        dropped: messages given up in either direction because a queue was full.
    """

    def __init__(self, broker: Broker, topics: Topics, gate: str, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._inbox: deque[Received] = deque()
        self._outbox: deque[tuple[str, bytes]] = deque()
        self._lock = threading.Lock()
        self._channels = {topics.topic(channel, gate if "{name}" in channel.suffix else ""): channel for channel in HEARD}
        self._connection = Connection(
            broker,
            f"onbelt-gate-{topics.station}-{gate}",
            subscriptions=[(topic, channel.qos) for topic, channel in self._channels.items()],
            on_message=self._on_message,
            on_change=self._on_change,
            queue=QUEUE,
        )
        self.dropped = 0

    @property
    def channels(self) -> dict[str, Channel]:
        """What is listened to, by topic."""
        return self._channels

    @property
    def reconnects(self) -> int:
        """How often the broker has accepted this gate."""
        return self._connection.reconnects

    def start(self) -> None:
        """Begin to connect; goes on trying for ever."""
        self._connection.start()

    def messages(self) -> list[Received]:
        """All that came since the last call, in order."""
        found = []
        while self._inbox:
            found.append(self._inbox.popleft())
        return found

    def send(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1 after those that wait already."""
        with self._lock:
            self._outbox.append((topic, payload))
            if len(self._outbox) > OUTBOX:
                self._outbox.popleft()
                self.dropped += 1
        self._flush()

    def keep(self, topic: str, payload: bytes) -> None:
        """Publish the newest value of a retained topic, now and after every connect; an empty payload clears it."""
        self._connection.keep(topic, payload)

    def leave(self, topic: str, payload: bytes) -> bool:
        """Publish a retained message once; False when there is no connection. What others write there, too, is not kept by us."""
        return self._connection.publish(topic, payload, qos=1, retain=True) is not None

    def renew(self, why: str) -> None:
        """Give up the connection, if there is one, and make another: what the broker holds back for this one is of no use."""
        self._connection.renew(why)

    def close(self) -> None:
        """Send what waits for at most a second, then disconnect."""
        self._flush()
        self._connection.close()

    def _flush(self) -> None:
        with self._lock:
            while self._outbox:
                topic, payload = self._outbox[0]
                if self._connection.publish(topic, payload, qos=1) is None:
                    return
                self._outbox.popleft()

    def _on_change(self, connected: bool, _why: str) -> None:
        if connected:
            self._flush()
        self._wake()

    def _on_message(self, message: Incoming) -> None:
        at_ns = self._clock.monotonic_ns()
        channel = self._channels.get(message.topic)
        if channel is None:
            return
        if len(self._inbox) >= INBOX:
            self.dropped += 1
            return
        self._inbox.append(Received(at_ns, channel, message.payload))
        self._wake()
