"""Master parts: known parts that the line itself carries past the camera, so that light, lens and camera are proven too.

Golden frames prove engine and model; they do not pass through the camera. A master part does: it is a real part, good or with a
known defect, that carries its own number (a barcode, or a key switch that makes the trigger send it). When it comes by, its score
must be what it must be. Until every master has been judged rightly, once per shift and at least every `master_valid_h`, after a
start, after another model took over and after the camera was opened again, the station is not armed; and when one is judged
wrongly, it is disarmed at once, and the parts since that master was last judged rightly are in quarantine.

A master part gets a verdict like any other part: a bad one is rejected, and none passes a station that is not armed. It counts
neither for drift alarms nor for the escape window, since it says nothing about the parts of the line.
"""

import datetime
import threading
from collections.abc import Iterable

from edge.clock import Clock
from edge.config.masters import Master
from edge.daemon.state.escape import EscapeWatch
from edge.daemon.state.phase import Station
from edge.judge import Judgement

FAILED, DUE = "master", "master-due"


class ShiftWatch:
    """Sees a shift begin, by the local wall clock.

    Args:
        shifts: minutes since midnight. clock: this machine's. zone: None for the machine's own.
    """

    def __init__(self, shifts: Iterable[int], clock: Clock, zone: datetime.tzinfo | None = None) -> None:
        self._shifts = sorted(shifts)
        self._clock = clock
        self._zone = zone
        self._last = self._now()

    def begun(self) -> bool:
        """A shift has begun since the last look. A clock set back begins none; set forward over one, it does."""
        last, self._last = self._last, max(self._now(), self._last)
        if self._last <= last or not self._shifts:
            return False
        days = range(last.date().toordinal(), self._last.date().toordinal() + 1)
        starts = (
            datetime.datetime.combine(datetime.date.fromordinal(day), datetime.time(*divmod(minutes, 60)), last.tzinfo)
            for day in days[-2:]
            for minutes in self._shifts
        )
        return any(last < start <= self._last for start in starts)

    def _now(self) -> datetime.datetime:
        utc = datetime.datetime.fromtimestamp(self._clock.utc_us() / 1e6, datetime.timezone.utc)
        return utc.astimezone(self._zone)


class MasterWatch:
    """Judges the master parts' verdicts and keeps the station disarmed while they are due or wrong. Any thread.

    Args:
        masters: at least one. station: told. escape: told of parts in doubt. clock: this machine's.
        valid_ms: so long a master's proof counts. grace_ms: after a shift's start its masters may be so late.
    """

    def __init__(
        self, masters: tuple[Master, ...], station: Station, escape: EscapeWatch, clock: Clock, valid_ms: float, grace_ms: float
    ) -> None:
        self._masters = {one.part_id: one for one in masters}
        self._station = station
        self._escape = escape
        self._clock = clock
        self._valid_ns = round(valid_ms * 1e6)
        self._grace_ns = round(grace_ms * 1e6)
        self._until_ns = dict.fromkeys(self._masters, 0)
        self._right_seq = dict.fromkeys(self._masters, 0)
        self._wrong: dict[str, str] = {}
        self._lock = threading.Lock()
        self.tick()

    def knows(self, part_id: str) -> bool:
        """This part is a master."""
        return part_id in self._masters

    def judged(self, seq: int, part_id: str, judgement: Judgement | None) -> None:
        """A master came by; without a judgement (no frame, no engine) it has proven nothing and is asked for again."""
        master = self._masters[part_id]
        if judgement is None:
            return
        with self._lock:
            self._take(seq, master, judgement)
            self._look()

    def _take(self, seq: int, master: Master, judgement: Judgement) -> None:
        part_id, problem = master.part_id, _problem(master, judgement)
        if problem:
            first, known = self._right_seq[part_id] + 1, part_id in self._wrong
            self._wrong[part_id] = problem
            self._until_ns[part_id] = 0
            self._station.clear(FAILED)  # the text of the newest must be heard
            self._raise_wrong()
            if not known:
                self._escape.master_failed(first, problem)
        else:
            self._wrong.pop(part_id, None)
            self._until_ns[part_id] = self._clock.monotonic_ns() + self._valid_ns
            self._right_seq[part_id] = seq
            self._station.clear(FAILED)
            if self._wrong:
                self._raise_wrong()

    def again(self, *, at_once: bool) -> None:
        """All masters are due: a shift begins, another model judges, or (`at_once`) the camera was opened again."""
        soon_ns = self._clock.monotonic_ns() + (0 if at_once else self._grace_ns)
        with self._lock:
            self._until_ns = {part_id: min(until_ns, soon_ns) for part_id, until_ns in self._until_ns.items()}
            self._look()

    def tick(self) -> None:
        """Time has passed."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        now_ns = self._clock.monotonic_ns()
        due = [part_id for part_id, until_ns in self._until_ns.items() if now_ns >= until_ns]
        if not due:
            self._station.clear(DUE)
            return
        self._station.raise_(
            DUE,
            "fault",
            f"{len(due)} of {len(self._until_ns)} master parts are due",
            f"let them pass the camera: {', '.join(self._masters)}",
        )

    def _raise_wrong(self) -> None:
        text = "; ".join(self._wrong.values())
        remedy = "check light, lens, focus and the part itself, then run the master parts again; suspect parts are in quarantine"
        self._station.raise_(FAILED, "fault", text, remedy)


def _problem(master: Master, judgement: Judgement) -> str:
    got = "reject" if judgement.above else "pass"
    if got != master.expect:
        return f"master part {master.part_id}: expected {master.expect}, got {got} at {judgement.cal:.2f} of the limit"
    if not master.low <= judgement.cal <= master.high:
        return (
            f"master part {master.part_id}: expected a score of {master.low:g} to {master.high:g} of the limit, "
            f"got {judgement.cal:.2f}"
        )
    return ""
