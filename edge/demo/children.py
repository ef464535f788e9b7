"""Broker, daemon and gate as real processes: started, watched, killed, frozen, restarted, and never left behind.

Each is tied to this process (`edge.broker.lifeline`), has a session of its own, so that Ctrl-C reaches us alone and we end them
in order, and writes to a log file whose end is shown when it dies unasked.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge.broker import lifeline
from edge.broker.launch import end_process

STOP_S = 5.0
LOG_LINES = 5  # shown of a process that died


class Child:
    """One process of ours.

    Args:
        name: for people. arguments: of the command `onbelt`. log: file for its output.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self.asked = False  # we ended it ourselves
        self._argv = lifeline.command([sys.executable, "-m", "edge.cli", *arguments])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id; 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    @property
    def died(self) -> bool:
        """It has ended, and nobody asked it to."""
        return self._process is not None and not self.pid and not self.asked

    def start(self) -> None:
        """Start it, or start it again."""
        self.asked = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        self.asked = True
        if self._process is not None:
            end_process(self._process, signal.SIGKILL, STOP_S)

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self, patience_s: float = STOP_S) -> None:
        """End it politely; may be called twice."""
        self.asked = True
        if self._process is not None:
            end_process(self._process, signal.SIGTERM, patience_s)

    def last_words(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:])
        return ""

    def _signal(self, what: signal.Signals) -> None:
        if self.pid and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(what)


def stop_all(children: Sequence[Child]) -> None:
    """Tell all to end, then wait for all: together no longer than the slowest."""
    end = time.monotonic() + STOP_S
    for child in children:
        child.asked = True
        child.thaw()
        child._signal(signal.SIGTERM)  # noqa: SLF001 - the same module
    for child in children:
        child.stop(max(0.1, end - time.monotonic()))
