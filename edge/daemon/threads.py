"""The threads of the stages: each runs until told to stop, and one that crashes is reported."""

import logging
import threading
from collections.abc import Callable

from edge.clock import Clock

logger = logging.getLogger(__name__)


class Threads:
    """A group of stages that begin one by one and end together.

    Args:
        stop: set when they are to end. crashed: called with the name of a stage that ended with an error nobody expected.
        clock: this machine's.

    Attributes:
        left_behind: names of those that did not end in time.
    """

    def __init__(self, stop: threading.Event, crashed: Callable[[str], None], clock: Clock) -> None:
        self.left_behind: list[str] = []
        self._stop = stop
        self._crashed = crashed
        self._clock = clock
        self._threads: list[threading.Thread] = []

    def run(self, name: str, target: Callable[[threading.Event], None]) -> None:
        """Start a stage."""

        def guarded() -> None:
            try:
                target(self._stop)
            except Exception:
                logger.exception("%s ended with an error nobody expected; the daemon stops", name)
                self._crashed(name)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def alive(self, name: str) -> bool:
        """Whether this stage was started and has not ended."""
        return any(thread.name == name and thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> None:
        """Wait for all of them, so long together; what hangs is left behind."""
        until_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        for thread in self._threads:
            thread.join(max(0.0, (until_ns - self._clock.monotonic_ns()) / 1e9))
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        self.left_behind += hanging
        if hanging:
            logger.warning("left behind: %s", ", ".join(hanging))
