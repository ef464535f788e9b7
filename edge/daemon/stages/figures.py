"""What the station counts and measures."""

import threading
from collections import Counter
from dataclasses import dataclass

from edge.daemon.rolling import Rolling
from edge.system.clocksync import ClockSource


class Figures:
    """What the station counts and measures, for beat, health and page.

    Attributes:
        slack_ms: time left to the deadline at publication. verdict_ms: trigger to publication.
        own_ms: frame to publication less the time in the engine: what the daemon itself costs.
        infer_ms: time in the engine.
        late: verdicts journaled but not sent live.
    """

    def __init__(self) -> None:
        self.slack_ms = Rolling()
        self.verdict_ms = Rolling()
        self.own_ms = Rolling()
        self.infer_ms = Rolling()
        self.late = 0
        self._lock = threading.Lock()
        self._verdicts: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()

    def count(self, verdict: str, reasons: list[str]) -> None:
        """Count one verdict."""
        with self._lock:
            self._verdicts[verdict] += 1
            if verdict == "invalid":
                self._invalid[reasons[0]] += 1

    def verdicts(self) -> dict[str, int]:
        """Verdicts by kind."""
        with self._lock:
            return dict(self._verdicts)

    def invalid(self) -> dict[str, int]:
        """Invalid verdicts by first reason."""
        with self._lock:
            return dict(self._invalid)


@dataclass(slots=True)
class Facts:
    """What is learned after the start and belongs into the birth.

    Attributes:
        engine: its name. infer_p99_ms: its p99 at start, ms.
        clock_src: what sets the wall clock. page_url: where the page is.
    """

    engine: str = ""
    infer_p99_ms: float | None = None
    clock_src: ClockSource = "free"
    page_url: str = ""
