"""An ear on the broker: what station and gate say, as any outsider hears it. It says nothing itself.

What it misses during an outage is missing from its figures; the station's journal fills the verdicts in at the end.
"""

from collections import Counter, deque

from edge.clock import Clock
from edge.errors import ContractError
from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming
from edge.mqtt.settings import Broker
from edge.wire import topics as channels
from edge.wire.station import ACK, ALARM, BEAT, BIRTH, STATE, Ack, Birth
from edge.wire.topics import Topics
from edge.wire.verdict import Verdict, decode_verdict

KEPT = 100_000  # newest figures kept for percentiles: two and a half hours at 11 parts/s
HEARD = (channels.VERDICT, channels.ACK, channels.BEAT, channels.BIRTH, channels.STATE, channels.ALARM)


class Observer:
    """Listens; read its attributes from any thread.

    Args:
        broker: where. names: the station's topics. clock: for the first verdict. deadline_ms: the gate's D.

    Attributes:
        why: gate decisions by reason. to_gate_ms: trigger to verdict in the gate's hand. infer_ms: of the verdicts.
        first_verdict_ns, first_open_ns: CLOCK_MONOTONIC, 0 before.
        birth: the station's newest one, None before. armed: as its newest beat says. reasons: why not, as its state says.
        alarms: text by code, of station and gate. refused: messages that were none of ours.
    """

    def __init__(self, broker: Broker, names: Topics, clock: Clock, deadline_ms: float) -> None:
        self._names = names
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._fresh: deque[Verdict] = deque(maxlen=KEPT)
        self.why: Counter[str] = Counter()
        self.to_gate_ms: deque[float] = deque(maxlen=KEPT)
        self.infer_ms: deque[float] = deque(maxlen=KEPT)
        self.first_verdict_ns = 0
        self.first_open_ns = 0
        self.birth: Birth | None = None
        self.armed = False
        self.reasons: list[str] = []
        self.alarms: dict[str, str] = {}
        self.refused = 0
        self._channels = {names.filter(channel): channel for channel in HEARD}
        self._connection = Connection(
            broker,
            "onbelt-demo",
            subscriptions=[(pattern, channel.qos) for pattern, channel in self._channels.items()],
            on_message=self._hear,
        )

    @property
    def connected(self) -> bool:
        """The broker has accepted us."""
        return self._connection.connected

    @property
    def protocol(self) -> str:
        """MQTT version in use."""
        return self._connection.protocol

    def start(self) -> None:
        """Begin to listen."""
        self._connection.start()

    def close(self) -> None:
        """Stop listening. May be called twice."""
        self._connection.close(0.0)

    def take_verdicts(self) -> list[Verdict]:
        """Verdicts heard since the last call."""
        found = []
        while self._fresh:
            found.append(self._fresh.popleft())
        return found

    def _hear(self, message: Incoming) -> None:
        names, topic, payload = self._names, message.topic, message.payload
        try:
            if names.name_in(channels.VERDICT, topic):
                self._verdict(decode_verdict(payload))
            elif names.name_in(channels.ACK, topic):
                self._ack(ACK.decode(payload))
            elif code := names.name_in(channels.ALARM, topic):
                self._alarm(code, payload)
            elif topic == names.topic(channels.BIRTH):
                self.birth = BIRTH.decode(payload)
            elif topic == names.topic(channels.STATE):
                self.reasons = list(STATE.decode(payload).reasons)
            elif topic == names.topic(channels.BEAT):
                self.armed = BEAT.decode(payload).armed
        except ContractError:
            self.refused += 1

    def _alarm(self, code: str, payload: bytes) -> None:
        if payload:
            self.alarms[code] = ALARM.decode(payload).text
        else:
            self.alarms.pop(code, None)

    def _verdict(self, verdict: Verdict) -> None:
        self.first_verdict_ns = self.first_verdict_ns or self._clock.monotonic_ns()
        if verdict.t.infer_ms is not None:
            self.infer_ms.append(verdict.t.infer_ms)
        self._fresh.append(verdict)

    def _ack(self, ack: Ack) -> None:
        self.why[ack.why] += 1
        if ack.fired:
            self.first_open_ns = self.first_open_ns or self._clock.monotonic_ns()
        if ack.slack_ms is not None:
            self.to_gate_ms.append(self._deadline_ms - ack.slack_ms)
