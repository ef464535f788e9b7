"""Outcome to verdict to journal to broker, in this order: nothing is published that is not on the disk.

All outcomes that wait are written in one transaction, then published one by one while their deadlines last. What cannot be
published live stays in the journal's outbox and goes to `verdict-late` by the back-fill. When the journal cannot be written,
the parts are still answered, `invalid`, and the station is not armed.
"""

import contextlib
import logging
import threading
from collections import deque
from typing import NamedTuple

import msgspec

from edge.clock import Clock
from edge.daemon.stages.compose import Moment, compose, shortest
from edge.daemon.stages.figures import Figures
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.parts import NS_PER_MS, Outcome
from edge.daemon.stages.progress import Progress
from edge.daemon.stages.recorder import Recorder
from edge.daemon.stages.sending import Sending
from edge.daemon.stages.tap import Tap
from edge.daemon.state.drift import DriftWatch
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.masters import MasterWatch
from edge.daemon.state.phase import Station
from edge.errors import ContractError, JournalError
from edge.journal.store import Entry, Journal
from edge.mqtt.link import Link
from edge.mqtt.local import LocalGate
from edge.page.live import LiveView, PartView
from edge.queues import Backlog
from edge.system.clocksync import ClockState
from edge.wire.verdict import Verdict, encode_verdict, payload_hash

logger = logging.getLogger(__name__)

BATCH = 64
FLUSH_EVERY_NS = 1_000_000_000


class Written(NamedTuple):
    """One verdict on its way out: n is its row in the journal, 0 when it could not be written."""

    outcome: Outcome
    verdict: Verdict
    payload: bytes
    n: int


