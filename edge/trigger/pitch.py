"""One trigger too many: a light barrier that chatters, a part that bounces, a wire that picks up a motor.

What comes sooner after the last trigger than parts can follow each other is no part: it is not delivered, and counted. A gate on
the same wires must be set alike, or it counts parts the station does not know; these it ejects.
"""

import threading

from edge.trigger.base import Deliver, TriggerSource
from edge.wire.trigger import LineTrigger


class PitchTrigger:
    """A source behind a shortest pitch.

    Args:
        source: gives the triggers. min_pitch_ms: between two parts at least.

    Attributes:
        source: what it stands before. extra: triggers that came too soon.
    """

    def __init__(self, source: TriggerSource, min_pitch_ms: float) -> None:
        self.name = source.name
        self.extra = 0
        self.source = source
        self._min_us = round(min_pitch_ms * 1000)
        self._last_us: int | None = None

    @property
    def refused(self) -> int:
        """Messages that were no triggers, and triggers too many."""
        return self.source.refused + self.extra

    def open(self) -> None:
        """Take the port or device. Raises ConfigError."""
        self.source.open()

    def run(self, stop: threading.Event, deliver: Deliver) -> None:
        """Deliver what comes no sooner than it may."""

        def pitched(trigger: LineTrigger) -> object:
            if self._last_us is not None and 0 <= trigger.mono_us - self._last_us < self._min_us:
                self.extra += 1
                return None
            self._last_us = trigger.mono_us
            return deliver(trigger)

        self.source.run(stop, pitched)

    def close(self) -> None:
        """Free the port or device."""
        self.source.close()
