"""What the station is doing, and whether its verdicts count: phases, legal changes, and the conditions that stand.

    STARTING ──> WARMING ──> RUNNING <──> DEGRADED        DEGRADED: it inspects, and something needs attention
        │           │           │             │           FAULT: it answers `invalid` until the cause is gone
        └───────────┴───> FAULT <┴────────────┘           STOPPING: the end, reached from everywhere

A condition is raised and cleared by the stage that sees it; the phase follows from the conditions, nobody sets it. The
station is armed in RUNNING and DEGRADED while its self-check lives: only then may a verdict say pass. No I/O here: whoever
wants to know of changes listens.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from edge.clock import Clock
from edge.wire.station import Check, OpcState

logger = logging.getLogger(__name__)

REPEAT_LOG_NS = 60_000_000_000
HANDOVER_NS = 1_000_000_000  # a new token goes into verdicts so long after its birth: the gate hears of it first


class Phase(Enum):
    """What the station is doing."""

    STARTING = "STARTING"
    WARMING = "WARMING"
    RUNNING = "RUNNING"
    DEGRADED = "DEGRADED"
    FAULT = "FAULT"
    STOPPING = "STOPPING"


_WELL = frozenset({Phase.RUNNING, Phase.DEGRADED, Phase.FAULT, Phase.STOPPING})
LEGAL: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.WARMING, Phase.FAULT, Phase.STOPPING}),
    Phase.WARMING: _WELL,
    Phase.RUNNING: _WELL - {Phase.RUNNING},
    Phase.DEGRADED: _WELL - {Phase.DEGRADED},
    Phase.FAULT: frozenset({Phase.STARTING, Phase.WARMING, Phase.RUNNING, Phase.DEGRADED, Phase.STOPPING}),
    Phase.STOPPING: frozenset(),
}
# Names of OPC 40100-1 (machine vision): what SCADA knows.
OPC: dict[Phase, OpcState] = {
    Phase.STARTING: "Preoperational",
    Phase.WARMING: "Initialized",
    Phase.RUNNING: "ContinuousExecution",
    Phase.DEGRADED: "ContinuousExecution",
    Phase.FAULT: "Error",
    Phase.STOPPING: "Halted",
}

Severity = Literal["warning", "fault"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong and stands until it is cleared: an alarm.

    Attributes:
        code: its name, also the alarm's topic. severity: "fault" disarms. text: what is wrong. remedy: what to do.
        since_us: microseconds UTC.
    """

    code: str
    severity: Severity
    text: str
    remedy: str
    since_us: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The station at one moment.

    Attributes:
        phase: what it does. since_us: since when. armed: a verdict may say pass.
        conditions: what stands, oldest first. check: the newest self-check, living or not.
    """

    phase: Phase
    since_us: int
    armed: bool
    conditions: tuple[Condition, ...]
    check: Check | None

    @property
    def status(self) -> str:
        """One line for the service manager."""
        return f"{self.phase.value}, armed: {self.armed}: {'; '.join(self.reasons) or 'all well'}"[:200]

    @property
    def reasons(self) -> list[str]:
        """Why it is not armed or not well, for people."""
        found = [f"{one.text}; {one.remedy}" for one in self.conditions]
        if self.phase is Phase.STARTING:
            found.insert(0, "starting: the model is being loaded")
        elif self.phase is Phase.WARMING:
            found.insert(0, "warming up: the self-check is not finished")
        elif self.phase is Phase.STOPPING:
            found.insert(0, "stopping")
        return [reason[:240] for reason in found[:8]]


class Station:
    """The state machine. Every method may be called from any thread; listeners are called in the caller's, one at a time.

    Args:
        clock: labels and the life of the self-check.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._telling = threading.RLock()
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._conditions: dict[str, Condition] = {}
        self._logged_ns: dict[tuple[str, str], int] = {}
        self._phase = Phase.STARTING
        self._since_us = clock.utc_us()
        self._progress = Phase.STARTING
        self._check: Check | None = None
        self._check_until_ns = 0
        self._check_from_ns = 0
        self._before: tuple[str, int] = ("", 0)

    def listen(self, listener: Callable[[Snapshot], None]) -> None:
        """Call this after every change, with the station as it is then."""
        self._listeners.append(listener)

    def snapshot(self) -> Snapshot:
        """The station now."""
        with self._lock:
            return self._snapshot()

    @property
    def armed(self) -> bool:
        """A verdict may say pass now."""
        return self._phase in {Phase.RUNNING, Phase.DEGRADED} and self._clock.monotonic_ns() < self._check_until_ns

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        return self._phase

    def token(self) -> str:
        """The self-check a verdict given now rests on; empty when the station is not armed."""
        if not self.armed:
            return ""
        now_ns = self._clock.monotonic_ns()
        check, (earlier, until_ns) = self._check, self._before
        if earlier and now_ns < min(until_ns, self._check_from_ns + HANDOVER_NS):
            return earlier
        return check.token if check else ""

    def check_left_ms(self) -> float:
        """Remaining life of the self-check, 0 when there is none."""
        return max(0.0, (self._check_until_ns - self._clock.monotonic_ns()) / 1e6)

    # --- events ---------------------------------------------------------------------------------------------------------

    def warming(self) -> None:
        """The model is loaded; the self-check begins."""
        with self._lock:
            self._advance(Phase.WARMING)
            changed = self._derive()
        self._tell(changed)

    def checked(self, check: Check, valid_ms: float, *, handover: bool = True) -> None:
        """A self-check was passed: the station arms, or stays armed with a new token.

        Without a handover the new token counts at once: an earlier one was another model's.
        """
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            living = handover and self._check is not None and now_ns < self._check_until_ns
            self._before = (self._check.token, self._check_until_ns) if living and self._check else ("", 0)
            self._check = check
            self._check_from_ns = now_ns
            self._check_until_ns = now_ns + round(valid_ms * 1e6)
            self._advance(Phase.RUNNING)
            self._conditions.pop("check-expired", None)
            self._derive()
        self._tell(changed=True)

    def revoke(self) -> None:
        """The self-check no longer holds: nothing passes until the next one."""
        with self._lock:
            changed = self._check is not None
            self._check = None
            self._before = ("", 0)
            self._check_until_ns = 0
        self._tell(changed)

    def raise_(self, code: str, severity: Severity, text: str, remedy: str) -> None:
        """A condition stands; raising it again with the same severity changes nothing."""
        with self._lock:
            known = self._conditions.get(code)
            if known is not None and known.severity == severity:
                return
            self._conditions[code] = Condition(code, severity, text[:240], remedy[:240], self._clock.utc_us())
            self._derive()
        level = logging.ERROR if severity == "fault" else logging.WARNING
        logger.log(level if self._worth_telling(code, severity) else logging.DEBUG, "%s: %s; %s", code, text, remedy)
        self._tell(changed=True)

    def clear(self, code: str) -> None:
        """A condition is gone."""
        if code not in self._conditions:  # the way of every part: no lock
            return
        with self._lock:
            gone = self._conditions.pop(code, None)
            self._derive()
        if gone is not None:
            logger.log(logging.INFO if self._worth_telling(code, "cleared") else logging.DEBUG, "%s: cleared", code)
            self._tell(changed=True)

    def tick(self) -> None:
        """Time has passed: a self-check may have run out."""
        if self._progress is Phase.RUNNING and self._clock.monotonic_ns() >= self._check_until_ns:
            self.raise_(
                "check-expired",
                "fault",
                "the self-check has run out",
                "it is repeated by itself in the next pause; stop the line for a moment if there is none",
            )

    def stop(self) -> None:
        """The end begins; nothing follows."""
        with self._lock:
            self._advance(Phase.STOPPING)
            changed = self._derive()
        self._tell(changed)

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _advance(self, progress: Phase) -> None:
        if self._progress is not Phase.STOPPING:  # the engine may finish its start while the end has begun
            self._progress = progress

    def _worth_telling(self, code: str, what: str) -> bool:
        """A condition that comes and goes is logged once a minute; state and alarms follow every change."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns.get((code, what), -REPEAT_LOG_NS) < REPEAT_LOG_NS:
            return False
        self._logged_ns[code, what] = now_ns
        return True

    def _derive(self) -> bool:
        phase = self._progress
        if phase is not Phase.STOPPING:
            severities = {condition.severity for condition in self._conditions.values()}
            if "fault" in severities:
                phase = Phase.FAULT
            elif phase is Phase.RUNNING and severities:
                phase = Phase.DEGRADED
        if phase is self._phase:
            return False
        if phase not in LEGAL[self._phase]:
            raise RuntimeError(f"station: {self._phase.name} -> {phase.name} is not a legal change")
        told = self._worth_telling(self._phase.name, phase.name)
        logger.log(logging.INFO if told else logging.DEBUG, "state %s -> %s", self._phase.name, phase.name)
        self._phase, self._since_us = phase, self._clock.utc_us()
        return True

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._phase, self._since_us, self.armed, tuple(self._conditions.values()), self._check)

    def _tell(self, changed: bool) -> None:
        if not changed:
            return
        # One at a time, each with the newest state: the last call of concurrent ones always tells what is true.
        with self._telling:
            snapshot = self.snapshot()
            for listener in self._listeners:
                listener(snapshot)