class Publisher:
    """The last stage; its thread owns the journal.

    Args:
        outbox: outcomes to publish. journal: where they are written first.
        line: the connection for verdicts. topic: where they go.
        who: the station's identity. station: armed or not. clock: this machine's.
        figures: counts and times. view: the page, or None. drift: told of judged parts, or None.
        escape: told of answered parts, or None.
        recorder: keeps evidence, or None.
        tap: hands judged parts to a model in the shadow, or None.
        masters: told of master parts, which count for nothing else, or None.
        local: the gate on this box, or None.

    Attributes:
        clock_state: the wall clock's state, renewed by the pulse.
        drift: told of judged parts; replaced when another model takes over.
        acked: rows the back-fill got confirmed, to be taken from the outbox here.
        settled_n: rows up to here are confirmed or will not be sent live any more: the back-fill's.
    """

    def __init__(
        self,
        outbox: Backlog[Outcome],
        journal: Journal,
        line: Link,
        topic: str,
        who: Identity,
        station: Station,
        clock: Clock,
        figures: Figures,
        view: LiveView | None,
        drift: DriftWatch | None = None,
        escape: EscapeWatch | None = None,
        recorder: Recorder | None = None,
        tap: Tap | None = None,
        masters: MasterWatch | None = None,
        local: LocalGate | None = None,
    ) -> None:
        self.progress = Progress("journal", 5000.0, clock)
        self.clock_state = ClockState("free", None, None)
        self.acked: deque[int] = deque(maxlen=4096)
        self.settled_n = journal.last_n
        self._outbox = outbox
        self._journal = journal
        self.who = who
        self._station = station
        self._clock = clock
        self._figures = figures
        self._view = view
        self.drift = drift
        self._escape = escape
        self.masters = masters
        self._recorder = recorder
        self._tap = tap
        self._sending = Sending(line, topic, who.valid_ms, station, local)
        self._flushed_ns = 0

    @property
    def rows(self) -> int:
        """Verdicts the journal holds."""
        return self._journal.rows

    @property
    def lost(self) -> int:
        """Verdicts the journal had to let go before a broker confirmed them."""
        return self._journal.lost

    def run(self, finish: threading.Event) -> None:
        """Publish until told to finish and nothing is left."""
        while True:
            batch = self._outbox.take(BATCH, 0.2)
            self.progress.begin()
            if batch:
                self.step(batch)
            else:
                self._rest()
            self.progress.end()
            if finish.is_set() and not batch:
                return

    def step(self, batch: list[Outcome]) -> None:
        """Write and publish some outcomes."""
        self._sending.settle()
        written = self._write(batch)
        for one in written:
            self._send(one)
        self._note_settled()
        for one in written:
            if self._recorder is not None and one.n:
                self._recorder.keep(one.verdict, one.outcome)
            if self._tap is not None:
                self._tap.offer(one.verdict, one.outcome)
            self._show(one)
            self._watched(one)
        # A line of five parts a second and more never lets `_rest` run: without this its write-ahead log would fill the disk.
        self._checkpoint(idle=len(self._outbox) == 0)

    def _watched(self, one: Written) -> None:
        verdict, judgement = one.verdict, one.outcome.judgement
        if self.masters is not None and self.masters.knows(verdict.part.id):
            self.masters.judged(verdict.seq, verdict.part.id, judgement)
            return
        if self._escape is not None and verdict.verdict != "invalid":
            self._escape.judged(verdict.seq, verdict.part.trig, passed=verdict.verdict == "pass")
        elif self._escape is not None and one.outcome.reason == "frozen":
            self._escape.repeated(f"the camera gave the picture before part {verdict.seq} again")
        drift, who = self.drift, one.outcome.who or self.who
        # After another model took over, parts judged by the one before may still come: their p-values are of its calibration.
        if drift is not None and judgement is not None and (who.model, who.limit) == drift.reference:
            drift.judged(verdict.seq, judgement)

    # --- writing ----------------------------------------------------------------------------------------------------------

    def _write(self, batch: list[Outcome]) -> list[Written]:
        made = self._compose(batch, "")
        lost = self._journal.lost
        try:
            first = self._journal.append(
                [Entry(self.who.boot, verdict.seq, payload) for verdict, payload in made], self._take_confirmed()
            )
        except JournalError as exc:
            self._station.raise_(
                "journal", "fault", f"journal: {exc}", "free space on its disk or replace it; parts are rejected until it writes"
            )
            if self._recorder is not None:
                self._recorder.release()
            return [
                Written(outcome, verdict, payload, 0)
                for outcome, (verdict, payload) in zip(batch, self._compose(batch, "journal"), strict=True)
            ]
        self._station.clear("journal")
        if self._journal.lost > lost:  # it stands until the next start: nobody will ever send them, so a person has to know
            self._station.raise_(
                "journal-lost",
                "warning",
                "the journal is full, and verdicts that no broker has confirmed give way: they will never be sent (health: lost)",
                "bring the broker back, raise journal.max_mb, and restart; onbelt journal export saves what is still there",
            )
        return [
            Written(outcome, verdict, payload, first + i)
            for i, (outcome, (verdict, payload)) in enumerate(zip(batch, made, strict=True))
        ]

    def _compose(self, batch: list[Outcome], forced: str) -> list[tuple[Verdict, bytes]]:
        made = []
        prev = self._journal.head
        for outcome in batch:
            moment = Moment(self._clock.monotonic_ns(), self._station.token(), prev, self.clock_state, forced)
            who = outcome.who or self.who
            verdict = compose(outcome, who, moment)
            evidence = None if self._recorder is None or forced else self._recorder.reference(verdict, outcome)
            if evidence is not None:
                referring = msgspec.structs.replace(verdict, ev=evidence)
                with contextlib.suppress(ContractError):  # with long names and a seal there may be no room for a reference
                    payload = encode_verdict(referring, self.who.key)
                    made.append((referring, payload))
                    prev = payload_hash(payload)
                    continue
            try:
                payload = encode_verdict(verdict, self.who.key)
            except ContractError:
                # Names are checked at start and scores are finite: what comes here is a fault of ours, and the part waits.
                logger.exception("verdict %d cannot be written; answered invalid", outcome.ticket.seq)
                verdict = shortest(verdict, "engine")
                payload = encode_verdict(verdict, self.who.key)
            if not forced:
                prev = payload_hash(payload)
            made.append((verdict, payload))
        return made

    # --- sending ----------------------------------------------------------------------------------------------------------

    def _send(self, one: Written) -> None:
        now_ns = self._clock.monotonic_ns()
        slack_ms = (one.outcome.ticket.deadline_ns - now_ns) / NS_PER_MS
        if not self._sending.send(one.payload, one.n, now_ns, slack_ms):
            self._figures.late += 1
        trigger_ns = one.outcome.ticket.trigger.mono_ns
        self._figures.slack_ms.add(slack_ms)
        self._figures.verdict_ms.add((now_ns - trigger_ns) / NS_PER_MS)
        if one.outcome.infer_ms is not None:
            self._figures.infer_ms.add(one.outcome.infer_ms)
            self._figures.own_ms.add((now_ns - one.outcome.exp_ns) / NS_PER_MS - one.outcome.infer_ms)
        self._figures.count(one.verdict.verdict, one.verdict.reason)

    def _rest(self) -> None:
        """Nothing waits: tidy up."""
        self._sending.settle()
        now_ns = self._clock.monotonic_ns()
        try:
            if (self._sending.confirmed or self.acked) and now_ns - self._flushed_ns > FLUSH_EVERY_NS:
                self._flushed_ns = now_ns
                self._journal.confirm(self._take_confirmed())
        except JournalError as exc:
            logger.debug("journal: %s", exc)  # the next verdict finds out and says so
        self._checkpoint(idle=True)
        self._note_settled()

    def _checkpoint(self, *, idle: bool) -> None:
        try:
            self._journal.checkpoint(idle=idle)
        except JournalError as exc:
            logger.debug("journal: %s", exc)  # as above

    def _take_confirmed(self) -> list[int]:
        taken = self._sending.take_confirmed()
        while self.acked:
            taken.append(self.acked.popleft())
        return taken

    def _note_settled(self) -> None:
        undecided = self._sending.undecided()
        self.settled_n = min(undecided) - 1 if undecided else self._journal.last_n

    # --- showing ----------------------------------------------------------------------------------------------------------

    def _show(self, one: Written) -> None:
        if self._view is None:
            return
        verdict, outcome = one.verdict, one.outcome
        score, judgement = verdict.score, outcome.judgement
        self._view.add_part(
            PartView(
                seq=verdict.seq,
                part_id=verdict.part.id,
                verdict=verdict.verdict,
                reasons=tuple(verdict.reason),
                cal=score.cal if score else None,
                p=score.p if score else None,
                st=score.st if score else None,
                ae=score.ae if score else None,
                global_=score.global_ if score else None,
                infer_ms=verdict.t.infer_ms,
                slack_ms=verdict.t.slack_ms,
                trig_us=verdict.t.trig_us,
                pixels=outcome.pixels,
                anomaly_map=judgement.anomaly_map if judgement else None,
                regions=judgement.regions if judgement else (),
                verdict_ms=(verdict.t.pub_us - verdict.t.trig_us) / 1000,
            )
        )
