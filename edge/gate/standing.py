"""How the gate as a whole stands: armed or not and why (rule 6), the line stop (rule 7), and the alarms both raise.

One part's decision is `edge.gate.rules`; here is what outlives it. No I/O, no clock: the time comes with every call, ns of
CLOCK_MONOTONIC.
"""

from collections import Counter

from edge.gate.actions import Action, Armed, ClearAlarm, Disarmed, LineStop, RaiseAlarm
from edge.gate.register import Slot
from edge.gate.settings import NS_PER_S, GateSettings

NOT_AT_START = ("line-stop", "overflow", "pitch", "counts")
"""Alarms that cannot stand when a gate starts: the broker may hold those of an earlier start. "disarmed" is raised at once."""

APART_NS = 60 * NS_PER_S  # so long without a part too close, and the alarm is over


class Standing:
    """Arms, disarms, asks for a line stop and takes it back.

    Args:
        settings: the contract's numbers. counts: the gate's counters, shared with it.
    """

    def __init__(self, settings: GateSettings, counts: Counter[str]) -> None:
        self._settings = settings
        self._counts = counts
        self._disarmed: tuple[str, ...] | None = None
        self._missing_run = 0
        self._missing_since_ns = 0
        self._unfit_since_ns: int | None = None
        self._fit_since_ns: int | None = None
        self._stopping = ""
        self._stopped_since_ns: int | None = None
        self._alarms: set[str] = set()
        self._close_ns = 0

    @property
    def armed(self) -> bool:
        """A valid PASS opens."""
        return self._disarmed == ()

    @property
    def stopping(self) -> bool:
        """A line stop is requested."""
        return bool(self._stopping)

    # --- rule 6 -----------------------------------------------------------------------------------------------------------

    def look(self, faults: list[str], commissioning: str, proof: Armed, now_ns: int) -> list[Action]:
        """Arm or disarm, and say why: `faults` forbid opening, `commissioning` waits for a proof; `proof` is said on arming."""
        if faults:
            self._fit_since_ns = None
            self._unfit_since_ns = now_ns if self._unfit_since_ns is None else self._unfit_since_ns
        else:
            self._unfit_since_ns = None
            self._fit_since_ns = now_ns if self._fit_since_ns is None else self._fit_since_ns
        reasons = tuple(faults + ([commissioning] if commissioning and not faults else []))
        before, self._disarmed = self._disarmed, reasons
        if not reasons:
            if before == ():
                return []
            self._counts["armed"] += 1
            return [proof, *self.clear("disarmed")]
        if before == ():
            self._counts["disarmed"] += 1
        elif before is not None and _kind(before) == _kind(reasons):
            return []
        return [
            Disarmed(reasons),
            *self.alarm("disarmed", "fault" if faults else "warning", reasons[0], "see the reasons in the gate's log"),
        ]

    # --- rule 7 -----------------------------------------------------------------------------------------------------------

    def decided(self, slot: Slot, now_ns: int, *, answered: bool, held: bool) -> list[Action]:
        """A part was decided: parts in a row without a valid verdict ask for a stop, and so does one that is held."""
        if answered:
            self._missing_run = 0
            return []
        self._counts["missing"] += 1
        self._missing_run += 1
        if self._missing_run == 1:
            self._missing_since_ns = slot.trigger_ns
        outage_s = (min(slot.deadline_ns, now_ns) - self._missing_since_ns) / NS_PER_S
        if held or self._missing_run >= self._settings.missing_stop:
            return self._stop(f"{self._missing_run} parts in a row without a valid verdict")
        if self._missing_run > 1 and outage_s >= self._settings.outage_stop_s:
            return self._stop(f"no valid verdict for {outage_s:.1f} s")
        return []

    def stop_or_go(self, now_ns: int, pending: int) -> list[Action]:
        """A station unfit for so long while parts come (`pending`); and the release once it is fit, or for a trial."""
        if self._stopping:
            return self._release(now_ns, pending)
        if self._unfit_since_ns is not None and pending > 0:
            outage_s = (now_ns - self._unfit_since_ns) / NS_PER_S
            if outage_s >= self._settings.outage_stop_s:
                return self._stop(f"disarmed for {outage_s:.1f} s while parts come")
        return []

    def _release(self, now_ns: int, pending: int) -> list[Action]:
        if self._stopped_since_ns is None:
            self._stopped_since_ns = now_ns
        fit_ns, retry_s = self._fit_since_ns, self._settings.stop_retry_s
        fit = fit_ns is not None and now_ns - fit_ns >= self._settings.stop_hold_s * NS_PER_S
        # A part that came before the stop took hold must not renew the request: a trial waits until all of them are decided.
        trial = retry_s > 0 and now_ns - self._stopped_since_ns >= retry_s * NS_PER_S and pending == 0
        if not fit and not trial:
            return []
        why, self._stopping = self._stopping, ""
        self._stopped_since_ns = None
        self._missing_run = 0
        said = "the station is fit again" if fit else "a part is tried"
        return [LineStop(on=False, why=f"{said} (was: {why})"), *self.clear("line-stop")]

    def _stop(self, why: str) -> list[Action]:
        if self._stopping:
            return []
        self._stopping = why
        # The release counts from here: a station that is fit and yet gives no verdicts must not start the line at once.
        self._fit_since_ns = None
        self._counts["line-stop"] += 1
        remedy = "find out why verdicts are missing; the line may run again when the request is taken back"
        return [LineStop(on=True, why=why), *self.alarm("line-stop", "fault", why, remedy)]

    # --- rule 4: parts the output cannot tell apart -----------------------------------------------------------------------

    def too_close(self, slot: Slot, now_ns: int) -> list[Action]:
        """A part with a PASS stays out since it stands too close to one that stays out; said once until it is over."""
        self._counts["too-close"] += 1
        self._close_ns = now_ns
        text = (
            f"part {slot.count} had a PASS and was rejected: it came sooner than {self._settings.min_pitch_ms:g} ms after a part "
            "that was not let through, or beside one that no trigger told of"
        )
        remedy = "keep parts further apart, or let the output open later: timing.lead_ms, margin_ms, min_pitch_ms, line.open_ms"
        return self._once("pitch", text, remedy)

    def apart_again(self, now_ns: int) -> list[Action]:
        """Take that back when no part has stood too close for a minute."""
        return self.clear("pitch") if now_ns - self._close_ns >= APART_NS else []

    def out_of_step(self, why: str) -> list[Action]:
        """Station and gate number the parts differently."""
        remedy = "stop the line, empty the belt, bring both counts into step (docs/gate.md, Counting alike), restart the station"
        return self._once("counts", f"station and gate count apart: {why}", remedy)

    # --- alarms -----------------------------------------------------------------------------------------------------------

    def alarm(self, what: str, severity: str, text: str, remedy: str) -> list[Action]:
        """Raise `gate-<gate>-<what>`."""
        self._alarms.add(what)
        code = f"gate-{self._settings.gate}-{what}"
        return [RaiseAlarm(code, "fault" if severity == "fault" else "warning", text, remedy)]

    def _once(self, what: str, text: str, remedy: str) -> list[Action]:
        """Raise it unless it stands: the text of the first one stays."""
        return [] if what in self._alarms else self.alarm(what, "fault", text, remedy)

    def clear(self, what: str) -> list[Action]:
        """Clear it where it stands."""
        if what not in self._alarms:
            return []
        self._alarms.discard(what)
        return [ClearAlarm(f"gate-{self._settings.gate}-{what}")]


def _kind(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """Reasons without their figures: a count that goes up is no news."""
    return tuple("".join(c for c in reason if not c.isdigit()) for reason in reasons)
