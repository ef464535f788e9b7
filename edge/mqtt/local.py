"""A way from station to gate on the same box that needs no broker: datagrams on a Unix socket, the same messages as on MQTT.

Each datagram is a topic, a zero byte, and the payload. The gate takes both ways alike: whichever comes first counts, the other
is a duplicate, and every rule holds for both. Acks go by MQTT, for people. Who may write the socket is decided by its folder's
rights, as for any file; verdicts may be sealed besides.

The gate makes the socket. Until it does, and after it has gone, nothing is sent and nothing waits. What is retained on MQTT is
said again every second, for a gate that has just started.
"""

import contextlib
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

from edge.errors import ConfigError

MAX_DATAGRAM_BYTES = 8 * 1024  # a birth has at most 4 kB
MAX_PER_TURN = 64


class LocalGate:
    """The station's end.

    Args:
        path: the gate's socket. kept: topics that are said again.
    """

    def __init__(self, path: Path, kept: Collection[str]) -> None:
        self.sent = 0
        self._path = str(path)
        self._kept = frozenset(kept)
        self._latest: dict[str, bytes] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def send(self, topic: str, payload: bytes) -> None:
        """Hand one message over, or not: a gate that is not there rejects by itself. Never waits."""
        if topic in self._kept:
            self._latest[topic] = payload
        with contextlib.suppress(OSError):
            self._socket.sendto(topic.encode() + b"\0" + payload, self._path)
            self.sent += 1

    def refresh(self) -> None:
        """Say again what is retained."""
        for topic, payload in tuple(self._latest.items()):
            self.send(topic, payload)

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()


class LocalEar:
    """The gate's end: makes the socket, mode 0600.

    Args:
        path: where. topics: what is taken; anything else is counted and dropped.

    Raises:
        ConfigError: another gate listens there, or the folder cannot be written.
    """

    def __init__(self, path: Path, topics: Iterable[str]) -> None:
        self.refused = 0
        self._path = path
        self._topics = {topic.encode(): topic for topic in topics}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._clear_stale()
            self._socket.bind(str(path))
            path.chmod(0o600)
        except OSError as exc:
            self._socket.close()
            raise ConfigError(
                f"line.socket: {path} cannot be used ({exc.strerror}); its folder must exist and belong to this user"
            ) from exc
        except ConfigError:
            self._socket.close()
            raise

    def _clear_stale(self) -> None:
        if not self._path.is_socket():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()  # of a gate that was killed
                return
        raise ConfigError(f"line.socket: somebody listens at {self._path} already; is another gate running?")

    def fileno(self) -> int:
        """For poll: readable when a message waits."""
        return self._socket.fileno()

    def messages(self) -> list[tuple[str, bytes]]:
        """(topic, payload) of what waits, 64 at most: a flood must not keep the loop from deciding."""
        found = []
        for _ in range(MAX_PER_TURN):
            try:
                datagram = self._socket.recv(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                break
            name, zero, payload = datagram.partition(b"\0")
            topic = self._topics.get(name)
            if topic is None or not zero or len(datagram) > MAX_DATAGRAM_BYTES:
                self.refused += 1
                continue
            found.append((topic, payload))
        return found

    def close(self) -> None:
        """Take the socket away."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
