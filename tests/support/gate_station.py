"""A station that obeys: it speaks the real wire formats over a real broker, and says what the test tells it to.

For gate tests only: its verdicts follow a rule of the test, its engine is a timer. It counts what it said.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import msgspec

from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming
from edge.mqtt.settings import Broker
from edge.system.boot import new_boot
from edge.wire import topics as channels
from edge.wire.station import ACK, BEAT, BIRTH, STATE, Ack
from edge.wire.topics import Topics
from edge.wire.trigger import TRIGGER
from edge.wire.verdict import encode_verdict
from tests.support.gate_messages import GATE, STATION, TOKEN, make_beat, make_birth, make_state, make_verdict

TOPICS = Topics("plant", "hall", "line3", STATION)
DELAY_MS = 30.0


class GateStation:
    """Beats, announces itself, and answers triggers.

    Args:
        port: of the broker. judge: number of the part -> verdict to send, or "" for silence.
    """

    def __init__(self, port: int, judge: Callable[[int], str], *, protocol: str = "5") -> None:
        self.boot = new_boot(time.time_ns() // 1000)
        self.judge = judge
        self.armed = True
        self.beating = True
        self.delay_ms = DELAY_MS
        self.acks: list[Ack] = []
        self.alarms: dict[str, bytes] = {}
        self.quarantine: list[bytes] = []
        self.seq = 0
        self.beats = 0
        self.ended = threading.Event()
        self.connection = Connection(
            Broker("127.0.0.1", port, protocol),  # type: ignore[arg-type]  # a parameter of tests
            f"test-station-{STATION}",
            subscriptions=[(TOPICS.filter(c), 1) for c in (channels.ACK, channels.ALARM, channels.QUARANTINE)],
            on_message=self._hear,
            queue=500,
        )
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._listen)]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port

    def start(self) -> "GateStation":
        self.connection.start()
        self.announce()
        for thread in self.threads:
            thread.start()
        return self

    def announce(self, **changes: object) -> None:
        birth = msgspec.structs.replace(make_birth(self.boot), **changes)
        self.connection.keep(TOPICS.topic(channels.BIRTH), BIRTH.encode(birth))
        self.connection.keep(TOPICS.topic(channels.STATE), STATE.encode(make_state(self.boot, armed=self.armed)))

    def rise_again(self) -> None:
        """What a restart of the daemon looks like from outside."""
        self.boot = new_boot(time.time_ns() // 1000)
        self.beats = 0
        self.announce()

    def send(self, count: int, verdict: str, **changes: object) -> None:
        self.seq += 1
        made = make_verdict(count, verdict, boot=str(changes.pop("boot", self.boot)), seq=self.seq, token=TOKEN)
        payload = encode_verdict(msgspec.structs.replace(made, **changes))
        self.connection.publish(TOPICS.topic(channels.VERDICT, GATE), payload, qos=1)

    def close(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        self.connection.close(0.2)
        self.socket.close()

    def _beat(self) -> None:
        while not self.ended.wait(0.1):
            if self.beating:
                self.beats += 1
                beat = make_beat(self.beats, self.boot, armed=self.armed)
                self.connection.publish(TOPICS.topic(channels.BEAT), BEAT.encode(beat), qos=0)

    def _listen(self) -> None:
        while not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                count = TRIGGER.decode(self.socket.recv(600)).count
                verdict = self.judge(count)
                if verdict:
                    timer = threading.Timer(self.delay_ms / 1000, self.send, (count, verdict))
                    timer.daemon = True
                    timer.start()

    def _hear(self, message: Incoming) -> None:
        if TOPICS.name_in(channels.ACK, message.topic):
            self.acks.append(ACK.decode(message.payload))
        elif code := TOPICS.name_in(channels.ALARM, message.topic):
            self.alarms[code] = message.payload
        else:
            self.quarantine.append(message.payload)
