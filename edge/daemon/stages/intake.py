"""Triggers become tickets: number, deadline, and a place in the queue for the camera.

A trigger is never refused. Whatever is odd about it, it gets a number and a verdict, because the part is on the belt. The one
exception is the same trigger twice (same count, same stamp): a datagram repeated on its way is not a second part. While the
journal is so slow that no answer finds room, the source is held up.
"""

import logging
from dataclasses import dataclass

from edge.camera.base import Trigger
from edge.clock import Clock
from edge.daemon.stages.ledger import Answers, Ledger
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Ticket
from edge.queues import Newest
from edge.wire.trigger import LineTrigger

logger = logging.getLogger(__name__)

FUTURE_NS = 1 * NS_PER_MS  # a stamp further ahead than this is of another machine's clock


@dataclass(slots=True)
class IntakeCounts:
    """What came in since the start.

    Attributes:
        triggers: taken. repeated: same count and stamp again, ignored. missed: numbers the line skipped.
        restarts: the line began to count anew. foreign: stamps ahead of our clock, replaced by the time of arrival.
        outdated: stamps so old that the part's time was up on arrival.
        displaced: parts that gave way to newer ones before the camera.
    """

    triggers: int = 0
    repeated: int = 0
    missed: int = 0
    restarts: int = 0
    foreign: int = 0
    outdated: int = 0
    displaced: int = 0


class Intake:
    """Takes triggers from one source, in the thread of that source.

    Args:
        ledger, answers: where tickets are opened and answered.
        captures: towards the camera.
        clock: this machine's clocks.
        valid_ms: the verdict is void so long after the trigger. give_up_ms: answered `invalid` so long after it.
        shared_clock: the stamps are of this machine's CLOCK_MONOTONIC; False takes the time of arrival.
    """

    def __init__(
        self,
        ledger: Ledger,
        answers: Answers,
        captures: Newest[Ticket],
        clock: Clock,
        *,
        valid_ms: float,
        give_up_ms: float,
        shared_clock: bool,
    ) -> None:
        self.counts = IntakeCounts()
        self._ledger = ledger
        self._answers = answers
        self._captures = captures
        self._clock = clock
        self._valid_ns = round(valid_ms * NS_PER_MS)
        self._give_up_ns = round(give_up_ms * NS_PER_MS)
        self._shared_clock = shared_clock
        self._last: LineTrigger | None = None

    def step(self, trigger: LineTrigger) -> Ticket | None:
        """Take one trigger; None when it is the last one over again."""
        now_ns = self._clock.monotonic_ns()
        if not self._is_new(trigger):
            self.counts.repeated += 1
            return None
        trigger_ns = self._stamp(trigger, now_ns)
        trig_us = self._clock.utc_us() - (now_ns - trigger_ns) // 1000
        part = Trigger(trigger.count, trigger_ns, trigger.enc, trigger.part)
        ticket = self._ledger.open(
            lambda seq: Ticket(seq, part, trig_us, trigger_ns + self._valid_ns, trigger_ns + self._give_up_ns)
        )
        self.counts.triggers += 1
        if now_ns >= ticket.give_up_ns:
            self._note_outdated((now_ns - trigger_ns) / NS_PER_MS)
            self._answers.give(Outcome(ticket, "late", done_ns=now_ns))
            return ticket
        displaced = self._captures.put(ticket)
        if displaced is not None:
            self.counts.displaced += 1
            self._answers.give(Outcome(displaced, "lost", done_ns=now_ns))
        return ticket

    def _is_new(self, trigger: LineTrigger) -> bool:
        last, self._last = self._last, trigger
        if last is None or trigger.count == last.count + 1:
            return True
        if (trigger.count, trigger.mono_us) == (last.count, last.mono_us):
            return False
        if trigger.count > last.count:
            self.counts.missed += trigger.count - last.count - 1
        else:
            self.counts.restarts += 1
            logger.info("line counts anew: part %d after %d", trigger.count, last.count)
        return True

    def _stamp(self, trigger: LineTrigger, now_ns: int) -> int:
        if not self._shared_clock:
            return now_ns
        stamp_ns = trigger.mono_us * 1000
        if stamp_ns <= now_ns + FUTURE_NS:
            return min(stamp_ns, now_ns)
        self.counts.foreign += 1
        if self.counts.foreign == 1:
            logger.warning(
                "trigger stamped %.1f ms in the future: the sender's clock is not this machine's; set trigger.clock = "
                '"arrival" in the configuration (said once; the time of arrival is used)',
                (stamp_ns - now_ns) / NS_PER_MS,
            )
        return now_ns

    def _note_outdated(self, age_ms: float) -> None:
        self.counts.outdated += 1
        if self.counts.outdated == 1:
            logger.warning(
                "trigger stamped %.0f ms ago, its part's time is up: the way here is slow, or the sender's clock is not this "
                'machine\'s: set trigger.clock = "arrival" then (said once, counted from now on)',
                age_ms,
            )
