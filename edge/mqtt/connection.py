"""A connection to the broker in a thread of its own, over paho-mqtt.

What paho does and this does not:
- paho's `publish` keeps a message handed over during an outage and sends it later, whatever it answered. Here a message is
  handed over only while connected, and each attempt to connect is a new client: nothing of an old session can come out.
- paho reconnects with the same state and queues without bound. Here in-flight and queue are small, and a full queue says so.
- a failed connect is a failed connect: `connected` is set by a good CONNACK only.

Retained topics are kept here by topic, newest value only, and published again after each connect: that is all a connection
remembers. Callbacks run in paho's thread and must be short.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from edge.mqtt.client import CONNECT_TIMEOUT_S, V5, V311, PublishProperties, connect_options, leave, make_client, outstanding
from edge.mqtt.failure import TAKEN_OVER, is_about_protocol, reason, remedy
from edge.mqtt.message import Delivery, Incoming, Message
from edge.mqtt.settings import Broker

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 5.0
REPEAT_LOG_S = 60.0


class Connection:
    """Keeps one connection to the broker.

    Args:
        broker: where it is.
        client_id: the same at every start: the broker then ends what is left of an earlier connection, and publishes its
            will, before the new one speaks.
        will: published by the broker when we vanish; a function is asked at each attempt to connect.
        subscriptions: (filter, qos) asked for after each connect.
        on_message: called for each received message.
        on_change: called with (connected, why) after each change of either, from the first failed attempt on.
        queue: messages that may wait beyond those in flight; 0 refuses them at once.
        quiet: log nothing of connecting: the caller tells.
        mirror: given every message before it goes to the broker, and also while there is none.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        *,
        will: Message | Callable[[], Message] | None = None,
        subscriptions: Sequence[tuple[str, int]] = (),
        on_message: Callable[[Incoming], None] | None = None,
        on_change: Callable[[bool, str], None] | None = None,
        queue: int = 0,
        quiet: bool = False,
        mirror: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._mirror = mirror
        self._broker = broker
        self._client_id = client_id
        self._will = will
        self._subscriptions = list(subscriptions)
        self._on_message = on_message
        self._on_change = on_change
        self._queue = queue
        self._level = logging.DEBUG if quiet else logging.WARNING
        self._protocol = V311 if broker.protocol == "3.1.1" else V5
        self._client: paho.Client | None = None
        self._connected = False
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._answered = threading.Event()
        self._ended = threading.Event()
        self._why = ""
        self._properties = PublishProperties()
        self._kept: dict[str, bytes] = {}
        self._cleared: dict[str, Delivery] = {}
        self._dirty: dict[str, None] = {}
        self._keeping = threading.Lock()
        self._logged: tuple[str, float] = ("", 0.0)
        self._told: tuple[bool, str] = (False, "")
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{client_id}", daemon=True)
        self.reconnects = 0
        self.refused = 0  # messages not taken: disconnected, or queue full

    @property
    def connected(self) -> bool:
        """The broker has accepted us and is not known to be gone: `publish` takes messages."""
        return self._connected and self._client is not None

    @property
    def protocol(self) -> Literal["5", "3.1.1"]:
        """Protocol in use or tried next: "5" or "3.1.1"."""
        return "5" if self._protocol == V5 else "3.1.1"

    @property
    def why(self) -> str:
        """Why there is no connection; empty when there is one."""
        return "" if self._connected else self._why or "not connected yet"

    def start(self) -> None:
        """Begin to connect, in the background, for as long as it takes."""
        self._thread.start()

    def hurry(self) -> None:
        """Try to connect now instead of after the pause: the broker was just seen."""
        if not self._connected:
            self._hurry.set()

    def renew(self, why: str) -> None:
        """Give up this connection, if there is one, and make another: the broker answers on it no more."""
        if self._connected:
            self._why = why
            self._ended.set()

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, correlation: bytes = b""
    ) -> Delivery | None:
        """Hand a message to the connection; never waits.

        Returns:
            A delivery to ask later, or None: there is no connection, or too much is under way. Then nothing will be sent.
        """
        if self._mirror is not None:
            self._mirror(topic, payload)
        client = self._client
        if client is None or not self._connected:
            self.refused += 1
            return None
        properties = self._properties.of(expiry_s, correlation) if self._protocol == V5 else None
        info = client.publish(topic, payload, qos, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            self.refused += 1
            return None
        return Delivery(info)

    def subscribe(self, topics: Sequence[str], qos: int) -> bool:
        """Ask for more topics until this connection ends, or once more, for their retained messages; False when not connected."""
        client = self._client
        if client is None or not self._connected:
            return False
        return client.subscribe([(topic, qos) for topic in topics])[0] == paho.MQTT_ERR_SUCCESS

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Take that back."""
        client = self._client
        if client is not None and self._connected:
            client.unsubscribe(list(topics))

    def keep(self, topic: str, payload: bytes) -> None:
        """Publish retained, now or as soon as there is a connection, and again after each connect.

        An empty payload clears, once: when the broker has confirmed it the topic is forgotten, since somebody else may have
        spoken there before the next connect.
        """
        with self._keeping:
            if self._kept.get(topic) == payload:
                return
            self._kept[topic] = payload
            self._dirty[topic] = None
        if self._mirror is not None:
            self._mirror(topic, payload)
        self._publish_kept()

    def close(self, flush_s: float = 1.0) -> None:
        """Publish what is kept, wait so long for confirmations, disconnect. May be called twice."""
        end = time.monotonic() + flush_s
        self._publish_kept()
        client = self._client
        # No event tells of the last confirmation without a lock paho also holds while it calls us: look 100 times a second.
        while client is not None and self._connected and (self._dirty or outstanding(client)) and time.monotonic() < end:
            time.sleep(0.01)
            self._publish_kept()
        self._stop.set()
        self._hurry.set()
        self._answered.set()
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(max(0.5, end - time.monotonic()))

    # --- the connection's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff, brief = FIRST_BACKOFF_S, 0
        while not self._stop.is_set():
            began = time.monotonic()
            accepted, why = self._session()
            if self._stop.is_set():
                return
            if accepted and time.monotonic() - began > LAST_BACKOFF_S:
                backoff, brief, self._logged = FIRST_BACKOFF_S, 0, ("", 0.0)
            elif accepted:
                brief += 1
            # Not every broker says that it gave our name to somebody else (mosquitto 2.0.11 hangs up without a word).
            self._why = why = TAKEN_OVER if brief >= 3 else why
            self._tell_failure(why)
            self._tell_change(why)
            if not accepted and self._broker.protocol == "auto":
                self._switch_protocol(why)
            # Spread out, or all stations of a plant come back in the same millisecond.
            pause_s = backoff * random.uniform(0.7, 1.3)
            if brief:
                self._stop.wait(pause_s)  # no hurry: two of one name would throw each other out without a pause
            elif self._hurry.wait(pause_s):
                self._hurry.clear()
            backoff = min(2 * backoff, LAST_BACKOFF_S)

    def _session(self) -> tuple[bool, str]:
        """One connection from beginning to end: was it accepted, and why did it end."""
        self._answered.clear()
        self._ended.clear()
        self._why = ""
        client: paho.Client | None = None
        accepted = False
        try:
            broker = self._broker
            will = self._will() if callable(self._will) else self._will
            client = make_client(broker, self._client_id, self._protocol, will, self._queue)
            client.on_connect = self._on_connect
            client.on_disconnect = self._on_disconnect
            client.on_message = self._receive
            client.connect(broker.host, broker.port, broker.keepalive_s, **connect_options(self._protocol))
            client.loop_start()
            self._answered.wait(CONNECT_TIMEOUT_S)
            if not self._connected:
                return False, self._why or "no answer to CONNECT in time"
            accepted = True
            self._accepted(client)
            # What is kept is published by whoever keeps it; here is only tried again what the queue had no room for.
            while not self._ended.wait(0.25 if self._dirty else 1.0):
                self._publish_kept()
        except (OSError, ValueError) as exc:
            return accepted, reason(exc)
        finally:
            self._connected = False
            self._client = None
            if client is not None:
                leave(client, politely=self._stop.is_set())
        return accepted, self._why or "connection lost"

    def _accepted(self, client: paho.Client) -> None:
        self._client = client
        self.reconnects += 1
        level = min(self._level, logging.INFO)
        logger.log(level, "%s: connected to %s with MQTT %s", self._client_id, self._broker, self.protocol)
        with self._keeping:
            for topic, delivery in self._cleared.items():
                if delivery.done and topic not in self._dirty:
                    del self._kept[topic]
            self._cleared.clear()
            self._dirty = dict.fromkeys(self._kept)
        self._publish_kept()
        self._tell_change("")

    def _tell_change(self, why: str) -> None:
        now = (self._connected, why)
        if self._on_change is not None and now != self._told:
            self._on_change(*now)
        self._told = now

    def _switch_protocol(self, why: str) -> None:
        if is_about_protocol(why):
            self._protocol = V311 if self._protocol == V5 else V5

    def _tell_failure(self, why: str) -> None:
        last, at = self._logged
        now = time.monotonic()
        if why == last and now - at < REPEAT_LOG_S:
            return
        self._logged = (why, now)
        told = (self._client_id, self._broker, why, remedy(why))
        logger.log(self._level, "%s: no connection to %s: %s; %s (tried again until it works)", *told)

    # --- callbacks in paho's thread ---------------------------------------------------------------------------------------

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._why = str(reason)
            return
        for topic, qos in self._subscriptions:
            client.subscribe(topic, qos)
        self._connected = True
        self._answered.set()

    def _on_disconnect(self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._connected = False
        self._why = self._why or (str(reason) if reason.is_failure else "the broker closed the connection")
        self._answered.set()
        self._ended.set()

    def _receive(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if self._on_message is None:
            return
        properties = message.properties
        try:
            self._on_message(
                Incoming(
                    message.topic,
                    bytes(message.payload),
                    message.retain,
                    getattr(properties, "ResponseTopic", ""),
                    getattr(properties, "CorrelationData", b""),
                )
            )
        except Exception:
            # paho's thread must survive whatever a message does to us; the sender is outside and not to be trusted.
            logger.exception("%s: message on %s could not be handled", self._client_id, message.topic[:120])

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _publish_kept(self) -> None:
        if not self._dirty:
            return
        with self._keeping:
            for topic in list(self._dirty):
                payload = self._kept[topic]
                delivery = self.publish(topic, payload, qos=1, retain=True)
                if delivery is None:
                    return
                del self._dirty[topic]
                self._cleared.pop(topic, None)
                if not payload:
                    self._cleared[topic] = delivery
