"""systemd's notify protocol: "I am ready", "I am alive", "I am stopping", as datagrams to the socket in NOTIFY_SOCKET.

Source: sd_notify(3). Without the variable nothing is sent. A name beginning with @ is in the abstract namespace.
"""

import logging
import os
import socket

logger = logging.getLogger(__name__)


class Notifier:
    """Speaks to the supervisor, if there is one.

    Args:
        address: value of NOTIFY_SOCKET, or empty.
        watchdog_us: value of WATCHDOG_USEC, 0 without a watchdog.
    """

    def __init__(self, address: str, watchdog_us: int) -> None:
        self._socket: socket.socket | None = None
        self.watchdog_s = watchdog_us / 1e6
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_environment(cls) -> "Notifier":
        """As systemd tells its service: NOTIFY_SOCKET, and WATCHDOG_USEC where WATCHDOG_PID is ours or not given."""
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = os.environ.get("WATCHDOG_USEC", "0") if ours else "0"
        return cls(os.environ.get("NOTIFY_SOCKET", ""), int(usec) if usec.isdigit() else 0)

    def ready(self, status: str) -> None:
        """The service is up."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog."""
        if self.watchdog_s:
            self._send("WATCHDOG=1")

    def patient(self, seconds: float) -> None:
        """A sign of life, after which the next may take so long; never less than what the unit says, which 0 gives back."""
        if self.watchdog_s:
            self._send(f"WATCHDOG_USEC={round(max(seconds, self.watchdog_s) * 1e6)}\nWATCHDOG=1")

    def stopping(self) -> None:
        """The service goes down on purpose."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Free the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as exc:
            # The supervisor's socket may be full or gone; that is no reason to stop inspecting.
            logger.debug("notify socket: %s", exc)
