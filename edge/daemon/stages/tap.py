"""Judged parts for whoever compares another model on them: a Unix socket beside the link `current`, one reader at a time.

Nothing here may cost a verdict. The publisher offers a part after its verdict has left; that is an append to a queue of two, and
nothing at all while nobody reads. Sending happens in a thread of the lowest priority with the interpreter's lock released; while
the reader is busy the older part gives way and is counted.
"""

import contextlib
import logging
import os
import select
import socket
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.daemon.stages.parts import Outcome
from edge.errors import ContractError
from edge.queues import Newest
from edge.wire.parts import PART_SCHEMA, SOCKET_NAME, PartHead, address, peer_uid, send_part
from edge.wire.verdict import Verdict

logger = logging.getLogger(__name__)

WAITING = 2  # parts of 5 megapixels are 15 MB each
LOOK_S = 0.2
SEND_S = 5.0  # a reader that takes nothing for so long is gone


class _Offered(NamedTuple):
    verdict: Verdict
    infer_ms: float
    pixels: NDArray[np.uint8]


class Tap:
    """Hands judged parts over.

    Args:
        folder: where the socket goes.

    Attributes:
        sent, dropped: parts handed over, and parts that gave way, since the start.
    """

    def __init__(self, folder: Path) -> None:
        self.sent = 0
        self.dropped = 0
        self._folder = folder
        self._queue = Newest[_Offered](WAITING)
        self._read = False
        self._reader: socket.socket | None = None

    def interrupt(self) -> None:
        """Let go of a reader that takes nothing: the daemon stops."""
        reader = self._reader
        if reader is not None:
            with contextlib.suppress(OSError):
                reader.shutdown(socket.SHUT_RDWR)

    def offer(self, verdict: Verdict, outcome: Outcome) -> None:
        """Take a part whose verdict has left; never waits. One thread calls this."""
        if not self._read or outcome.pixels is None or outcome.judgement is None or verdict.verdict == "invalid":
            return
        if self._queue.put(_Offered(verdict, outcome.infer_ms or 0.0, outcome.pixels)) is not None:
            self.dropped += 1

    def run(self, stop: threading.Event) -> None:
        """Serve one reader after the other until told to stop."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # on Linux this thread's own
        try:
            listener = self._listen()
        except OSError as exc:
            logger.warning("%s: no model can be compared on live parts: %s", self._folder / SOCKET_NAME, exc.strerror or exc)
            return
        with listener:
            while not stop.is_set():
                try:
                    connection = listener.accept()[0]
                except TimeoutError:
                    continue
                with connection:
                    self._serve(connection, stop)

    def _listen(self) -> socket.socket:
        path = self._folder / SOCKET_NAME
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with address(self._folder) as where:
                listener.bind(where)
            path.chmod(0o600)
            listener.listen(1)
            listener.settimeout(LOOK_S)
        except BaseException:
            listener.close()
            raise
        return listener

    def _serve(self, connection: socket.socket, stop: threading.Event) -> None:
        uid = peer_uid(connection)
        if uid not in {os.getuid(), 0}:
            logger.warning("parts: expected a reader of user %d, got one of user %d; refused", os.getuid(), uid)
            return
        connection.settimeout(SEND_S)
        before = self.dropped
        self._reader, self._read = connection, True
        try:
            while not stop.is_set():
                offered = self._queue.get(LOOK_S)
                if offered is not None:
                    send_part(connection, self._head(offered, self.dropped - before), offered.pixels)
                    self.sent += 1
                elif _gone(connection):
                    return
        except (OSError, ContractError) as exc:
            logger.debug("parts: the reader is gone: %s", exc)
        finally:
            self._reader, self._read = None, False
            while self._queue.get(0.0) is not None:  # no picture stays in memory for nobody
                pass

    @staticmethod
    def _head(offered: _Offered, dropped: int) -> PartHead:
        verdict, (height, width) = offered.verdict, offered.pixels.shape[:2]
        assert verdict.score is not None
        assert verdict.verdict != "invalid"
        return PartHead(
            PART_SCHEMA,
            verdict.boot,
            verdict.seq,
            verdict.ctx.model,
            verdict.verdict,
            verdict.score.cal,
            offered.infer_ms,
            height,
            width,
            dropped,
        )


def _gone(connection: socket.socket) -> bool:
    """Whether the reader has hung up: it never sends, so anything readable is its end.

    Asked without `recv`: on a socket with a timeout that waits the whole timeout first, whatever its flags say.
    """
    poll = select.poll()  # unlike select.select, whatever the descriptor's number
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
