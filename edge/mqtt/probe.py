"""Whether a broker answers us at all: one connection, made and left again."""

import threading

from edge.errors import BrokerError
from edge.mqtt.connection import Connection
from edge.mqtt.failure import is_about_protocol
from edge.mqtt.settings import Broker


def probe(broker: Broker, client_id: str, timeout_s: float = 10.0) -> str:
    """Connect once and leave again.

    Returns:
        The protocol the broker speaks with us.

    Raises:
        BrokerError: it does not answer or refuses us.
    """
    settled = threading.Event()

    def on_change(connected: bool, why: str) -> None:
        # Another protocol is tried next after such an answer; anything else is final.
        if connected or broker.protocol != "auto" or not is_about_protocol(why):
            settled.set()

    connection = Connection(broker, client_id, on_change=on_change, quiet=True)
    connection.start()
    try:
        if not settled.wait(timeout_s) or not connection.connected:
            raise BrokerError(f"{broker}: {connection.why}; is the broker running there, and does it know this user?")
        return connection.protocol
    finally:
        connection.close(0.2)
