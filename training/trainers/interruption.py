"""Ctrl-C while a loop takes steps: noted at once, acted on between two steps.

A `KeyboardInterrupt` may fall anywhere inside a step, when some weights have moved and others have not; what is saved then is no
step's end, and a run resumed from it is another run. So a first SIGINT only asks, and the loop looks between steps. A second one
stops at once: nothing is saved, and the last checkpoint stays.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_STDERR = 2
_SAID = b"\nstopping after this step, with a checkpoint; Ctrl-C again stops at once and goes back to the last one\n"


class Interruption:
    """A context in which SIGINT sets `asked`; the handler before it is put back at the end.

    Only the main thread may set handlers, and only it is interrupted: elsewhere nothing is changed. Where SIGINT is ignored (in a
    shell's background jobs) it stays so.

    Attributes:
        asked: Whether to stop before the next step.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: signal._HANDLER = None

    def __enter__(self) -> Interruption:  # noqa: PYI034 Self came with Python 3.11
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before not in {None, signal.SIG_IGN}:  # None: set by other than Python, and not to be put back from here
                self._before = before
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not through sys.stderr: the signal may have come while its buffer was being written.
        with contextlib.suppress(OSError):
            os.write(_STDERR, _SAID)
