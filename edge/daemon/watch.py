"""What nobody notices part by part: triggers that never came, parts that came too fast, an engine that has grown slow.

Each is a warning while it happens and for a while after, so that a person has time to see it.
"""

from edge.clock import Clock
from edge.daemon.stages.capture import Capture
from edge.daemon.stages.figures import Figures
from edge.daemon.stages.intake import Intake
from edge.daemon.state.phase import Station
from edge.trigger.base import TriggerSource

QUIET_NS = 30_000_000_000
_MIN_SAMPLES = 200  # before so many parts a p99 says nothing


class Watch:
    """Looks at counters once a second.

    Args:
        station: told. intake, trigger, capture, figures: looked at. clock: this machine's. budget_ms: of the engine.
    """

    def __init__(
        self,
        station: Station,
        intake: Intake,
        trigger: TriggerSource,
        capture: Capture,
        figures: Figures,
        clock: Clock,
        budget_ms: float,
    ) -> None:
        self._station = station
        self._intake = intake
        self._trigger = trigger
        self._capture = capture
        self._figures = figures
        self._clock = clock
        self.budget_ms = budget_ms
        self._seen: dict[str, tuple[int, int]] = {}

    def look(self) -> None:
        """Compare with the last look."""
        counts = self._intake.counts
        self._rising(
            "trigger",
            counts.missed + counts.foreign + counts.outdated + self._trigger.refused,
            "triggers were lost or are unusable",
            "check wiring and network of the trigger, and trigger.clock: parts without a trigger get no verdict",
        )
        self._rising(
            "overrun",
            counts.displaced + self._capture.displaced,
            "parts come faster than they can be judged",
            "slow the line, take a faster model or a faster box: onbelt bench tells what this one can do",
        )
        slow = self._figures.infer_ms.percentiles(99) if self._figures.infer_ms.count >= _MIN_SAMPLES else None
        if slow is not None and slow[0] > self.budget_ms:
            self._station.raise_(
                "slow",
                "warning",
                f"the engine takes {slow[0]:.1f} ms (p99) in service, the budget is {self.budget_ms:.1f} ms",
                "look for another program on this machine, and at its temperature",
            )
        else:
            self._station.clear("slow")

    def _rising(self, code: str, count: int, text: str, remedy: str) -> None:
        last, since_ns = self._seen.get(code, (0, 0))
        now_ns = self._clock.monotonic_ns()
        if count > last:
            self._seen[code] = (count, now_ns)
            self._station.raise_(code, "warning", text, remedy)
        elif since_ns and now_ns - since_ns > QUIET_NS:
            self._seen[code] = (count, 0)
            self._station.clear(code)
