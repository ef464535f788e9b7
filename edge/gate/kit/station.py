"""A station that lies on demand: real wire formats over a real broker, and every message can be made wrong.

It has no camera and no model; what it says is what the probe at hand wants said.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edge import __version__
from edge.clock import Clock
from edge.mqtt.connection import Connection
from edge.mqtt.message import Incoming
from edge.mqtt.settings import Broker
from edge.system.boot import new_boot
from edge.wire import topics as channels
from edge.wire.station import (
    BEAT,
    BEAT_SCHEMA,
    BIRTH,
    BIRTH_SCHEMA,
    STATE,
    STATE_SCHEMA,
    Beat,
    Birth,
    Check,
    State,
)
from edge.wire.topics import Channel, Topics
from edge.wire.verdict import GENESIS, SCHEMA, Cam, Clk, Context, Part, Score, Times, Verdict, encode_verdict, verdict_id

BEAT_HZ = 10.0
CHECK_LIFE_S = 3600


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the kit plays, and for which gate.

    Attributes:
        topics: of the station. gate: the gate under test.
        model, limit, recipe: what the gate is armed for, as in the birth.
        valid_ms: life of a verdict. key: the MAC key, or empty where verdicts are not sealed.
    """

    topics: Topics
    gate: str
    model: str
    limit: str
    recipe: str
    valid_ms: float
    key: bytes = b""


