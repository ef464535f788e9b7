"""The station's ways out: one connection for verdicts, one for everything else, and the gate on the same box beside them."""

import threading
from collections.abc import Callable
from pathlib import Path

from edge.config.station import StationConfig
from edge.daemon.state.phase import Station
from edge.daemon.talk.announce import will
from edge.daemon.talk.inbox import Inbox
from edge.mqtt.connection import Connection
from edge.mqtt.local import LocalGate
from edge.mqtt.message import Incoming
from edge.wire import topics

TELEMETRY_QUEUE = 64
_CLOSE_S = 0.5


class Links:
    """Both connections and the local gate, which hears what a gate needs whether or not there is a broker.

    Args:
        config: checked configuration. boot: this run's id. station: told when verdicts have no way out.
        on_message: called for each received message. on_rest: called with (connected, why) of the second connection.

    Attributes:
        line: for verdicts. rest: for everything else. local: the gate on this box, or None. broker: where both go.
    """

    def __init__(
        self,
        config: StationConfig,
        boot: str,
        station: Station,
        on_message: Callable[[Incoming], None],
        on_rest: Callable[[bool, str], None],
    ) -> None:
        names, place = config.topics(), config.station
        self.broker = config.broker()
        self._station = station
        self._on_rest = on_rest
        retained = [names.topic(channel) for channel in (topics.BIRTH, topics.STATE, topics.STATUS)]
        heard = {*retained, names.topic(topics.BEAT), names.topic(topics.VERDICT, place.gate)}
        socket_path = config.bridge.gate_socket
        self.local = local = LocalGate(Path(socket_path), retained) if socket_path else None
        mirror = None if local is None else lambda topic, payload: local.send(topic, payload) if topic in heard else None
        client_id = f"onbelt-{place.line}-{place.station}"
        self.line = Connection(self.broker, f"{client_id}-v", on_change=self._on_line_change, mirror=mirror)
        self.rest = Connection(
            self.broker,
            f"{client_id}-r",
            will=will(names, place.station, boot),
            subscriptions=Inbox.subscriptions(names),
            on_message=on_message,
            on_change=self._on_rest_change,
            queue=TELEMETRY_QUEUE,
            mirror=mirror,
        )

    def start(self) -> None:
        """Begin to connect."""
        self.line.start()
        self.rest.start()

    def close(self) -> None:
        """Say what is kept and leave the broker."""
        # Both at once, or a broker that is gone would cost its time twice.
        closing = threading.Thread(target=self.line.close, args=(0.3,), daemon=True)
        closing.start()
        self.rest.close(0.3)
        closing.join(_CLOSE_S)

    def _on_line_change(self, connected: bool, why: str) -> None:
        if connected:
            self.rest.hurry()
            self._station.clear("broker")
        else:
            self._station.raise_(
                "broker",
                "warning",
                f"broker {self.broker}: {why}"[:200],
                "start the broker or check mqtt.host; verdicts go to the journal and are sent later",
            )

    def _on_rest_change(self, connected: bool, why: str) -> None:
        if connected:
            self.line.hurry()
        self._on_rest(connected, why)
