"""Says which parts are suspect when something is found wrong: those judged since the last good proof that it was right.

Each thing that can be wrong has a proof of its own, and the range is exact by it:

    self-check   a golden frame got a wrong score           since the last passed self-check (its token is the proof)
    master       a physical master part was judged wrongly  since it was last judged rightly, else since the start
    drift        scores of good parts have moved            since the earliest part the alarm holds possible: golden frames do
                                                            not pass through the camera and prove nothing of it
    frozen       the camera gave the same picture again     since the picture before it, the last one known to be new
    clock        the wall clock was set                     since the last look at it: those parts' times are in doubt

The parts come from the publisher, after the engine: one that was judged before a check may be counted after it, never the other
way round, so a window may hold a part too many and never one too few.

All windows stand as the condition `suspect-parts` and on the topic `quarantine` (`edge.wire.suspects`), for the people who have
to find those parts; what the broker holds of an earlier start is taken over.
"""

import logging
import threading
from collections.abc import Callable

import numpy as np

from edge.clock import Clock
from edge.daemon.state.phase import REPEAT_LOG_NS, Snapshot, Station
from edge.drift.quarantine import EscapeWindow, Quarantine, escapes
from edge.wire.quarantine import SuspectRange
from edge.wire.suspects import (
    MAX_GATE_RANGES,
    MAX_WHY,
    MAX_WINDOWS,
    SUSPECTS,
    SUSPECTS_SCHEMA,
    Doubt,
    SuspectNotice,
    Suspects,
    decode_notice,
)

logger = logging.getLogger(__name__)

CONDITION = "suspect-parts"
DOUBT = "golden"
"""The condition that casts doubt on verdicts already given: a golden frame did not get the score it must."""

REMEMBERED = 65_536
"""Parts whose numbers are kept, as far back as a drift alarm can say that it began (`edge.drift.detector.HISTORY`): 1.1 MB."""


