"""Frame to judgement: one thread owns the engine. In pauses it replays golden frames, which also keeps caches and clocks warm."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.bundle.reader import Bundle
from edge.clock import Clock
from edge.daemon.stages.figures import Facts
from edge.daemon.stages.ledger import Answers, Ledger
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Shot
from edge.daemon.stages.prepared import Prepared
from edge.daemon.stages.progress import Progress
from edge.daemon.stages.selfcheck import SelfCheck, describe
from edge.daemon.state.phase import Severity, Station
from edge.engine.base import Engine
from edge.errors import EngineError, OnbeltError, PictureError
from edge.judge import Judge
from edge.preprocess import fit
from edge.queues import Newest
from edge.system.realtime import prepare_process

if TYPE_CHECKING:
    from edge.daemon.stages.identity import Identity

logger = logging.getLogger(__name__)

FAULT_AFTER = 3  # failed inferences in a row
FIRST_RETRY_S, LAST_RETRY_S = 2.0, 60.0  # what does not go away is tried less and less often
REBUILD_LIMIT_MS = 120_000.0  # a large model on a slow box; longer is a hang
RENEW_BELOW = 0.5  # share of the token's life left: from here on pauses renew it
URGENT_BELOW = 0.1  # and from here on a golden frame goes between two parts
SWAP_PATIENCE_NS = 10_000_000_000  # another model waits so long for a pause: in one, no part is under way at the gate


class Inference:
    """The stage that owns the engine. Construct anywhere; everything else runs in the thread of `run`.

    Args:
        bundle: the model. open_engine: builds its engine. judge: reads its scores.
        shots: from the capture. answers, ledger: where outcomes go, and which parts are still waiting.
        station: told of self-checks and faults. clock: this machine's. facts: told of the engine and its speed.
        budget_ms: p99 above which the model is not armed.
        check_valid_ms: life of a self-check. keep_warm_s: pause after which a golden frame runs, 0 for never.
        stuck_ms: an inference that takes longer is stuck.
    """

    def __init__(
        self,
        bundle: Bundle,
        open_engine: Callable[[], Engine],
        judge: Judge,
        shots: Newest[Shot],
        answers: Answers,
        ledger: Ledger,
        station: Station,
        clock: Clock,
        facts: Facts,
        *,
        budget_ms: float,
        check_valid_ms: float,
        keep_warm_s: float,
        stuck_ms: float,
    ) -> None:
        self.progress = Progress("engine", stuck_ms, clock)
        self.recheck = threading.Event()
        self.skipped = 0
        self._bundle = bundle
        self._open_engine = open_engine
        self._judge = judge
        self._shots = shots
        self._answers = answers
        self._ledger = ledger
        self._station = station
        self._clock = clock
        self._facts = facts
        self._budget_ms = budget_ms
        self._check_valid_ms = check_valid_ms
        self._keep_warm_s = keep_warm_s
        self._engine: Engine | None = None
        self._selfcheck: SelfCheck | None = None
        self._failures = 0
        self._retry_at_ns = 0
        self._retry_s = FIRST_RETRY_S
        self._renewing = False
        self._forced = False
        self._offered: tuple[Prepared, int] | None = None
        self._who: Identity | None = None
        self.on_swap: Callable[[Prepared], None] = lambda _: None

    def offer(self, prepared: Prepared) -> None:
        """Let this model judge from the next pause on, or after a while between two parts. From any thread."""
        self._offered = (prepared, self._clock.monotonic_ns())

    def run(self, stop: threading.Event) -> None:
        """Build the engine, check it, then judge shots until told to stop."""
        try:
            self._prepare(stop)
            while not stop.is_set():
                shot = self._shots.get(timeout_s=self._patience_s())
                self._take_over(idle=shot is None)
                if shot is not None:
                    self.progress.begin()
                    outcome = self.step(shot)
                    self.progress.end()
                    if outcome is not None:
                        self._answers.give(outcome)
                if not stop.is_set() and len(self._shots) == 0:
                    self._pause(idle=shot is None, stop=stop)
        finally:
            self._close()

    def step(self, shot: Shot) -> Outcome | None:
        """Judge one part; None when it was answered meanwhile."""
        if not self._ledger.is_open(shot.ticket.seq):
            self.skipped += 1
            return None
        begun_ns = self._clock.monotonic_ns()
        engine = self._engine
        if engine is None:
            return Outcome.of(shot, "engine", begun_ns)
        try:
            fitted = fit(shot.frame.pixels, engine.size)
            before_ns = self._clock.monotonic_ns()
            scores = engine.infer(fitted)
            infer_ms = (self._clock.monotonic_ns() - before_ns) / NS_PER_MS
            judgement = self._judge.judge(scores)
        except PictureError as exc:
            self._station.raise_("frame-unfit", "warning", f"frame: {exc}", "set the camera to 8-bit RGB of a sensible size")
            return Outcome.of(shot, "frame-unfit", self._clock.monotonic_ns(), begun_ns=begun_ns)
        except EngineError as exc:
            self._failed(exc)
            return Outcome.of(shot, "engine", self._clock.monotonic_ns(), begun_ns=begun_ns)
        self._station.clear("frame-unfit")
        if self._failures:
            self._failures = 0
            self._station.clear("engine")
        done_ns = self._clock.monotonic_ns()
        return Outcome.of(shot, "", done_ns, begun_ns=begun_ns, judgement=judgement, infer_ms=infer_ms, who=self._who)

    def _take_over(self, *, idle: bool) -> None:
        """Between two parts: the offered model judges from here on, all of it at once."""
        if self._offered is None:
            return
        new, offered_ns = self._offered
        # A station that cannot judge has nothing to lose by waiting no longer.
        if not idle and self._engine is not None and self._clock.monotonic_ns() - offered_ns < SWAP_PATIENCE_NS:
            return
        self._offered = None
        before, self._engine = self._engine, new.engine
        self._bundle, self._judge, self._selfcheck, self._who = new.bundle, new.judge, new.selfcheck, new.who
        self._budget_ms = new.budget_ms
        self._open_engine = new.reopen
        self._facts.engine, self._facts.infer_p99_ms = new.engine.name, new.times.p99
        self._failures, self._renewing, self._forced = 0, False, False
        self.on_swap(new)
        self._station.checked(new.selfcheck.token(self._check_valid_ms), self._check_valid_ms, handover=False)
        for code in ("engine", "golden", "budget"):
            self._station.clear(code)
        if before is not None:
            before.close()
        logger.info("model %s judges from here on", new.who.recipe)

    # --- engine and self-check --------------------------------------------------------------------------------------------

    def _prepare(self, stop: threading.Event) -> None:
        """Build and prove the engine; what fails becomes a condition of the station, not the end of the daemon."""
        self._retry_at_ns = self._clock.monotonic_ns() + round(self._retry_s * 1e9)
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        self._facts.infer_p99_ms = None
        try:
            engine = self._engine = self._open_engine()
        except OnbeltError as exc:
            self._station.raise_("engine", "fault", f"engine: {exc}", "run onbelt check on the bundle; it is tried again")
            return
        self._facts.engine = engine.name
        self._station.warming()
        self._selfcheck = SelfCheck(self._bundle, engine, self._clock)
        if stop.is_set() or not self._replay_all() or stop.is_set():
            return
        try:
            times = self._selfcheck.budget(self._budget_ms)
        except OnbeltError as exc:
            self._failed(exc)
            return
        self._facts.infer_p99_ms = times.p99
        if times.p99 > self._budget_ms:
            self._station.raise_(
                "budget",
                "fault",
                f"the engine takes {times.p99:.1f} ms (p99), the budget is {self._budget_ms:.1f} ms",
                "free the processor, take a smaller model or a faster box; model.budget_ms overrides the bundle's budget",
            )
        else:
            self._station.clear("budget")
            self._retry_s = FIRST_RETRY_S
        self._failures = 0
        self._station.clear("engine")
        self._station.clear("golden")
        logger.info("engine %s: p50 %.1f ms, p99 %.1f ms, budget %.1f ms", engine.name, times.p50, times.p99, self._budget_ms)
        prepare_process()
        self._passed()

    def _replay_all(self) -> bool:
        assert self._selfcheck is not None
        try:
            wrong = [result for result in self._selfcheck.all() if not result.holds]
        except OnbeltError as exc:
            self._failed(exc)
            return False
        if wrong:
            self._golden_failed(describe(wrong[0], self._bundle.manifest.agreement))
        return not wrong

    def _pause(self, *, idle: bool, stop: threading.Event) -> None:
        """No part is waiting: rebuild what is broken, renew the self-check, keep warm."""
        if self._broken(idle=idle):
            if self._clock.monotonic_ns() >= self._retry_at_ns:
                self._close()
                self.progress.begin(REBUILD_LIMIT_MS)
                self._prepare(stop)
                self.progress.end()
            return
        assert self._selfcheck is not None
        left = self._station.check_left_ms() / self._check_valid_ms
        if self.recheck.is_set() or (left < RENEW_BELOW and not self._renewing):
            self._forced = self.recheck.is_set()
            self.recheck.clear()
            self._renewing = True
            self._selfcheck.restart()
        urgent = self._renewing and (self._forced or left < URGENT_BELOW)
        if urgent or (idle and (self._keep_warm_s or self._renewing)):
            self._one_golden(self._selfcheck)

    def _broken(self, *, idle: bool) -> bool:
        if self._engine is None or self._selfcheck is None or self._failures >= FAULT_AFTER or self._facts.infer_p99_ms is None:
            return True
        return idle and any(condition.code in {"golden", "budget"} for condition in self._station.snapshot().conditions)

    def _one_golden(self, selfcheck: SelfCheck) -> None:
        self.progress.begin()
        try:
            result = selfcheck.one()
        except OnbeltError as exc:
            self._failed(exc)
            self._golden_failed(f"a golden frame gave no scores: {exc}")
            return
        finally:
            self.progress.end()
        if not result.holds:
            self._golden_failed(describe(result, self._bundle.manifest.agreement))
        elif self._renewing and selfcheck.complete:
            self._passed()

    def _passed(self) -> None:
        assert self._selfcheck is not None
        self._renewing = self._forced = False
        self._station.checked(self._selfcheck.token(self._check_valid_ms), self._check_valid_ms)

    def _patience_s(self) -> float:
        # Without keep-warm the loop still looks after the token and a broken engine now and then.
        return self._keep_warm_s or 0.5

    def _golden_failed(self, text: str) -> None:
        self._station.revoke()
        self._station.raise_("golden", "fault", text, "run onbelt check; if it fails there too, this machine must not judge")

    def _failed(self, exc: Exception) -> None:
        self._failures += 1
        severity: Severity = "fault" if self._failures >= FAULT_AFTER or self._selfcheck is None else "warning"
        self._station.raise_("engine", severity, f"engine: {exc}", "run onbelt check; the engine is built anew in the next pause")

    def _close(self) -> None:
        engine, self._engine, self._selfcheck = self._engine, None, None
        if engine is not None:
            engine.close()
