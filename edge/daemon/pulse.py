"""The pulse: ten beats a second, parts given up in time, and a watchdog that is fed by work, not by this timer.

It is the one thread that never waits for camera, engine, disk or broker, so that it can speak for the others when they hang.
"""

import logging
import threading

from edge.clock import Clock
from edge.daemon.stages.capture import Capture
from edge.daemon.stages.figures import Facts, Figures
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.inference import Inference
from edge.daemon.stages.ledger import Answers, Ledger
from edge.daemon.stages.parts import NS_PER_MS
from edge.daemon.stages.publish import Publisher
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.masters import MasterWatch, ShiftWatch
from edge.daemon.state.oee import Oee, Tally
from edge.daemon.state.phase import Phase, Station
from edge.daemon.talk.announce import BEAT_HZ, Announcer
from edge.daemon.talk.health import HealthReport
from edge.daemon.watch import Watch
from edge.mqtt.link import Link
from edge.mqtt.local import LocalGate
from edge.page.live import LiveView
from edge.system.clocksync import StepWatch, read_clock
from edge.system.notify import Notifier
from edge.wire import station as wire
from edge.wire import topics
from edge.wire.topics import Topics

logger = logging.getLogger(__name__)

_BEAT_NS = round(1e9 / BEAT_HZ)
_HEALTH_NS = 10_000_000_000
_STATS_NS = 60_000_000_000
_SLOW_NS = 1_000_000_000  # once a second: percentiles, clock, camera state


