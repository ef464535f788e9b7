"""What the gate under test has said: acks, alarms, quarantines, as they come."""

import threading
from collections import defaultdict

import msgspec

from edge.clock import Clock
from edge.errors import ContractError
from edge.mqtt.message import Incoming
from edge.wire import topics as channels
from edge.wire.quarantine import QUARANTINE_CODEC
from edge.wire.station import ACK, ALARM, BEAT, Ack
from edge.wire.topics import Topics


class Book:
    """Filled from the connection's thread, read by the runner.

    Attributes:
        malformed: acks no reader could take, in words.
        alarms: alarms that stand, text by code. ever: codes that were ever raised.
        strangers: boots that beat, the kit's own among them.
    """

    def __init__(self, topics: Topics, gate: str, clock: Clock) -> None:
        self._topics = topics
        self._ack_topic = topics.topic(channels.ACK, gate)
        self._clock = clock
        self._lock = threading.Lock()
        self._acks: dict[int, list[tuple[int, Ack]]] = defaultdict(list)
        self._suspect: set[int] = set()
        self._newest = -1
        self.malformed: list[str] = []
        self.alarms: dict[str, str] = {}
        self.ever: set[str] = set()
        self.strangers: set[str] = set()

    def hear(self, message: Incoming) -> None:
        """Take one message."""
        if message.topic == self._ack_topic:
            self._take_ack(message.payload)
        elif code := self._topics.name_in(channels.ALARM, message.topic):
            self._take_alarm(code, message.payload)
        elif message.topic == self._topics.topic(channels.BEAT):
            self._take_beat(message.payload)
        elif message.topic == self._topics.topic(channels.QUARANTINE):
            # A retained one is of an earlier run, whose part numbers were others'.
            self._take_quarantine(b"" if message.retain else message.payload)

    def acks(self, trig: int) -> list[Ack]:
        """All acks of a part, in order."""
        with self._lock:
            return [ack for _, ack in self._acks.get(trig, ())]

    def fired(self, trig: int) -> list[int]:
        """When acks came that say the part was let through, ns."""
        with self._lock:
            return [
                at_ns
                for at_ns, ack in self._acks.get(trig, ())
                if ack.decision == "pass" or (ack.fired and ack.decision != "reinspect")
            ]

    def newest(self) -> int:
        """The largest part number acked so far, -1 before the first."""
        return self._newest

    def suspects(self, trig: int) -> bool:
        """The part was named in a quarantine."""
        return trig in self._suspect

    def stop_alarm(self) -> bool:
        """An alarm stands that speaks of a stop of the line."""
        return any("stop" in code for code in self.alarms)

    def _take_alarm(self, code: str, payload: bytes) -> None:
        if not payload:
            self.alarms.pop(code, None)
            return
        self.ever.add(code)
        try:
            self.alarms[code] = ALARM.decode(payload).text
        except ContractError:
            self.alarms[code] = "in a form of its own"

    def _take_beat(self, payload: bytes) -> None:
        try:
            if len(self.strangers) < 16:
                self.strangers.add(BEAT.decode(payload).boot)
        except ContractError:
            self.strangers.add("in a form of its own")

    def _take_ack(self, payload: bytes) -> None:
        try:
            ack = ACK.decode(payload)
        except ContractError as exc:
            self.malformed.append(str(exc)[:200])
            return
        with self._lock:
            self._acks[ack.trig].append((self._clock.monotonic_ns(), ack))
            self._newest = max(self._newest, ack.trig)

    def _take_quarantine(self, payload: bytes) -> None:
        if not payload:
            return
        try:
            notice = QUARANTINE_CODEC.decode(payload)
        except (ContractError, msgspec.DecodeError) as exc:
            self.malformed.append(str(exc)[:200])
            return
        for part in notice.ranges:
            # Bounded: a gate that names everything must not fill our memory.
            self._suspect.update(range(part.first, min(part.last, part.first + 1000) + 1))
