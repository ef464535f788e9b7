"""Log records to journald with fields of their own, where the service manager has connected our standard error to it.

    journalctl -u onbelt LOGGER=edge.daemon.state.phase -p warning
    journalctl -u onbelt ONBELT_STATION=st2 -o verbose

Elsewhere nothing changes. A field's value may hold newlines, so records go in the binary form; a record that is too large, or a
socket that is gone, is printed on standard error as usual: no message is lost.

Source: systemd, Native Journal Protocol; sd_journal_stream_fd(3) and systemd.exec(5) on JOURNAL_STREAM.
"""

import logging
import os
import socket
import sys
from typing import TextIO

SOCKET = "/run/systemd/journal/socket"
_MOST_BYTES = 64 * 1024
_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
fields: dict[str, str] = {}
"""Fields on every record from here on, by their upper-case names: set once at start (ONBELT_STATION, ONBELT_BOOT)."""


def connected(stream: TextIO) -> bool:
    """The service manager says that this stream leads to the journal, and it still is that stream."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        state = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(state.st_dev), str(state.st_ino))


class JournalHandler(logging.Handler):
    """Sends records to journald.

    Args:
        path: of its socket; tests have their own.
    """

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never raises."""
        try:
            payload = self._encode(record)
            if len(payload) <= _MOST_BYTES:
                self._socket.sendto(payload, self._path)
                return
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - a log record must not end its thread
            self.handleError(record)
            return
        print(self.format(record), file=sys.stderr)

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()
        super().close()

    def _encode(self, record: logging.LogRecord) -> bytes:
        values = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_PRIORITY.get(record.levelno, 6)),
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName or "",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            "SYSLOG_IDENTIFIER": "onbelt",
            **fields,
        }
        return b"".join(_field(name, value) for name, value in values.items())


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
