"""The page's open connections: how many there may be, which of them send a request, and for how long they may."""

import logging
import socket
import threading
import time

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 48  # eight pages of six connections each
REQUEST_DEADLINE_S = 10.0  # from the first byte of a request to its last


class Connections:
    """Sockets of one server's connections, each served by a thread of its own. Callable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float | None] = {}

    @property
    def count(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._open)

    def enter(self, connection: socket.socket) -> bool:
        """Take a place; False when all are taken."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                return False
            self._open[connection] = None
            return True

    def leave(self, connection: socket.socket) -> None:
        """Give the place back, if it has one."""
        with self._lock:
            self._open.pop(connection, None)

    def reading(self, connection: socket.socket, *, since: bool) -> None:
        """Note that a connection begins (True) or has ended (False) to send a request."""
        with self._lock:
            if connection in self._open:
                self._open[connection] = time.monotonic() if since else None

    def drop_slow(self) -> None:
        """Hang up on peers that send their request a byte at a time."""
        limit = time.monotonic() - REQUEST_DEADLINE_S
        with self._lock:
            slow = [connection for connection, since in self._open.items() if since is not None and since < limit]
        for connection in slow:
            _hang_up(connection)

    def drop_all(self) -> None:
        """Hang up on everybody."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _hang_up(connection)


def _hang_up(connection: socket.socket) -> None:
    """Make a blocked read or write of the connection's own thread return; that thread closes the socket."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("the connection was closed already")
