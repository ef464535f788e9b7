"""The daemon: makes the parts, starts one thread per stage, ends them in the right order.

    trigger ──> intake ──> [2] ──> capture ──> [1] ──> inference ──> [32] ──> publisher ──> journal, broker, page
                                                                       ^           ├──> [4] ──> recorder ──> evidence
                                                                       │           └──> [2] ──> tap ──> a model in the shadow
    pulse: beats, gives up overdue parts, feeds the watchdog ──────────┘       backfill: journal ──> verdict-late

A thread that ends with an error nobody expected ends the daemon: the supervisor starts it anew, and until then the gate hears
no beat and stays shut.
"""

import logging
import threading
from pathlib import Path

from edge.bundle.reader import Bundle
from edge.camera.base import Camera
from edge.clock import Clock, SystemClock
from edge.config.station import StationConfig
from edge.daemon import build
from edge.daemon.build_camera import is_simulated
from edge.daemon.extras import extra_stages
from edge.daemon.modelwatch import ModelWatch
from edge.daemon.pulse import Pulse
from edge.daemon.stages.backfill import Backfill
from edge.daemon.stages.capture import Capture
from edge.daemon.stages.figures import Facts, Figures
from edge.daemon.stages.inference import Inference
from edge.daemon.stages.intake import Intake
from edge.daemon.stages.ledger import Answers, Ledger
from edge.daemon.stages.parts import Outcome, Shot, Ticket
from edge.daemon.stages.prepared import Prepared
from edge.daemon.stages.publish import Publisher
from edge.daemon.stages.tap import Tap
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.masters import ShiftWatch
from edge.daemon.state.phase import Phase, Snapshot, Station
from edge.daemon.state.slack import SlackWatch
from edge.daemon.talk.announce import Announcer
from edge.daemon.talk.evidence import evidence_teller
from edge.daemon.talk.health import HealthReport
from edge.daemon.talk.inbox import Inbox
from edge.daemon.talk.links import Links
from edge.daemon.threads import Threads
from edge.daemon.watch import Watch
from edge.errors import JournalError
from edge.journal.store import Journal
from edge.limits.audit import record_in_force
from edge.page.live import LiveView
from edge.queues import Backlog, Newest
from edge.system.boot import new_boot
from edge.system.notify import Notifier
from edge.system.realtime import prepare_cpus, prepare_memory, prepare_thread
from edge.trigger.base import TriggerSource
from edge.trigger.command import CommandTrigger
from edge.trigger.pitch import PitchTrigger
from edge.wire import topics

logger = logging.getLogger(__name__)

TICKETS, SHOTS, OUTBOX = 2, 1, 32  # depths; what gives way is in the queue's type
ENGINE_STUCK_MS = 5000.0
_JOIN_S = 0.5


