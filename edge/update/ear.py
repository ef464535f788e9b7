"""What the updater hears of its station over MQTT: state, birth, verdicts; and the desired state.

Callbacks come in the connection's thread and are short; the updater's own thread asks.
"""

import logging
import threading
import time
from collections.abc import Callable

from edge.clock import Clock
from edge.errors import ContractError
from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming
from edge.mqtt.settings import Broker
from edge.update.guard import Guard, GuardSettings, Usual
from edge.update.machine import Watched
from edge.update.state import Model
from edge.wire import station as wire
from edge.wire import topics
from edge.wire.topics import Topics
from edge.wire.verdict import decode_verdict

logger = logging.getLogger(__name__)

LOOK_S = 0.25


class Ear:
    """Listens to one station.

    Args:
        broker, names, client_id: where and who. clock: this machine's. on_desired: gets each payload of `update/desired`.
        on_time: gets each payload of `update/time`.
    """

    def __init__(
        self,
        broker: Broker,
        names: Topics,
        client_id: str,
        clock: Clock,
        on_desired: Callable[[bytes], None],
        on_time: Callable[[bytes], None],
    ) -> None:
        self._on_time = on_time
        self._names = names
        self._clock = clock
        self._on_desired = on_desired
        self._lock = threading.Lock()
        self._usual = Usual()
        self._guard: Guard | None = None
        self._state: wire.State | None = None
        self._offline = ""
        self._promise = 0.0
        self._refused = 0
        channels = (topics.STATE, topics.STATUS, topics.BIRTH, topics.VERDICT, topics.UPDATE_DESIRED, topics.UPDATE_TIME)
        self.connection = Connection(
            broker,
            client_id,
            subscriptions=[(names.filter(channel), channel.qos) for channel in channels],
            on_message=self._take,
            queue=16,
        )

    @property
    def silent(self) -> str:
        """Why a switch could not be watched now, empty when it could."""
        if not self.connection.connected:
            return f"no broker: {self.connection.why}"
        with self._lock:
            state, offline = self._state, self._offline
        if state is None:
            return "the station has not said anything yet"
        if offline:
            return f"the station is offline: {offline}"
        return "" if state.armed else f"the station is not armed: {'; '.join(state.reasons)}"

    def watch(self, model: Model, settings: GuardSettings, stop: threading.Event) -> Watched | None:
        """Watch a model that was just switched to until it is decided; None when told to stop first."""
        with self._lock:
            guard = Guard(model.ref, settings, self._usual.shares(model.ref), self._promise, self._clock.monotonic_ns())
            if self._state is not None and self.connection.connected:
                guard.on_state(self._state, self._clock.monotonic_ns())
            self._guard = guard
        try:
            while not stop.wait(LOOK_S):
                with self._lock:
                    seen = guard.look(self._clock.monotonic_ns())
                if seen is not None:
                    return seen
            return None
        finally:
            with self._lock:
                self._guard = None

    def wait_for(self, model: Model, seconds: float, stop: threading.Event) -> bool:
        """Wait until the station says that it runs this model; False when it did not in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stop.wait(LOOK_S):
            with self._lock:
                if self._state is not None and self._state.model == model.ref:
                    return True
        return False

    # --- the connection's thread ------------------------------------------------------------------------------------------

    def _take(self, message: Incoming) -> None:
        names = self._names
        try:
            if message.topic == names.topic(topics.UPDATE_DESIRED):
                self._on_desired(message.payload)
            elif message.topic == names.topic(topics.UPDATE_TIME):
                self._on_time(message.payload)
            elif message.topic == names.topic(topics.STATE):
                self._on_state(wire.STATE.decode(message.payload))
            elif message.topic == names.topic(topics.STATUS):
                self._on_status(wire.STATUS.decode(message.payload))
            elif message.topic == names.topic(topics.BIRTH):
                birth = wire.BIRTH.decode(message.payload)
                with self._lock:
                    self._promise = birth.promise.false_reject if birth.promise else 0.0
            elif names.name_in(topics.VERDICT, message.topic):
                verdict = decode_verdict(message.payload)
                with self._lock:
                    self._usual.add(verdict)
                    if self._guard is not None:
                        self._guard.on_verdict(verdict)
        except ContractError as exc:
            self._refused += 1
            logger.log(logging.WARNING if self._refused == 1 else logging.DEBUG, "%s refused: %s", message.topic[:160], exc)

    def _on_state(self, state: wire.State) -> None:
        with self._lock:
            self._state = state
            self._offline = ""
            if self._guard is not None:
                self._guard.on_state(state, self._clock.monotonic_ns())

    def _on_status(self, status: wire.Status) -> None:
        with self._lock:
            # A will may come late, after the next start has spoken: it counts against its own boot only.
            gone = status.status == "offline" and (self._state is None or self._state.boot == status.boot)
            self._offline = (status.why or "gone") if gone else ""
            if gone and self._guard is not None:
                self._guard.on_offline(status.why)
