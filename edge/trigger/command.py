"""Triggers as MQTT commands on cmd/trigger: for lines whose controller speaks MQTT and nothing faster."""

import logging
import threading

from edge.errors import ContractError
from edge.queues import Newest
from edge.trigger.base import Deliver
from edge.wire.trigger import TRIGGER, LineTrigger

logger = logging.getLogger(__name__)

_DEPTH = 256


class CommandTrigger:
    """Takes the payloads of cmd/trigger, which have the form of the line's datagrams, from the connection's thread."""

    def __init__(self) -> None:
        self.name = "mqtt cmd/trigger"
        self.refused = 0
        self._waiting: Newest[LineTrigger] = Newest(_DEPTH)

    def offer(self, payload: bytes) -> None:
        """Take a payload; never waits. Raises ContractError: it is no trigger."""
        try:
            trigger = TRIGGER.decode(payload)
        except ContractError:
            self.refused += 1
            raise
        if self._waiting.put(trigger) is not None:
            self.refused += 1
            logger.warning("%s: more than %d triggers wait; the oldest is lost", self.name, _DEPTH)

    def open(self) -> None:
        """Nothing to take: the connection subscribes."""

    def run(self, stop: threading.Event, deliver: Deliver) -> None:
        """Deliver what was offered."""
        while not stop.is_set():
            trigger = self._waiting.get(timeout_s=0.2)
            if trigger is not None:
                deliver(trigger)

    def close(self) -> None:
        """Nothing to free."""
