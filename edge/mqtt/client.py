"""One client of paho's, as a connection wants it: made, asked, left. Everything that knows paho's inside stands here."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.mqtt.message import Message
from edge.mqtt.settings import Broker

CONNECT_TIMEOUT_S = 4.0
GOODBYE_S = 0.5  # a broker hangs up at once when it is told goodbye
MAX_INCOMING_BYTES = 64 * 1024
# mosquitto grants a client 20 messages in flight unless configured otherwise; more would be a protocol error.
IN_FLIGHT = 16
V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


def make_client(broker: Broker, client_id: str, protocol: MQTTProtocolVersion, will: Message | None, queue: int) -> paho.Client:
    """A client with its limits set, not connected yet; `queue` messages may wait beyond those in flight."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=True if protocol == V311 else None,
        protocol=protocol,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.max_inflight_messages = IN_FLIGHT
    client.max_queued_messages = IN_FLIGHT + queue
    if broker.user:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls:
        client.tls_set(broker.ca or None, broker.cert or None, broker.key or None, tls_version=ssl.PROTOCOL_TLS_CLIENT)
    if will is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    client.on_socket_open = _no_delay
    return client


def connect_options(protocol: MQTTProtocolVersion) -> dict[str, Any]:
    """What CONNECT says beyond address and keep-alive."""
    if protocol != V5:
        return {}
    properties = _new_properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 0  # the broker stores no live verdict
    properties.MaximumPacketSize = MAX_INCOMING_BYTES
    return {"clean_start": True, "properties": properties}


class PublishProperties:
    """The MQTT 5 properties of our messages, made once for each expiry in use."""

    def __init__(self) -> None:
        self._cached: dict[int, Any] = {}

    def of(self, expiry_s: int, correlation: bytes) -> Any:
        """Properties of a message that expires after so many seconds (0: never) and answers this correlation (empty: none)."""
        if expiry_s in self._cached and not correlation:
            return self._cached[expiry_s]
        properties = _new_properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        if expiry_s:
            properties.MessageExpiryInterval = expiry_s
        if correlation:
            properties.CorrelationData = correlation
        elif len(self._cached) < 8:  # two or three in practice; making one takes longer than publishing
            self._cached[expiry_s] = properties
        return properties


def outstanding(client: paho.Client) -> bool:
    """Whether a message is unconfirmed, or a byte unsent."""
    return bool(client._out_messages) or client.want_write()  # noqa: SLF001 - paho has no other way to ask


def leave(client: paho.Client, *, politely: bool) -> None:
    """End a client for good, after a moment for what it has under way; a peer that stopped reading gets no more later."""
    _wait_while(lambda: client.is_connected() and outstanding(client))
    if politely:
        client.disconnect()
        _wait_while(lambda: client.socket() is not None)
    # paho's thread ends when nothing is unconfirmed, or with its connection: a peer that never confirms would hold it for ever.
    sock: Any = client.socket()  # paho types it by what it uses of it itself
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    client.loop_stop()
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.close()


def _wait_while(true: Callable[[], bool]) -> None:
    """Look 200 times a second: paho calls nobody when its last confirmation comes or its socket closes."""
    end = time.monotonic() + GOODBYE_S
    while true() and time.monotonic() < end:
        time.sleep(0.005)


def _no_delay(_client: paho.Client, _data: Any, sock: Any) -> None:
    # A verdict of 1 kB must not wait for the acknowledgement of the beat before it.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _new_properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this class untyped
