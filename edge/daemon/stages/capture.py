"""Trigger to frame: asks the camera for each part's frame, questions it, and hands it on; the newest frame wins.

A camera that is the trigger itself (`edge.trigger.frames`) is asked in the trigger's thread, and opened anew there: it tells this
stage how it fares, so that a dead one is an alarm though no part comes to show it.
"""

import logging
import threading
from dataclasses import replace

from edge.camera.base import Camera, MissedError
from edge.camera.counts import counts_of
from edge.clock import Clock
from edge.daemon.stages.framecheck import FrameCheck
from edge.daemon.stages.ledger import Answers
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Shot, Ticket
from edge.daemon.stages.progress import Progress
from edge.daemon.state.phase import Severity, Station
from edge.errors import CameraError
from edge.queues import Newest
from edge.trigger.frames import FrameTrigger
from edge.wire.station import CameraName

logger = logging.getLogger(__name__)

FAULT_AFTER = 3  # bad frames in a row: one or two happen to every camera
REOPEN_EVERY_S = 1.0
_STATES: dict[str, CameraName] = {"camera": "offline", "frozen": "frozen"}  # all else: degraded
_REMEDIES = {
    "camera": "check its cable, power and trigger input; it is opened again every second",
    "frozen": "restart the camera; check what feeds its buffer",
    "incomplete": "check cable and network; raise the socket buffer, use jumbo frames or a lower rate",
    "light": "look at the lamp and its strobe, and at what else shines there",
    "exposure": "set exposure and gain as they were when the sight was learned, or learn it anew: onbelt sight",
    "defocus": "clean and focus the lens; a window in front of it may be wet or dirty",
    "absent": "triggers come without a part: look at the light barrier and at trigger.min_pitch_ms",
    "shifted": "parts lie elsewhere than when the sight was learned: look at guides, trigger and belt speed",
    "stale": "camera and trigger have lost step: check that each trigger gives exactly one frame, camera.early_ms and late_ms",
    "lost": "the camera made no exposure for a trigger: look at its trigger wire, its longest rate, and camera.late_ms",
}