class Pulse:
    """Beats, gives up overdue parts, watches the stages, has health reported.

    Args:
        who, names: identity and topics. line: the connection for beats. rest: for counters.
        ledger, answers: the open parts. station: armed or not. figures, facts: what is reported.
        capture, inference, publisher: the stages. watch: looks at their counters. health: says how the station is.
        announcer: told of the camera. notifier: the supervisor. clock: this machine's.
        clock_source: "auto" or "ptp". escape: told when the wall clock is set.
        shifts: when the self-check runs anew. masters: parts that must come by then, or None. view: the page, or None.
        local: the gate on this box, or None.
    """

    def __init__(
        self,
        who: Identity,
        names: Topics,
        line: Link,
        rest: Link,
        ledger: Ledger,
        answers: Answers,
        station: Station,
        figures: Figures,
        facts: Facts,
        capture: Capture,
        inference: Inference,
        publisher: Publisher,
        watch: Watch,
        health: HealthReport,
        announcer: Announcer,
        notifier: Notifier,
        clock: Clock,
        *,
        clock_source: str,
        escape: EscapeWatch,
        shifts: ShiftWatch,
        masters: MasterWatch | None,
        view: LiveView | None = None,
        local: LocalGate | None = None,
    ) -> None:
        self._who = who
        self._names = names
        self._view = view
        self._local = local
        self._oee = Oee(station)
        self._topic = names.topic(topics.BEAT)
        self._line = line
        self._rest = rest
        self._ledger = ledger
        self._answers = answers
        self._station = station
        self._figures = figures
        self._facts = facts
        self._capture = capture
        self._inference = inference
        self._publisher = publisher
        self._watch = watch
        self._health = health
        self._announcer = announcer
        self._notifier = notifier
        self._clock = clock
        self._clock_source = clock_source
        self._escape = escape
        self._shifts = shifts
        self._masters = masters
        self._openings = capture.openings
        self._steps = StepWatch(clock)
        self._start_ns = clock.monotonic_ns()
        self._beats = 0
        self._slack_p999_ms: float | None = None
        self._next_slow_ns = 0
        self._next_health_ns = self._start_ns + _HEALTH_NS
        self._next_stats_ns = self._start_ns + _STATS_NS
        self._ready = False
        self._reaped = 0

    def tally(self) -> Tally:
        """Parts and times since the start, for whoever tells them elsewhere."""
        return self._oee.total

    def run(self, stop: threading.Event) -> None:
        """Beat until told to stop."""
        next_beat_ns = self._clock.monotonic_ns()
        while not stop.is_set():
            now_ns = self._clock.monotonic_ns()
            self.reap(now_ns)
            if now_ns >= next_beat_ns:
                next_beat_ns = max(next_beat_ns + _BEAT_NS, now_ns)
                self.beat(now_ns)
                self._look_around(now_ns)
            give_up_ns = self._ledger.next_give_up_ns() or next_beat_ns
            # A part that comes while we sleep is not in `give_up_ns` yet: never sleep longer than half of what it has.
            half_ns = round(self._who.valid_ms * NS_PER_MS / 2)
            wake_ns = min(next_beat_ns, max(give_up_ns, now_ns + 5 * NS_PER_MS), now_ns + half_ns)
            stop.wait(max(0, wake_ns - self._clock.monotonic_ns()) / 1e9)

    def reap(self, now_ns: int) -> None:
        """Answer for whoever still holds a part when its time is up."""
        for ticket in self._ledger.overdue(now_ns):
            if self._answers.give_up(ticket, "late"):
                self._reaped += 1

    def beat(self, now_ns: int) -> None:
        """One sign of life."""
        self._beats += 1
        beat = wire.Beat(
            wire.BEAT_SCHEMA,
            self._who.station,
            self._who.boot,
            self._beats,
            self._ledger.last_seq,
            self._station.armed,
            round(self._station.check_left_ms(), 1),
            self._slack_p999_ms,
            now_ns // 1000,
        )
        self._line.publish(self._topic, wire.BEAT.encode(beat), qos=topics.BEAT.qos)

    # --- looking around ---------------------------------------------------------------------------------------------------

    def _look_around(self, now_ns: int) -> None:
        self._station.tick()
        self._feed_watchdog()
        if any(stage.stuck_ms() for stage in self._capture.watched):
            self._announcer.camera("offline", "the driver does not come back")
        else:
            self._announcer.camera(self._capture.state, self._capture.state_detail)
        if now_ns < self._next_slow_ns:
            return
        self._next_slow_ns = now_ns + _SLOW_NS
        slack = self._figures.slack_ms.percentiles(0.1)
        self._slack_p999_ms = slack[0] if slack else None
        self._watch_clock()
        self._prove_again()
        self._watch.look()
        if self._local is not None:
            self._local.refresh()
        self._oee.look(self._figures.verdicts(), now_ns)
        if self._view is not None:
            total = self._oee.total
            self._view.seconds = {"running": total.running_s, "idle": total.idle_s, "down": total.down_s}
        if now_ns >= self._next_stats_ns:
            self._next_stats_ns = now_ns + _STATS_NS
            self._report_stats()
        if now_ns >= self._next_health_ns:
            self._next_health_ns = now_ns + _HEALTH_NS
            self._health.report(now_ns)

    def _feed_watchdog(self) -> None:
        stages = (*self._capture.watched, self._inference.progress, self._publisher.progress)
        stuck = [(stage, busy_ms) for stage in stages if (busy_ms := stage.stuck_ms())]
        for stage, busy_ms in stuck:
            self._station.raise_(
                "stuck",
                "fault",
                f"{stage.name} has not come back for {busy_ms / 1000:.1f} s",
                "the supervisor restarts the daemon",
            )
        if stuck:
            return
        self._station.clear("stuck")
        if not self._ready and self._station.phase not in {Phase.STARTING, Phase.WARMING}:
            self._ready = True
            self._notifier.ready(self._station.snapshot().status)
        if self._ready:
            self._notifier.alive()

    def _prove_again(self) -> None:
        """Where a shift begins or the camera was opened again, the self-check starts over."""
        shift, openings = self._shifts.begun(), self._capture.openings
        camera, self._openings = openings != self._openings, openings
        if shift or camera:
            logger.info("the self-check is repeated: %s", "the camera was opened again" if camera else "a shift begins")
            self._inference.recheck.set()
        if self._masters is not None:
            if shift or camera:
                self._masters.again(at_once=camera)
            self._masters.tick()

    def _watch_clock(self) -> None:
        moved_us = self._steps.look()
        self._escape.clock_looked(moved_us)
        if moved_us:
            logger.warning("the wall clock was set by %+.3f s; the self-check is repeated, gates wait for it", moved_us / 1e6)
            self._inference.recheck.set()
        self._publisher.clock_state = read_clock(self._clock_source)
        self._facts.clock_src = self._publisher.clock_state.src

    def _report_stats(self) -> None:
        for window, tally in (("hour", self._oee.hour()), ("start", self._oee.total)):
            stats = wire.Stats(
                wire.STATS_SCHEMA,
                self._who.station,
                self._who.boot,
                "hour" if window == "hour" else "start",
                tally.good,
                tally.bad,
                tally.invalid,
                tally.uncertain,
                round(tally.running_s, 1),
                round(tally.idle_s, 1),
                round(tally.down_s, 1),
                self._clock.utc_us(),
            )
            self._rest.keep(self._names.topic(topics.STATS, window), wire.STATS.encode(stats))