class Daemon:
    """One station, from trigger to verdict.

    Args:
        config: checked configuration. bundle: the verified model.
        camera, trigger: None makes what the configuration says; tests and the demo bring their own.
        clock: this machine's. notifier: the supervisor, None for nobody.

    Raises:
        ConfigError: a secret is missing, or names are too long together.
    """

    def __init__(
        self,
        config: StationConfig,
        bundle: Bundle,
        *,
        camera: Camera | None = None,
        trigger: TriggerSource | None = None,
        clock: Clock | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.config = config
        self.boot = new_boot(clock.utc_us())
        self.station = Station(clock)
        self.figures = Figures()
        # Only where an updater moves the link is there anybody to hand parts to.
        link = Path(config.model.bundle)
        self.tap = Tap(link.parent) if link.is_symlink() else None
        self.ledger = Ledger()
        self.slack = SlackWatch(self.station, clock)
        self.done = threading.Event()
        self.crashed = ""
        self.view = LiveView() if config.page.enabled else None
        self.facts = Facts()
        made, self.camera = build.make_trigger(config, clock, camera or build.make_camera(config))
        self.trigger = trigger or made
        self._clock = clock
        self._bundle = bundle
        self._notifier = notifier or Notifier("", 0)
        self.budget_ms = config.model.budget_ms or bundle.manifest.budget_ms
        self._names = config.topics()
        self._who = build.make_identity(config, bundle, self.boot, config.mac_key())
        self._stop = threading.Event()  # trigger, capture, inference
        self._finish = threading.Event()  # publisher, back-fill, pulse
        self._threads = Threads(self._stop, self._on_crash, clock)
        self._ending = Threads(self._finish, self._on_crash, clock)
        self._page = None if self.view is None else build.make_page(config, self.view)
        self._journal: Journal | None = None
        self._stopping = threading.Lock()
        self._stopped = False
        self._make_stages()

    @property
    def left_behind(self) -> list[str]:
        """Stages that did not end in time."""
        return [*self._threads.left_behind, *self._ending.left_behind]

    def _make_stages(self) -> None:
        config, clock, who, names = self.config, self._clock, self._who, self._names
        tickets, shots = Newest[Ticket](TICKETS), Newest[Shot](SHOTS)
        self._wake = (tickets.close, shots.close)
        self._outbox = Backlog[Outcome](OUTBOX)
        self._answers = Answers(self.ledger, self._outbox, clock)
        self.intake = Intake(
            self.ledger,
            self._answers,
            tickets,
            clock,
            valid_ms=config.deadline.valid_ms,
            give_up_ms=config.give_up_ms,
            shared_clock=config.trigger.kind not in {"udp", "mqtt"} or config.trigger.clock == "shared",
        )
        check = build.make_check(config)
        self.capture = Capture(self.camera, tickets, shots, self._answers, check, self.station, clock, config.deadline.valid_ms)
        self.inference = Inference(
            self._bundle,
            lambda: build.make_engine(config, self._bundle),
            build.make_judge(config, self._bundle),
            shots,
            self._answers,
            self.ledger,
            self.station,
            clock,
            self.facts,
            budget_ms=self.budget_ms,
            check_valid_ms=config.model.check_valid_h * 3_600_000,
            keep_warm_s=config.model.keep_warm_s,
            stuck_ms=ENGINE_STUCK_MS,
        )
        self.inference.on_swap = self._on_swap
        self.models = ModelWatch(config, self._bundle, who, self.station, clock, self.inference.offer)
        self._links = Links(
            config,
            self.boot,
            self.station,
            lambda message: self.inbox.take(message),
            lambda connected, why: self.announcer.on_broker(connected, why),
        )
        self.line, self.rest = self._links.line, self._links.rest
        self.announcer = Announcer(
            self.rest, names, who, self._bundle, config, self.facts, self.station, self.ledger, clock, self.view
        )
        quarantine = names.topic(topics.QUARANTINE)
        self.escape = EscapeWatch(
            self.station, who.station, self.boot, clock, lambda payload: self.rest.keep(quarantine, payload)
        )
        self.masters = build.make_masters(config, self.station, self.escape, clock)
        self.shifts = ShiftWatch(config.shifts(), clock)
        source = self.trigger.source if isinstance(self.trigger, PitchTrigger) else self.trigger
        by_command = source if isinstance(source, CommandTrigger) else None
        self.inbox = Inbox(
            names,
            who.station,
            self.boot,
            self.announcer,
            by_command,
            clock,
            self.view,
            self.rest,
            self.escape,
            self.inference.recheck.set,
            self.slack,
        )

    # --- start ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open everything that can be missing, then start the stages.

        Raises:
            ConfigError: a port is taken. CameraError: no camera. JournalError: the journal cannot be opened.
            EvidenceError: the folder for evidence cannot be made.
        """
        config, clock = self.config, self._clock
        prepare_memory(lock=config.process.lock_memory)
        try:
            self._journal = journal = Journal(
                Path(config.journal.path), config.station.station, round(config.journal.max_mb * 2**20)
            )
            if self._page is not None:
                self._page.start()
                self.facts.page_url = self._page.url
            self.recorder = build.make_recorder(config, self.station)
            if self.recorder is not None:
                self.recorder.on_kept = evidence_teller(self._names, self.rest, config.evidence_folder)
            self.trigger.open()
            self.capture.open()
        except BaseException:
            self._release()
            raise
        self.publisher = Publisher(
            self._outbox,
            journal,
            self.line,
            self._names.topic(topics.VERDICT, self._who.gate),
            self._who,
            self.station,
            clock,
            self.figures,
            self.view,
            build.make_drift(config, self._bundle, self.station, self.escape.drifted),
            self.escape,
            self.recorder,
            self.tap,
            self.masters,
            self._links.local,
        )
        self.station.listen(self.escape.on_change)
        self.backfill = Backfill(
            journal.path,
            self.rest,
            self._names.topic(topics.VERDICT_LATE, self._who.gate),
            self._who.key,
            self.publisher.acked,
            lambda: self.publisher.settled_n,
        )
        self._watch = Watch(self.station, self.intake, self.trigger, self.capture, self.figures, clock, self.budget_ms)
        health = HealthReport(
            self._who,
            self._names,
            self.line,
            self.rest,
            self.ledger,
            self.figures,
            self.capture,
            self.publisher,
            self.backfill,
            self.slack,
            lambda: self.inbox.refused,
            journal.path,
            clock,
            self.view,
        )
        self.pulse = Pulse(
            self._who,
            self._names,
            self.line,
            self.rest,
            self.ledger,
            self._answers,
            self.station,
            self.figures,
            self.facts,
            self.capture,
            self.inference,
            self.publisher,
            self._watch,
            health,
            self.announcer,
            self._notifier,
            clock,
            clock_source=config.clock.source,
            escape=self.escape,
            shifts=self.shifts,
            masters=self.masters,
            view=self.view,
            local=self._links.local,
        )
        extra = extra_stages(config, self.publisher, self.rest, self.station, self.figures, self.pulse, clock)
        self.station.listen(self.announcer.on_change)
        self.station.listen(self._on_station)
        self._record_limit(self._bundle)
        self.announcer.online()
        self.announcer.on_change()
        self._links.start()
        self._ending.run("publisher", self.publisher.run)
        if self.recorder is not None:
            self._ending.run("evidence", self.recorder.run)
        self._ending.run("backfill", self.backfill.run)
        self._ending.run("pulse", self.pulse.run)
        for name, run in extra:
            self._ending.run(name, run)
        self._threads.run("engine", self._run_engine)
        self._threads.run("camera", self.capture.run)
        self._threads.run("models", self.models.run)
        if self.tap is not None:
            self._threads.run("tap", self.tap.run)
        self._threads.run("trigger", lambda stop: self.trigger.run(stop, self.intake.step))
        logger.info(
            "station %s, boot %s, model %s, recipe %s, trigger %s, camera %s, broker %s",
            self._who.station,
            self.boot,
            self._who.model[:48],
            self._who.recipe,
            self.trigger.name,
            self.camera.name,
            self._links.broker,
        )
        if is_simulated(self.config.camera):
            logger.warning("the camera is simulated (camera.kind = %s): no real part is seen", self.config.camera.kind)

    def _record_limit(self, bundle: Bundle) -> None:
        """Whoever asks later which limit judged, and who approved it, finds it written; without that the station does not arm."""
        path = Path(self.config.journal.path).with_suffix(".limits")
        try:
            change = record_in_force(path, bundle, self._who.station, self.boot, self._clock.utc_us())
        except JournalError as exc:
            self.station.raise_(
                "limit-record", "fault", f"{exc}"[:240], "a limit may judge only where that is written down; restart"
            )
            return
        if change is not None:
            logger.info("limit %s, version %d, in force; approved by %s", change.limit, change.version, change.approved_by or "-")

    def _run_engine(self, stop: threading.Event) -> None:
        prepare_cpus(self.config.process.cpus)
        prepare_thread(self.config.process.priority)
        self.inference.run(stop)

    # --- end --------------------------------------------------------------------------------------------------------------

    def stop(self, why: str = "stopped") -> None:
        """End in order: no new parts, answers for those under way, everything written and published, then goodbye.

        May be called twice. Takes less than two seconds also when a stage hangs: what hangs is left behind.
        """
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
        logger.info("stopping: %s", why)
        self._notifier.stopping()
        self.station.stop()
        self._stop.set()
        self.trigger.close()
        self.camera.interrupt()
        if self.tap is not None:
            self.tap.interrupt()
        for wake in self._wake:
            wake()
        self._threads.join(_JOIN_S)
        for ticket in self.ledger.all_open():
            self._answers.give_up(ticket, "stopping")
        self._finish.set()
        self._ending.join(_JOIN_S)
        self._answers.close()
        self.announcer.offline(why)
        self._links.close()
        self._release()
        self.done.set()

    def _release(self) -> None:
        self.trigger.close()
        self.camera.close()
        if self._page is not None:
            self._page.close()
        if self._journal is not None and not self._ending.alive("publisher"):
            self._journal.close()
        self._notifier.close()
        if self._links.local is not None:
            self._links.local.close()

    # --- events -----------------------------------------------------------------------------------------------------------

    def _on_crash(self, name: str) -> None:
        self.crashed = name
        self.station.raise_("crash", "fault", f"{name} has crashed", "see the log; the supervisor restarts the daemon")
        self.done.set()

    def _on_swap(self, new: Prepared) -> None:
        """Another model judges: what is said about parts from here on is said in its name."""
        self.budget_ms = self._watch.budget_ms = new.budget_ms
        self.publisher.who = new.who
        self.publisher.drift = build.make_drift(self.config, new.bundle, self.station, self.escape.drifted)
        self.announcer.judge_with(new.who, new.bundle)
        self._record_limit(new.bundle)
        if self.masters is not None:
            self.masters.again(at_once=False)

    def _on_station(self, snapshot: Snapshot) -> None:
        if snapshot.phase is not Phase.STOPPING:
            self._notifier.status(snapshot.status)
