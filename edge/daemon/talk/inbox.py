"""What others say to the station over MQTT: acks of gates, commands, and alarms the broker still holds from an earlier start.

Commands change no judgement here: `rebirth` says everything again, `selfcheck` judges the golden frames again, `trigger` (where
so configured) triggers. A retained command is refused: it would be carried out again at every connect. Any other is carried out
once: its nonce is remembered for as long as it may be obeyed, which is bounded, since a command without an end could be sent
again by whoever has heard it. What is refused is counted, and said now and then: nobody fills the log from outside.
"""

import logging
from collections.abc import Callable

from edge.clock import Clock
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.slack import SlackWatch
from edge.daemon.talk.announce import Announcer
from edge.errors import ContractError
from edge.mqtt.link import Link
from edge.mqtt.message import Incoming
from edge.page.live import GateAckView, LiveView
from edge.trigger.command import CommandTrigger
from edge.wire import station as wire
from edge.wire import topics
from edge.wire.topics import Topics

logger = logging.getLogger(__name__)

LONGEST_US = 300_000_000  # a person's clock may be a minute off; a command that waited longer is no longer what he wanted
NONCES = 1024  # three a second for as long as a command may count; a hundred bytes each
SAY_EVERY_NS = 10_000_000_000
_KNOWN = frozenset({"rebirth", "selfcheck"})


class _Seldom:
    """Says a kind of thing at most every ten seconds, and then how often it was not said."""

    def __init__(self, clock: Clock, level: int) -> None:
        self._clock = clock
        self._level = level
        self._next_ns = 0
        self._unsaid = 0

    def say(self, text: str, *values: object) -> None:
        """Say it, or count it."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._next_ns:
            self._unsaid += 1
            logger.debug(text, *values)
            return
        self._next_ns = now_ns + SAY_EVERY_NS
        logger.log(self._level, "%s%s", text % values, f" ({self._unsaid} more were not said)" if self._unsaid else "")
        self._unsaid = 0


class Inbox:
    """Handles received messages, in the connection's thread.

    Args:
        names: the station's topics. station, boot: ours.
        announcer: for rebirth and stale alarms. trigger: where triggers come by command, else None.
        clock: judges `not_after`. view: the page, or None. connection: for results.
        escape: told of notices of suspect parts. recheck: begins a self-check.
        slack: told how much time verdicts left the gates, or None.

    Attributes:
        refused: messages and commands that changed nothing. acks: of our gates.
    """

    def __init__(
        self,
        names: Topics,
        station: str,
        boot: str,
        announcer: Announcer,
        trigger: CommandTrigger | None,
        clock: Clock,
        view: LiveView | None,
        connection: Link,
        escape: EscapeWatch,
        recheck: Callable[[], None],
        slack: SlackWatch | None = None,
    ) -> None:
        self.refused = 0
        self.acks = 0
        self._names = names
        self._station = station
        self._boot = boot
        self._announcer = announcer
        self._trigger = trigger
        self._clock = clock
        self._view = view
        self._connection = connection
        self._escape = escape
        self._recheck = recheck
        self._slack = slack
        self._obeyed: dict[str, int] = {}  # nonce -> until when its command counts, microseconds UTC
        self._refusals = _Seldom(clock, logging.WARNING)
        self._commands = _Seldom(clock, logging.INFO)

    @staticmethod
    def subscriptions(names: Topics) -> list[tuple[str, int]]:
        """What to subscribe to: (filter, qos)."""
        return [(names.filter(channel), channel.qos) for channel in (topics.ACK, topics.COMMAND, topics.ALARM, topics.QUARANTINE)]

    def take(self, message: Incoming) -> None:
        """Handle one message; what is malformed is counted, and said now and then."""
        try:
            self._take(message)
        except ContractError as exc:
            self.refused += 1
            self._refusals.say("message on %s refused: %s", message.topic[:160], exc)

    def _take(self, message: Incoming) -> None:
        alarm = self._names.name_in(topics.ALARM, message.topic)
        if alarm:
            if message.retain and message.payload:
                self._announcer.stale_alarm(alarm)
            return
        if self._names.name_in(topics.QUARANTINE, message.topic) is not None:
            self._escape.heard(message.payload)
            return
        if self._names.name_in(topics.ACK, message.topic):
            self._ack(wire.ACK.decode(message.payload))
            return
        command = self._names.name_in(topics.COMMAND, message.topic)
        if not command:
            return
        if message.retain:
            raise ContractError(f"command {command}: expected a message that is not retained; publish it without the retain flag")
        if command == "trigger":
            if self._trigger is None:
                raise ContractError('command trigger: this station takes triggers elsewhere (trigger.kind is not "mqtt")')
            self._trigger.offer(message.payload)
            return
        self._command(command, message)

    def _ack(self, ack: wire.Ack) -> None:
        if ack.station != self._station:
            return
        self.acks += 1
        boot, _, number = ack.id.partition("/")[2].partition("/")
        seq = int(number) if boot == self._boot and number.isdigit() else None
        if self._slack is not None and seq is not None and ack.slack_ms is not None and ack.decision != "hold":
            self._slack.acked(ack.slack_ms)
        if self._view is None:
            return
        self._view.add_ack(GateAckView(seq, ack.decision, ack.why, ack.gate, ack.slack_ms, ack.fired, ack.confirmed))

    def _command(self, name: str, message: Incoming) -> None:
        command = wire.COMMAND.decode(message.payload)
        refusal = self._refusal(name, command)
        if refusal:
            self.refused += 1
            self._refusals.say("command %s from %s refused: %s", name, command.issuer, refusal)
        else:
            self._obeyed[command.nonce] = command.not_after_us
            self._commands.say("command %s from %s", name, command.issuer)
        detail = refusal or self._obey(name)
        result = wire.RESULT.encode(wire.Result(wire.RESULT_SCHEMA, self._station, name, command.nonce, not refusal, detail))
        topic = message.reply_to or self._names.topic(topics.RESULT, name)
        self._connection.publish(topic, result, qos=topics.RESULT.qos, correlation=message.correlation)

    def _refusal(self, name: str, command: wire.Command) -> str:
        """Why a command is not carried out, empty when it is."""
        now_us = self._clock.utc_us()
        if now_us > command.not_after_us:
            return "its not_after has passed; check the clocks of both sides, and send it again"
        if command.not_after_us - now_us > LONGEST_US:
            return (
                f"its not_after lies more than {LONGEST_US // 60_000_000} minutes ahead: who hears a command could repeat it for "
                "so long; name an earlier one, and check the clocks of both sides"
            )
        if name not in _KNOWN:
            return "expected rebirth or selfcheck; this station knows no other command"
        if command.nonce in self._obeyed:
            return "a command with this nonce was carried out before; a new one needs a nonce of its own"
        if len(self._obeyed) >= NONCES:
            # Only now: a clock that was set back must not make old commands good again while there is room to remember them.
            self._obeyed = {nonce: until_us for nonce, until_us in self._obeyed.items() if until_us >= now_us}
        if len(self._obeyed) >= NONCES:
            return f"{NONCES} commands came within {LONGEST_US // 60_000_000} minutes; wait, and look who sends them"
        return ""

    def _obey(self, name: str) -> str:
        if name == "rebirth":
            self._announcer.rebirth()
            return "birth and state published"
        self._recheck()
        return "the self-check begins between two parts; a new token in birth and state says that it passed"
