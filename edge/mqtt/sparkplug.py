"""A Sparkplug B edge node on a connection of its own: birth, data, death, and the command to be born again.

    each CONNECT      another bdSeq (0 to 255), in the will (NDEATH) and in the birth that follows
    connected         NBIRTH: every metric, seq 0
    changed values    NDATA: those that changed, seq one up, 255 is followed by 0
    NCMD rebirth      NBIRTH again, under the same bdSeq; at most one a second, more are one
    close             NDEATH said by ourselves: a polite goodbye makes the broker forget the will

Its own connection, because the will belongs to one. MQTT 3.1.1, which every Sparkplug host speaks. Where a message finds no room
its number is not used up, and the values are told with the next one.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edge.clock import Clock
from edge.errors import ContractError
from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming, Message
from edge.mqtt.settings import Broker
from edge.wire.sparkplug import BD_SEQ, REBIRTH, DataType, Metric, encode, topic, wants_rebirth

logger = logging.getLogger(__name__)

REBIRTH_PAUSE_NS = 1_000_000_000  # a birth is 1 kB; a host that asks again and again must not fill the line
WRAP = 256


class Node:
    """One edge node.

    Args:
        broker: where. client_id: the connection's name. group, node: the node's name in Sparkplug.
        counter: file that keeps the newest bdSeq, so that it goes on after a restart.
        metrics: all there will ever be, with their first values: a host takes no metric it has not seen born.
        clock: labels and pauses.

    Attributes:
        refused: commands that were none, or were retained. births: NBIRTHs handed to the broker.
    """

    def __init__(
        self, broker: Broker, client_id: str, group: str, node: str, counter: Path, metrics: Mapping[str, Metric], clock: Clock
    ) -> None:
        self._birth_topic, self._data_topic = topic(group, "NBIRTH", node), topic(group, "NDATA", node)
        self._death_topic, self._command_topic = topic(group, "NDEATH", node), topic(group, "NCMD", node)
        self._counter = counter
        self._clock = clock
        self._metrics = dict(metrics)
        self._told: dict[str, Metric] = {}
        self._bd_seq = _read(counter)
        self._seq = 0
        self._born = False
        self._asked = False
        self._born_ns = 0
        self._lock = threading.Lock()
        self.refused = 0
        self.births = 0
        self._connection = Connection(
            replace(broker, protocol="3.1.1"),
            client_id,
            will=self._will,
            subscriptions=[(self._command_topic, 1)],
            on_message=self._hear,
            on_change=self._on_change,
            quiet=True,
        )

    @property
    def connected(self) -> bool:
        """The broker has accepted the node."""
        return self._connection.connected

    def start(self) -> None:
        """Connect, for as long as it takes."""
        self._connection.start()

    def update(self, metrics: Mapping[str, Metric]) -> None:
        """The values as they are now; what has changed is told, and a birth that was asked for is given. Never waits.

        Raises:
            ValueError: a metric that was not born.
        """
        unknown = set(metrics) - set(self._metrics)
        if unknown:
            raise ValueError(f"metric {sorted(unknown)[0]!r} was not there at the start")
        with self._lock:
            self._metrics |= metrics
            due = self._asked and self._clock.monotonic_ns() - self._born_ns >= REBIRTH_PAUSE_NS
            if due or not self._born:
                self._give_birth()
                return
            changed = [metric for name, metric in self._metrics.items() if self._told.get(name) != metric]
            if changed and self._publish(self._data_topic, encode(changed, self._now_ms(), (self._seq + 1) % WRAP)):
                self._seq = (self._seq + 1) % WRAP
                self._told = dict(self._metrics)

    def close(self) -> None:
        """Say the death, and go."""
        with self._lock:
            self._born = False
            self._connection.publish(self._death_topic, self._death(), qos=1)
        self._connection.close(0.3)

    # --- the connection's threads -----------------------------------------------------------------------------------------

    def _will(self) -> Message:
        """For each CONNECT: the death of the session that begins, told by the broker should it end without a word."""
        with self._lock:
            self._born = False
            self._bd_seq = (self._bd_seq + 1) % WRAP
            _write(self._counter, self._bd_seq)
            return Message(self._death_topic, self._death(), 1, retain=False)

    def _on_change(self, connected: bool, _why: str) -> None:
        with self._lock:
            self._born = False
            if connected:
                self._give_birth()

    def _hear(self, message: Incoming) -> None:
        try:
            asked = not message.retain and wants_rebirth(message.payload)
        except ContractError as error:
            self.refused += 1
            if self.refused == 1:
                logger.warning("%s (said once, counted from now on)", error)
            return
        self.refused += message.retain  # stored by the broker: whoever asked may be long gone
        self._asked = self._asked or asked

    # --- inside, with the lock held ---------------------------------------------------------------------------------------

    def _give_birth(self) -> None:
        metrics = [
            Metric(BD_SEQ, DataType.INT64, self._bd_seq),
            Metric(REBIRTH, DataType.BOOLEAN, value=False),
            *self._metrics.values(),
        ]
        if self._publish(self._birth_topic, encode(metrics, self._now_ms(), 0)):
            self._born, self._asked, self._seq = True, False, 0
            self._born_ns = self._clock.monotonic_ns()
            self._told = dict(self._metrics)
            self.births += 1

    def _death(self) -> bytes:
        return encode([Metric(BD_SEQ, DataType.INT64, self._bd_seq)], self._now_ms(), None)

    def _publish(self, where: str, payload: bytes) -> bool:
        return self._connection.publish(where, payload, qos=0) is not None

    def _now_ms(self) -> int:
        return self._clock.utc_us() // 1000


def _read(path: Path) -> int:
    try:
        return int(path.read_text()[:8]) % WRAP
    except (OSError, ValueError):
        return WRAP - 1  # none yet: the first is 0


def _write(path: Path, value: int) -> None:
    """Keep it; a number that is lost costs a host nothing but a repeated one, so a full disk stops nobody."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(f"{value}\n")
        new.replace(path)
    except OSError as error:
        logger.debug("%s: not kept: %s", path, error)
