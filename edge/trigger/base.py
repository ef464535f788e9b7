"""What every source of triggers offers."""

import threading
from collections.abc import Callable
from typing import Protocol

from edge.wire.trigger import LineTrigger

Deliver = Callable[[LineTrigger], object]


class TriggerSource(Protocol):
    """Says when a part stands before the camera."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def refused(self) -> int:
        """Messages that were no triggers."""
        ...

    def open(self) -> None:
        """Take the port or device. Raises ConfigError."""
        ...

    def run(self, stop: threading.Event, deliver: Deliver) -> None:
        """Deliver triggers in this thread until told to stop."""
        ...

    def close(self) -> None:
        """Free the port or device. May be called twice."""
        ...
