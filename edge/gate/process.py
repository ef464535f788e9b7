"""The gate as a process: a thin loop around the rules.

    wait for a trigger, a message or the next deadline; triggers first, then messages, then the time; carry out; kick the watchdog

Triggers go before messages because a verdict without a slot is worth nothing, whichever datagram or packet was read first.
"""

import json
import logging
import select
import socket
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.clock import Clock
from edge.errors import ContractError
from edge.gate.actions import (
    Action,
    Armed,
    ClearAlarm,
    Close,
    Disarmed,
    LineStop,
    Open,
    Quarantine,
    RaiseAlarm,
    Reinspect,
    SendAck,
)
from edge.gate.config import GateConfig, loopback_address
from edge.gate.link import Link, Received
from edge.gate.pins import Pins
from edge.gate.rules import Gate
from edge.gate.settings import NS_PER_MS, NS_PER_S
from edge.gate.standing import NOT_AT_START
from edge.gate.suspects import Heard, SuspectParts
from edge.gate.wiring import Wiring
from edge.mqtt.local import LocalEar
from edge.mqtt.settings import Broker
from edge.system.boot import new_boot
from edge.system.notify import Notifier
from edge.system.realtime import prepare_cpus, prepare_memory, prepare_process, prepare_thread
from edge.wire import topics as channels
from edge.wire.station import ACK, ALARM, ALARM_SCHEMA, BEAT, BIRTH, STATE, STATUS, Alarm
from edge.wire.topics import Channel
from edge.wire.trigger import LineTrigger
from edge.wire.verdict import decode_verdict, verify_mac

logger = logging.getLogger(__name__)

LINE_LENGTH = 240  # longest text in an alarm
WHY_LENGTH = 96
REFUSED = (
    "malformed", "not-for-us", "unknown-part", "other-part", "late", "stale-boot", "wrong-model", "no-token", "bad-mac",
    "trigger-refused", "encoder-refused",
)  # fmt: skip
REFUSED_NS = 60 * NS_PER_S  # between two warnings of what was refused
LISTEN_NS = 1 * NS_PER_S  # after a connect, for what the broker holds on `quarantine`
RENEW_NS = 6_000_000_000  # longer than a connection must last to count as a good one


def _wires(config: GateConfig, clock: Clock) -> Wiring | Pins:
    pins, line = config.pins(), config.line
    if pins is not None:
        return Pins(pins, clock)
    listen, output = loopback_address(line.listen, "line.listen"), loopback_address(line.output, "line.output")
    return Wiring(config.station.gate, listen, output, clock)


