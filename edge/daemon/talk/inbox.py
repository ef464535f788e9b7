"""What others say to the station over MQTT: acks of gates, commands, and alarms the broker still holds from an earlier start.

Commands change no judgement here: `rebirth` says everything again, `selfcheck` judges the golden frames again, `trigger` (where
so configured) triggers. A retained command is refused: it would be carried out again at every connect.
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


class Inbox:
    """Handles received messages, in the connection's thread.

    Args:
        names: the station's topics. station, boot: ours.
        announcer: for rebirth and stale alarms. trigger: where triggers come by command, else None.
        clock: judges `not_after`. view: the page, or None. connection: for results.
        escape: told of notices of suspect parts. recheck: begins a self-check.
        slack: told how much time verdicts left the gates, or None.
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

    @staticmethod
    def subscriptions(names: Topics) -> list[tuple[str, int]]:
        """What to subscribe to: (filter, qos)."""
        return [(names.filter(channel), channel.qos) for channel in (topics.ACK, topics.COMMAND, topics.ALARM, topics.QUARANTINE)]

    def take(self, message: Incoming) -> None:
        """Handle one message; what is malformed is counted, and said once."""
        try:
            self._take(message)
        except ContractError as exc:
            self.refused += 1
            level = logging.WARNING if self.refused == 1 else logging.DEBUG
            logger.log(level, "message on %s refused: %s", message.topic[:160], exc)

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
        if self._clock.utc_us() > command.not_after_us:
            ok, detail = False, "its not_after has passed; check the clocks of both sides, and send it again"
        elif name == "rebirth":
            self._announcer.rebirth()
            ok, detail = True, "birth and state published"
        elif name == "selfcheck":
            self._recheck()
            ok, detail = True, "the self-check begins between two parts; a new token in birth and state says that it passed"
        else:
            ok, detail = False, "expected rebirth or selfcheck; this station knows no other command"
        logger.info("command %s from %s: %s", name, command.issuer, detail)
        result = wire.RESULT.encode(wire.Result(wire.RESULT_SCHEMA, self._station, name, command.nonce, ok, detail))
        topic = message.reply_to or self._names.topic(topics.RESULT, name)
        self._connection.publish(topic, result, qos=topics.RESULT.qos, correlation=message.correlation)
