"""The connection of whoever looks after a fleet: hears the retained topics, and keeps signed desired states on the broker."""

import threading
import time
from dataclasses import replace

from edge.errors import BrokerError
from edge.fleet.view import Box, Fleet
from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming
from edge.mqtt.settings import Broker

CONNECT_S = 10.0
FIRST_S = 5.0  # a broker that has anything for us has begun by then
QUIET_S = 1.0  # without another message for so long, everything retained has come
MOST_S = 60.0
RENEW_S = 20.0  # QoS 0 may lose a message to a full socket: the retained ones are asked for again


class FleetLink:
    """One connection over a fleet.

    Args:
        broker: where. fleet: what is collected. name: client id.
    """

    def __init__(self, broker: Broker, fleet: Fleet, name: str) -> None:
        self._broker = broker
        self._fleet = fleet
        self._lock = threading.Lock()
        self._heard_s: float | None = None
        self._renewed_s = time.monotonic()
        # QoS 0: mosquitto queues 1000 messages of QoS 1 for a client unless configured otherwise and drops what is more; of
        # 4000 retained ones of 1000 boxes 1020 came with QoS 1, all with QoS 0.
        self.connection = Connection(
            broker, name, subscriptions=[(one, 0) for one in fleet.filters], on_message=self._take, queue=512, quiet=True
        )

    def open(self) -> "FleetLink":
        """Connect, and collect what is retained. Raises BrokerError: nobody answers."""
        self.connection.start()
        end = time.monotonic() + CONNECT_S
        while not self.connection.connected:
            if time.monotonic() > end:
                raise BrokerError(
                    f"{self._broker}: {self.connection.why}; is the broker running there, and does it know this user?"
                )
            time.sleep(0.02)
        begun = time.monotonic()
        while time.monotonic() - begun < MOST_S:
            time.sleep(0.02)
            heard = self._heard_s
            if time.monotonic() - (heard or begun) > (QUIET_S if heard else FIRST_S):
                break
        return self

    def boxes(self) -> dict[str, Box]:
        """The boxes as they stand now; asks for the retained topics again every now and then."""
        if time.monotonic() - self._renewed_s > RENEW_S and self.connection.subscribe(self._fleet.filters, 0):
            self._renewed_s = time.monotonic()
        with self._lock:
            return {base: replace(box) for base, box in self._fleet.boxes.items()}

    def close(self, flush_s: float = 5.0) -> None:
        """Hang up, once everything kept is confirmed."""
        self.connection.close(flush_s)

    def _take(self, message: Incoming) -> None:
        with self._lock:
            self._fleet.take(message.topic, message.payload)
        self._heard_s = time.monotonic()
