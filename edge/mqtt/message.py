"""What goes through a connection: a message out, a message in, and one under way."""

from typing import NamedTuple

import paho.mqtt.client as paho


class Message(NamedTuple):
    """One publication."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Incoming(NamedTuple):
    """One received message; `reply_to` and `correlation` come with MQTT 5 requests only."""

    topic: str
    payload: bytes
    retain: bool
    reply_to: str
    correlation: bytes


class Delivery:
    """A message handed to a live connection."""

    __slots__ = ("_info",)

    def __init__(self, info: paho.MQTTMessageInfo) -> None:
        self._info = info

    @property
    def done(self) -> bool:
        """The broker has confirmed it (QoS 1), or it was written to the socket (QoS 0)."""
        try:
            return self._info.is_published()
        except (ValueError, RuntimeError):
            return False
