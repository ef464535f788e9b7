"""Ties a child process to its parent: when the parent dies, however it dies, the kernel kills the child.

    python -m edge.broker.lifeline PROGRAM ARGUMENT...

A demo killed with SIGKILL cannot clean up; without this it would leave a broker, a daemon and a gate behind. The tie is made
here, after the fork and before the program begins, because code between fork and exec is not safe in a process with threads.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tie() -> None:
    """Ask the kernel to kill this process when its parent dies; without effect where there is no prctl."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:  # it died before we asked
        raise SystemExit("the parent process has gone")


def command(program: list[str]) -> list[str]:
    """The command line that runs a program tied to this process."""
    return [sys.executable, "-m", "edge.broker.lifeline", *program]


def main(argv: list[str]) -> None:
    """Tie, then become the program."""
    tie()
    os.execvp(argv[1], argv[1:])  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main(sys.argv)
