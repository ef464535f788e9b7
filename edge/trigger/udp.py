"""Triggers as datagrams of the line, on loopback: the simulated line's light barrier."""

import contextlib
import errno
import logging
import socket
import threading

from edge.errors import ConfigError, ContractError
from edge.trigger.base import Deliver
from edge.wire.trigger import MAX_DATAGRAM_BYTES, TRIGGER

logger = logging.getLogger(__name__)

_BUFFER_BYTES = 256 * 1024  # some thousand triggers, for the moment in which the journal is slow


class UdpTrigger:
    """Listens for trigger datagrams.

    Args:
        host, port: where; port 0 takes a free one, see `address`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.name = f"udp {host}:{port}"
        self.refused = 0
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        if self._socket is None:
            raise RuntimeError("the trigger is not open")
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def open(self) -> None:
        """Take the port. Raises ConfigError: it is taken, or the address is not this machine's."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            opened.bind((self._host, self._port))
        except OSError as exc:
            opened.close()
            taken = "; another program, perhaps a second daemon, listens there" if exc.errno == errno.EADDRINUSE else ""
            raise ConfigError(
                f"trigger.listen: cannot listen on {self._host}:{self._port} ({exc.strerror}){taken}; choose another port"
            ) from exc
        opened.settimeout(0.2)
        self._socket = opened

    def run(self, stop: threading.Event, deliver: Deliver) -> None:
        """Deliver each good datagram; others are counted, and said once."""
        listening = self._socket
        if listening is None:
            raise RuntimeError("the trigger is not open")
        while not stop.is_set():
            try:
                payload = listening.recv(MAX_DATAGRAM_BYTES + 1)
            except TimeoutError:
                continue
            except OSError:
                if stop.is_set():
                    return
                raise
            try:
                trigger = TRIGGER.decode(payload)
            except ContractError as exc:
                self.refused += 1
                if self.refused == 1:
                    logger.warning("%s: a datagram is no trigger: %s (said once, counted from now on)", self.name, exc)
                continue
            deliver(trigger)

    def close(self) -> None:
        """Free the port."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