class EscapeWatch:
    """Counts parts and proofs, raises `suspect-parts` and publishes `quarantine`. Any thread.

    Args:
        station: listened to, and told. name, boot: of this station and start. clock: labels.
        publish: puts the retained notice on its topic; None publishes nothing.

    Attributes:
        found: all windows known, oldest first, those of earlier starts too; at most `MAX_WINDOWS`.
    """

    def __init__(
        self, station: Station, name: str, boot: str, clock: Clock, publish: Callable[[bytes], None] | None = None
    ) -> None:
        self.found: list[Suspects] = []
        self._station = station
        self._name = name
        self._boot = boot
        self._clock = clock
        self._publish = publish
        self._window = EscapeWindow()
        self._lock = threading.Lock()
        self._order = threading.Lock()  # taken before the other one, never inside it: notices leave in the order they were made
        self._token = ""
        self._in_doubt = False
        self._frozen = False
        self._clock_seen = 0  # newest part at the last look at the wall clock
        self._gates: dict[str, list[SuspectRange]] = {}
        self._dropped = 0
        self._logged_ns: dict[Doubt, int] = {}
        self._parts = 0
        self._seq = np.full(REMEMBERED, 0, np.int64)  # written at once: no page is missing in the verdict's path later
        self._trig = np.full(REMEMBERED, 0, np.int64)
        self._passed = np.full(REMEMBERED, False)

    @property
    def newest(self) -> int:
        """Number of the part judged last, 0 before the first."""
        return int(self._seq[(self._parts - 1) % REMEMBERED]) if self._parts else 0

    # --- parts --------------------------------------------------------------------------------------------------------------

    def judged(self, seq: int, trig: int, *, passed: bool) -> None:
        """A part was answered by a judgement."""
        with self._lock:
            self._frozen = False
            at = self._parts % REMEMBERED
            self._seq[at], self._trig[at], self._passed[at] = seq, trig, passed
            self._parts += 1
            self._window.judged(seq, passed=passed)

    def repeated(self, text: str) -> None:
        """The camera gave a picture again: the part that had it before is in doubt, once for each time it freezes."""
        new, self._frozen = not self._frozen, True
        if new:
            self._doubt("frozen", text, self.newest)

    # --- what casts doubt ---------------------------------------------------------------------------------------------------

    def on_change(self, snapshot: Snapshot) -> None:
        """The station has changed: a new token is a proof, a wrong golden score ends the window."""
        doubts = [one for one in snapshot.conditions if one.code == DOUBT]
        token = snapshot.check.token if snapshot.check else ""
        with self._lock:
            new, self._in_doubt = bool(doubts) and not self._in_doubt, bool(doubts)
            found = self._window.failed(doubts[0].text) if new else None
            if token and token != self._token:
                self._window.proof()
            self._token = token
            if found is None or found.first > found.last:
                return
            self._add("self-check", found)
        self._tell()

    def drifted(self, first: int, text: str) -> None:
        """An alarm says that scores may have been moving since this part."""
        self._doubt("drift", text, first)

    def master_failed(self, first: int, text: str) -> None:
        """A master part was judged wrongly; it was last judged rightly just before part `first`, 1 for never."""
        self._doubt("master", text, first)

    def clock_looked(self, moved_us: int) -> None:
        """The wall clock was looked at, and had been set by so many microseconds since the last look (0: it only ran)."""
        first, self._clock_seen = self._clock_seen + 1, self.newest
        if moved_us:
            self._doubt(
                "clock", f"the wall clock was set by {moved_us / 1e6:+.3f} s: the times of these parts are in doubt", first
            )

    # --- notices of gates and of earlier starts -----------------------------------------------------------------------------

    def heard(self, payload: bytes) -> None:
        """Something came on the topic `quarantine`: a gate's notice, our own (perhaps of an earlier start), or the end of it.

        Raises:
            ContractError: it is none of these.
        """
        if not payload:
            self._forget()
            return
        notice = decode_notice(payload)
        if notice.station != self._name:
            return
        if isinstance(notice, SuspectNotice):
            if self._take_over(notice):
                self._tell()
            return
        with self._lock:
            self._merge(notice.gate, self._gates.get(notice.gate, []), notice.ranges)
            known = bool(self.found or self._gates)
        if known:
            self._tell()  # also when we knew: on the broker the gate's notice has just replaced ours

    def _take_over(self, notice: SuspectNotice) -> bool:
        with self._lock:
            known = {(one.boot, one.first, one.cause) for one in self.found}
            earlier = [one for one in notice.windows if one.boot != self._boot and (one.boot, one.first, one.cause) not in known]
            before = dict(self._gates)
            for name, ranges in notice.gates.items():
                self._merge(name, ranges, self._gates.get(name, []))
            self._keep([*earlier, *self.found])
            return bool(earlier) or self._gates != before

    def _forget(self) -> None:
        with self._lock:
            count = len(self.found) + len(self._gates)
            self.found, self._gates, self._dropped = [], {}, 0
        if count:
            logger.info("quarantine: %d ranges were ended by an empty notice", count)
            if self._publish is not None:
                self._publish(b"")  # or the notice would come back with the next connect
            self._station.clear(CONDITION)

    # --- inside -------------------------------------------------------------------------------------------------------------

    def _doubt(self, cause: Doubt, text: str, first: int) -> None:
        """Parts from `first` to the newest are suspect, by what is remembered of them; those before it say how many are bad."""
        with self._lock:
            held = min(self._parts, REMEMBERED)
            seqs, passed = self._seq[:held], self._passed[:held]
            mine = seqs >= first
            if not mine.any():
                return
            before = ~mine
            count = int(passed[mine].sum())
            expected, bound = escapes(count, int(before.sum()), int((before & ~passed).sum()))
            known = int(before.sum())
            self._add(cause, Quarantine(int(seqs[mine].min()), int(seqs[mine].max()), count, text, expected, bound, known))
        self._tell()

    def _add(self, cause: Doubt, window: Quarantine) -> None:
        held = min(self._parts, REMEMBERED)
        inside = (self._seq[:held] >= window.first) & (self._seq[:held] <= window.last)
        trigs = self._trig[:held][inside]
        suspects = Suspects(
            self._boot,
            window.first,
            window.last,
            int(trigs.min()) if trigs.size else 0,
            int(trigs.max()) if trigs.size else 0,
            window.passed,
            cause,
            window.cause[:MAX_WHY],
            round(window.expected, 3),
            window.bound,
            window.known_parts,
            self._clock.utc_us(),
        )
        # A camera that flickers doubts a part a second: the topic names each, the log the first of a minute.
        now_ns = self._clock.monotonic_ns()
        seldom = now_ns - self._logged_ns.get(cause, -REPEAT_LOG_NS) >= REPEAT_LOG_NS
        if seldom:
            self._logged_ns[cause] = now_ns
        logger.log(logging.ERROR if seldom else logging.DEBUG, "quarantine: %s: %s", _describe(suspects), suspects.why)
        self._keep([*self.found, suspects])

    def _merge(self, gate: str, older: list[SuspectRange], newer: list[SuspectRange]) -> None:
        """A gate that starts again may not know what it said before: its parts stay suspect until somebody ends it."""
        known = self._gates.get(gate, [])
        ranges = [*(one for one in older if one not in newer), *newer]
        kept = ranges[-MAX_GATE_RANGES:]
        self._dropped += sum(one not in kept for one in known)
        if kept:
            self._gates[gate] = kept

    def _keep(self, windows: list[Suspects]) -> None:
        self._dropped += max(0, len(windows) - MAX_WINDOWS)
        self.found = windows[-MAX_WINDOWS:]

    def _tell(self) -> None:
        """Says everything that is known; never called with the lock, for the station calls back."""
        with self._order:
            with self._lock:
                windows, gates, dropped = list(self.found), dict(self._gates), self._dropped
            notice = SuspectNotice(SUSPECTS_SCHEMA, self._name, windows, gates, dropped, self._clock.utc_us())
            if self._publish is not None:
                self._publish(SUSPECTS.encode(notice))
        text = "parts that a gate let go are suspect" if not windows else _describe(windows[-1])
        if len(windows) > 1:
            text += f"; {len(windows) - 1} earlier: " + ", ".join(f"{one.first}-{one.last}" for one in windows[-5:-1])
        # Raising again would change nothing while it stands: the text must name the newest window.
        self._station.clear(CONDITION)
        self._station.raise_(
            CONDITION, "warning", text, "hold these parts and inspect them again; the topic quarantine names all"
        )


def _describe(window: Suspects) -> str:
    return (
        f"parts {window.first}-{window.last} are suspect ({window.cause}), {window.trig_first}-{window.trig_last} on the line: "
        f"{window.passed} passed, {window.expected:.1f} bad ones expected among them, at most {window.bound}"
    )