class Capture:
    """The stage between trigger and engine.

    Args:
        camera: opened by `open`.
        tickets: from the intake. shots: towards the engine. answers: for parts without a usable frame.
        check: questions each frame.
        station: told of a camera in trouble.
        clock: this machine's.
        valid_ms: a part's time; a camera silent for a second more than that is stuck.

    Attributes:
        watched: what the watchdog is fed by: this stage, and the driver where the trigger's thread asks it.
        openings: how often the camera was opened again: it may be another one, or stand elsewhere.
    """

    def __init__(
        self,
        camera: Camera,
        tickets: Newest[Ticket],
        shots: Newest[Shot],
        answers: Answers,
        check: FrameCheck,
        station: Station,
        clock: Clock,
        valid_ms: float,
    ) -> None:
        self.progress = Progress("camera", valid_ms + 1000.0, clock)
        self.displaced = 0
        self.openings = 0
        self.state: CameraName = "offline"
        self.state_detail = "not opened yet"
        self._camera = camera
        self._tickets = tickets
        self._shots = shots
        self._answers = answers
        self._check = check
        self._station = station
        self._clock = clock
        self._bad_in_row = 0
        self._reopen_at_ns = 0
        self._dead = False
        self._lock = threading.Lock()  # the camera's state, where two threads find out about it
        self._driver = Progress("camera driver", valid_ms + 1000.0, clock)
        self._is_trigger = isinstance(camera, FrameTrigger)
        self.watched: tuple[Progress, ...] = (self.progress,)
        if isinstance(camera, FrameTrigger):
            self.watched = (self.progress, self._driver)
            camera.watched_by(self)

    def open(self) -> None:
        """Open the camera. Raises CameraError."""
        self._camera.start()
        self.state, self.state_detail = "online", self._camera.name

    def counts(self) -> tuple[int, int, int]:
        """Frames skipped, incomplete, and dropped: numbers that never came and were not skipped either."""
        counted = counts_of(self._camera)
        skipped, incomplete = counted.skipped, max(counted.incomplete, self._check.incomplete)
        return skipped, incomplete, max(0, self._check.dropped - skipped)

    def run(self, stop: threading.Event) -> None:
        """Take tickets until told to stop."""
        while not stop.is_set():
            ticket = self._tickets.get(timeout_s=0.2)
            if ticket is None:
                continue
            self.progress.begin()
            result = self.step(ticket)
            self.progress.end()
            if isinstance(result, Outcome):
                self._answers.give(result)
                continue
            displaced = self._shots.put(result)
            if displaced is not None:
                self.displaced += 1
                self._answers.give(Outcome.of(displaced, "lost", self._clock.monotonic_ns()))

    def step(self, ticket: Ticket) -> Shot | Outcome:
        """One part: its shot, or the outcome when there is none to judge."""
        left_ns = ticket.give_up_ns - self._clock.monotonic_ns()
        if left_ns <= 0:
            return Outcome(ticket, "late", done_ns=self._clock.monotonic_ns())
        try:
            frame = self._camera.grab(ticket.trigger, left_ns / 1e9)
        except MissedError as exc:  # the camera lives, and what came is the next part's: opening it anew would lose that too
            self._bad("lost", str(exc))
            return Outcome(ticket, "lost", done_ns=self._clock.monotonic_ns(), have=exc.have)
        except CameraError as exc:
            self._bad("camera", str(exc))
            self._reopen()
            return Outcome(ticket, "camera", done_ns=self._clock.monotonic_ns(), have=exc.have)
        finding = self._check.look(frame, ticket)
        if finding is not None:
            self._bad(finding.reason, finding.text)
            outcome = Outcome.of(Shot(ticket, frame), finding.reason, self._clock.monotonic_ns())
            return replace(outcome, have=tuple(name for name, _ in frame.views if name != finding.view))
        if self._bad_in_row or self.state != "online":
            self._good()
        return Shot(ticket, frame)

    # --- a camera that is the trigger, in the trigger's thread --------------------------------------------------------------

    def begin(self, limit_ms: float = 0.0) -> None:
        """Its driver is asked for something."""
        self._driver.begin(limit_ms)

    def end(self) -> None:
        """The driver has come back."""
        self._driver.end()

    def failed(self, why: str) -> None:
        """It gives no frames: no part can be seen, so nothing may count until it is well again."""
        with self._lock:
            self._dead = True
            self.state, self.state_detail = "offline", why[:240]
            self._station.raise_("camera", "fault", f"camera: {why}", _REMEDIES["camera"])

    def reopened(self) -> None:
        """It was opened again."""
        self.openings += 1

    def recovered(self) -> None:
        """It is well again."""
        with self._lock:
            self._dead = False
            self._well()

    # --- what becomes of its state ------------------------------------------------------------------------------------------

    def _bad(self, reason: str, text: str) -> None:
        logger.debug("camera: %s", text)
        with self._lock:
            self._bad_in_row += 1
            if self._dead:
                return  # that is said already, and worse
            self.state, self.state_detail = _STATES.get(reason, "degraded"), text[:240]
            severity: Severity = "fault" if self._bad_in_row >= FAULT_AFTER else "warning"
            self._station.raise_("camera", severity, f"camera: {text}", _REMEDIES[reason])

    def _good(self) -> None:
        # As many good ones as bad ones, up to the number that makes a fault: a flickering camera does not re-arm by luck.
        with self._lock:
            self._bad_in_row = max(0, min(self._bad_in_row, FAULT_AFTER) - 1)
            if not self._bad_in_row and not self._dead:
                self._well()

    def _well(self) -> None:
        self._bad_in_row = 0
        self.state, self.state_detail = "online", self._camera.name
        self._station.clear("camera")

    def _reopen(self) -> None:
        if self._is_trigger:
            return  # the trigger's thread opens it, and may be asking it for a frame now
        now_ns = self._clock.monotonic_ns()
        if self._bad_in_row < FAULT_AFTER or now_ns < self._reopen_at_ns:
            return
        self._reopen_at_ns = now_ns + round(REOPEN_EVERY_S * 1000 * NS_PER_MS)
        try:
            self._camera.close()
            self._camera.start()
            self.openings += 1
        except CameraError as exc:
            logger.debug("camera: cannot be opened again: %s", exc)