class GateProcess:
    """One gate with its wires and its connection.

    Args:
        config: gate.toml. broker: its address with the password in it. mac_key: for sealed verdicts, or empty.
        notifier: the supervisor, None for nobody.

    Raises:
        ConfigError: a port is taken.
    """

    def __init__(
        self, config: GateConfig, clock: Clock, broker: Broker, mac_key: bytes = b"", notifier: Notifier | None = None
    ) -> None:
        self._config = config
        self._clock = clock
        self._mac_key = mac_key
        self._notifier = notifier or Notifier("", 0)
        self._told_ns = 0
        self._renewed_ns = clock.monotonic_ns()
        self._topics = config.topics()
        self._gate = Gate(config.settings())
        self._boot = new_boot(clock.utc_us())
        self._suspects = SuspectParts(config.station.station, config.station.gate)
        self._connects = 0
        self._refused: Counter[str] = Counter()
        self._refused_ns = -REFUSED_NS
        self._say_suspects_ns: int | None = None
        self._max_turn_ms = 0.0
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._wiring = _wires(config, clock)
        self._link = Link(broker, self._topics, config.station.gate, clock, self._wake)
        self._ear = LocalEar(Path(config.line.socket), self._link.channels) if config.line.socket else None

    def run(self, stop: threading.Event) -> None:
        """Decide parts until told to stop; then the watchdog stands still and the line ejects everything."""
        settings = self._config.settings()
        logger.info(
            "gate %s of %s: decides %.0f ms after the trigger, %s without a verdict",
            settings.gate,
            self._topics.base,
            settings.deadline_ms,
            settings.on_missing,
        )
        for what in NOT_AT_START:
            self._carry_out(ClearAlarm(self._code(what)))
        self._link.start()
        # After the link's thread has begun, which is to leave its processor and its place in the queue to this loop.
        process = self._config.process
        prepare_memory(lock=process.lock_memory)
        prepare_cpus(process.cpus)
        prepare_thread(process.priority)
        prepare_process()
        self._notifier.ready("waiting for the station")
        poll = select.poll()
        poll.register(self._wiring.fileno(), select.POLLIN)
        poll.register(self._wake_out.fileno(), select.POLLIN)
        if self._ear is not None:
            poll.register(self._ear.fileno(), select.POLLIN)
        while not stop.is_set():
            poll.poll(self._patience_ms())
            begin_ns = self._clock.monotonic_ns()
            for action in self.step():
                self._carry_out(action)
            self._wiring.kick(stop=self._gate.stopping)
            self.warn_of_refused(begin_ns)
            self._tell_supervisor(begin_ns)
            self._max_turn_ms = max(self._max_turn_ms, (self._clock.monotonic_ns() - begin_ns) / NS_PER_MS)
        self._notifier.stopping()
        logger.info("gate stopped: %s", json.dumps(self.figures()))

    def _tell_supervisor(self, now_ns: int) -> None:
        """Feed its watchdog from a finished turn, four times per limit: each message is a system call."""
        if self._notifier.watchdog_s and now_ns - self._told_ns >= self._notifier.watchdog_s * 1e9 / 4:
            self._told_ns = now_ns
            self._notifier.alive()

    def warn_of_refused(self, now_ns: int) -> None:
        """Say what was refused since the last time, at most once a minute: whoever floods the gate must not fill its log."""
        if now_ns - self._refused_ns < REFUSED_NS:
            return
        known = {name: self._gate.counts[name] for name in REFUSED if self._gate.counts[name]}
        known |= {"malformed-trigger": self._wiring.refused} if self._wiring.refused else {}
        new = Counter(known) - self._refused
        if new:
            self._refused, self._refused_ns = Counter(known), now_ns
            told = ", ".join(f"{count} {name}" for name, count in sorted(new.items()))
            logger.warning("messages refused: %s (docs/gate.md says what each means; said at most once a minute)", told)

    def step(self) -> list[Action]:
        """One turn: everything that came, then the time."""
        actions: list[Action] = []
        while True:  # empty the wake pipe before the inbox, never after: a wake must not be lost
            try:
                if not self._wake_out.recv(4096):
                    break
            except BlockingIOError:
                break
        messages = self._link.messages()
        if self._ear is not None:
            now_ns = self._clock.monotonic_ns()
            messages += [Received(now_ns, self._link.channels[topic], payload) for topic, payload in self._ear.messages()]
        for told in self._wiring.triggers():
            now_ns = self._clock.monotonic_ns()
            actions += self._gate.trigger(told, now_ns) if isinstance(told, LineTrigger) else self._gate.count(told, now_ns)
        for message in messages:
            actions += self._hear(message)
        now_ns = self._clock.monotonic_ns()
        self._say_suspects(now_ns)
        return actions + self._gate.tick(now_ns, self._clock.utc_us())

    def figures(self) -> dict[str, Any]:
        """What happened so far, for the log and for `--json`."""
        return {
            "gate": self._config.station.gate,
            "counts": dict(sorted(self._gate.counts.items())),
            "shares_clock": self._gate.shares_clock,
            "reconnects": self._link.reconnects,
            "dropped": self._link.dropped,
            "triggers_refused": self._wiring.refused,
            "max_turn_ms": round(self._max_turn_ms, 2),
            "max_late_ms": round(self._gate.max_late_ns / NS_PER_MS, 2),
        }

    def close(self) -> None:
        """Disconnect and give the ports back."""
        self._link.close()
        self._wiring.close()
        self._notifier.close()
        if self._ear is not None:
            self._ear.close()
        self._wake_in.close()
        self._wake_out.close()

    def _wake(self) -> None:
        try:
            self._wake_in.send(b"x")
        except (BlockingIOError, OSError):
            return  # full: the loop is about to wake anyway; closed: it has ended

    def _patience_ms(self) -> float:
        """How long to wait: to the next deadline, and never longer than a watchdog period."""
        patience = self._config.line.toggle_ms
        moment = self._gate.next_wake_ns()
        if moment is not None:
            patience = min(patience, (moment - self._clock.monotonic_ns()) / NS_PER_MS)
        return max(0.0, patience)

    def _hear(self, got: Received) -> list[Action]:
        """Give one message to the rules; what is no message of ours is counted and changes nothing."""
        payload, at_ns = got.payload, got.at_ns
        try:
            if got.channel is channels.VERDICT:
                mac_ok = bool(self._mac_key) and verify_mac(payload, self._mac_key)
                return self._gate.verdict(decode_verdict(payload), at_ns, mac_ok=mac_ok)
            if got.channel is channels.QUARANTINE:
                return self._hear_of_suspects(payload, at_ns)
            return self._hear_station(got.channel, payload, at_ns)
        except ContractError as error:
            self._gate.malformed()
            logger.debug("message refused: %s", error)
            return []

    def _hear_station(self, channel: Channel, payload: bytes, at_ns: int) -> list[Action]:
        """What the station says of itself."""
        if channel is channels.BEAT:
            return self._gate.beat(BEAT.decode(payload), at_ns)
        if channel is channels.BIRTH:
            return self._gate.birth(BIRTH.decode(payload), at_ns)
        if channel is channels.STATE:
            return self._gate.state(STATE.decode(payload), at_ns)
        return self._gate.status(STATUS.decode(payload), at_ns)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Open | Close | Reinspect):
            opened, doubted = isinstance(action, Open), isinstance(action, Reinspect)
            self._wiring.drive(action.count, opened=opened, stop=self._gate.stopping, reinspect=doubted)
        elif isinstance(action, SendAck):
            self._link.send(self._topics.topic(channels.ACK, action.ack.gate), ACK.encode(action.ack))
        elif isinstance(action, RaiseAlarm):
            self._alarm(action)
        elif isinstance(action, ClearAlarm):
            self._link.keep(self._topics.topic(channels.ALARM, action.code), b"")
        elif isinstance(action, Quarantine):
            self._quarantine(action)
        elif isinstance(action, Armed):
            compared = "" if self._gate.shares_clock else "; triggers are not compared: the station reads another clock"
            logger.info("armed for %s, p99.9 trigger to gate %.1f ms%s", action.model, action.p999_ms, compared)
            self._notifier.status(f"armed for {action.model}"[:WHY_LENGTH])
        elif isinstance(action, Disarmed):
            logger.warning("disarmed, every part is rejected: %s", "; ".join(action.reasons))
            self._notifier.status(f"disarmed: {'; '.join(action.reasons)}"[:LINE_LENGTH])
        elif isinstance(action, LineStop):
            if action.on:
                self._hear_anew()
            logger.warning("line stop %s: %s", "requested" if action.on else "taken back", action.why)

    def _hear_anew(self) -> None:
        """No verdicts may mean a connection on which confirmations were lost.

        The broker then holds back everything of QoS 1 until it ends (mosquitto after 20 messages), while beats still come. Where
        none come it is the station that is silent: a new connection would only keep the alarm back that is about to say so.
        """
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._renewed_ns >= RENEW_NS and self._gate.hears_beats(now_ns):
            self._renewed_ns = now_ns
            self._link.renew("no verdicts come on it")

    def _alarm(self, action: RaiseAlarm) -> None:
        alarm = Alarm(
            sch=ALARM_SCHEMA,
            station=self._config.station.station,
            boot=self._boot,
            code=action.code,
            severity=action.severity,
            text=action.text[:LINE_LENGTH],
            remedy=action.remedy[:LINE_LENGTH],
            since_us=self._clock.utc_us(),
        )
        self._link.keep(self._topics.topic(channels.ALARM, action.code), ALARM.encode(alarm))

    def _code(self, what: str) -> str:
        return f"gate-{self._config.station.gate}-{what}"

    # --- parts that went through and are suspect --------------------------------------------------------------------------

    def _quarantine(self, action: Quarantine) -> None:
        logger.error("quarantine: parts %d to %d: %s", action.first, action.last, action.why)
        self._suspects.add(action.first, action.last, action.why)
        self._say_suspects_ns = 0
        self._say_suspects(self._clock.monotonic_ns())

    def _hear_of_suspects(self, payload: bytes, at_ns: int) -> list[Action]:
        """Take over what an earlier start has said; and the end, which may be ours to tell once more on the alarm's topic."""
        before = list(self._suspects.ranges)
        heard = self._suspects.hear(payload)
        if heard is Heard.ENDED:
            self._say_suspects_ns = None
            return [ClearAlarm(self._code("quarantine"))]
        if heard is not Heard.NOTHING:
            self._say_suspects_ns = at_ns if heard is Heard.LACKING else None
        newest = self._suspects.ranges[-1:]
        if before or not newest:
            return []
        parts = f"{newest[0].first} to {newest[0].last}"
        return [RaiseAlarm(self._code("quarantine"), "fault", newest[0].why, f"take parts {parts} out by hand")]

    def _say_suspects(self, now_ns: int) -> None:
        """When it is due and there is a connection; after a new one, when the broker has had time to say what it holds."""
        if self._link.reconnects != self._connects:
            self._connects = self._link.reconnects
            self._say_suspects_ns = now_ns + LISTEN_NS
        if self._say_suspects_ns is None or now_ns < self._say_suspects_ns or not self._suspects.ranges:
            return
        if self._link.leave(self._topics.topic(channels.QUARANTINE), self._suspects.notice(self._clock.utc_us())):
            self._say_suspects_ns = None

    def __enter__(self) -> "GateProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
