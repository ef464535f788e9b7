"""What every source of triggers offers."""

import threading
from collections.abc import Callable
from typing import Protocol

from edge.wire.trigger import LineTrigger

Deliver = Callable[[LineTrigger], object]


class CameraWatch(Protocol):
    """Told how a camera fares that is the trigger itself: while no part comes, nobody else asks it."""

    def begin(self, limit_ms: float = 0.0) -> None:
        """The driver is asked for something, which may take so long."""
        ...

    def end(self) -> None:
        """It has come back."""
        ...

    def failed(self, why: str) -> None:
        """The camera gives no frames, or cannot be opened."""
        ...

    def reopened(self) -> None:
        """It was opened again: it may be another one, or stand elsewhere."""
        ...

    def recovered(self) -> None:
        """It is well again."""
        ...


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