class KitStation:
    """Announces itself, beats, and publishes what it is told.

    Args:
        who: whom it plays. broker: where. clock: this machine's.
        on_message: gets every ack, alarm and quarantine of the gate.
        stamped: the gate's triggers carry the kit's own time; else beats name no time of this clock, as of another machine's.

    Attributes:
        part_ns: when the part that is spoken of comes; a verdict names it as its trigger.
        beating, armed, check_left_s: what the next beat says, or whether there is one.
    """

    def __init__(
        self, who: Identity, broker: Broker, clock: Clock, on_message: Callable[[Incoming], None], *, stamped: bool = True
    ) -> None:
        self.who = who
        self.part_ns = 0
        self.beating = True
        self.armed = True
        self.check_left_s: float = CHECK_LIFE_S
        self._clock = clock
        self._stamped = stamped
        self._seq = 0
        self._beats = 0
        self._checks = 0
        self._beating = threading.Lock()
        self._ended = threading.Event()
        self.boot = ""
        self.token = ""
        heard = [(who.topics.topic(channels.ACK, who.gate), 1)]
        heard += [(who.topics.filter(channel), 1) for channel in (channels.ALARM, channels.QUARANTINE, channels.BEAT)]
        self._connection = Connection(
            broker, f"onbelt-gatecheck-{who.topics.station}", subscriptions=heard, on_message=on_message, queue=500, quiet=True
        )
        self._thread = threading.Thread(target=self._beat, name="gatecheck-beat", daemon=True)

    def start(self, timeout_s: float) -> bool:
        """Connect and announce; False when the broker does not answer in time."""
        self._connection.start()
        self.rise()
        self._thread.start()
        return self.wait_until(lambda: self._connection.connected, timeout_s)

    def close(self) -> None:
        """Stop beating, clear what was retained, hang up."""
        self._ended.set()
        self._thread.join(1.0)
        for channel in (channels.BIRTH, channels.STATE):
            self._connection.keep(self.who.topics.topic(channel), b"")
        self._connection.close(0.5)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for something another thread does."""
        until_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while not condition():
            if self._clock.monotonic_ns() > until_ns or self._ended.wait(0.01):
                return condition()
        return True

    # --- what it says -----------------------------------------------------------------------------------------------------

    def rise(self) -> None:
        """Begin a new boot: another name, a new self-check, a birth."""
        self.boot = new_boot(self._clock.utc_us())
        self._beats = 0
        self.announce()

    def announce(self, *, armed: bool = True, checked: bool = True) -> None:
        """Birth and state, with a new self-check or with none."""
        now_us = self._clock.utc_us()
        self._checks += 1
        self.token = f"chk-kit-{self._checks}"
        check = Check(self.token, now_us, now_us + CHECK_LIFE_S * 1_000_000, 4) if checked else None
        who = self.who
        birth = Birth(
            sch=BIRTH_SCHEMA,
            station=who.topics.station,
            boot=self.boot,
            at_us=now_us,
            first_seq=self._seq + 1,
            software=f"onbelt gatecheck {__version__}",
            model=who.model,
            bundle="",
            limit=who.limit,
            recipe=who.recipe,
            promise=None,
            check=check,
            engine="none",
            size=0,
            gates=[who.gate],
            cameras=["c1"],
            trigger="gatecheck",
            valid_ms=who.valid_ms,
            budget_ms=None,
            infer_p99_ms=None,
            beat_hz=BEAT_HZ,
            sealed=bool(who.key),
            clk="free",
            mqtt="5",
            page="",
            schemas=[SCHEMA],
        )
        state = State(
            sch=STATE_SCHEMA,
            station=who.topics.station,
            boot=self.boot,
            state="ContinuousExecution" if armed else "Error",
            phase="RUNNING" if armed else "FAULT",
            armed=armed,
            reasons=[] if armed else ["gatecheck: not armed on purpose"],
            recipe=who.recipe,
            model=who.model,
            limit=who.limit,
            check=check,
            since_us=now_us,
        )
        self._connection.keep(who.topics.topic(channels.BIRTH), BIRTH.encode(birth))
        self._connection.keep(who.topics.topic(channels.STATE), STATE.encode(state))

    def verdict(self, trig: int, name: str = "pass", **changes: Any) -> Verdict:
        """A valid verdict for a part, with a number of its own; `changes` are fields of the struct.

        `ctx`, `t` and `clk` take a dict of the fields to change inside them.
        """
        self._seq += 1
        who, now_us = self.who, self._clock.utc_us()
        cal = 0.5 if name == "pass" else 1.5
        inner = {key: changes.pop(key, {}) for key in ("ctx", "t", "clk")}
        boot, station = changes.get("boot", self.boot), changes.get("station", who.topics.station)
        reason = {"pass": [], "reject": ["structural"], "uncertain": ["near-limit"]}.get(name, ["lost"])
        verdict = Verdict(
            sch=SCHEMA,
            id=verdict_id(station, boot, self._seq),
            station=station,
            boot=boot,
            seq=self._seq,
            part=Part(str(trig), "counter", "", 0, trig),
            gate=who.gate,
            verdict=name,  # type: ignore[arg-type]  # a probe may ask for what the type forbids
            reason=reason,
            score=None if name == "invalid" else Score(cal, cal, 0.5, cal, 0.1, 0.1),
            roi=[],
            t=msgspec.structs.replace(Times(now_us, now_us, now_us, now_us, who.valid_ms, 5.0, who.valid_ms / 2), **inner["t"]),
            clk=msgspec.structs.replace(Clk("free", None, None, self.part_ns // 1000), **inner["clk"]),
            ctx=msgspec.structs.replace(Context(who.recipe, who.model, who.limit, self.token), **inner["ctx"]),
            cam=Cam(["c1"], ["c1"], 1.0),
            ev=None,
            prev=GENESIS,
        )
        return msgspec.structs.replace(verdict, **changes)

    def encode(self, verdict: Verdict, key: bytes | None = None) -> bytes:
        """The payload, sealed with the station's key or another one; b"" seals with none."""
        return encode_verdict(verdict, (self.who.key if key is None else key) or None)

    def publish(self, channel: Channel, payload: bytes) -> None:
        """Send one message for the gate, whatever it says."""
        name = self.who.gate if "{name}" in channel.suffix else ""
        self._connection.publish(self.who.topics.topic(channel, name), payload, qos=1)

    def clear_alarm(self, code: str) -> None:
        """Forget a retained alarm the check has provoked."""
        self._connection.keep(self.who.topics.topic(channels.ALARM, code), b"")

    def _beat(self) -> None:
        while not self._ended.wait(1.0 / BEAT_HZ):
            if self.beating:
                self.beat()

    def beat(self) -> None:
        """One beat now."""
        with self._beating:
            self._beats += 1
            beat = Beat(
                BEAT_SCHEMA,
                self.who.topics.station,
                self.boot,
                self._beats,
                self._seq,
                self.armed,
                self.check_left_s * 1000.0,
                None,
                self._clock.monotonic_ns() // 1000 if self._stamped else 0,
            )
            self._connection.publish(self.who.topics.topic(channels.BEAT), BEAT.encode(beat), qos=0)
