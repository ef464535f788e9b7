"""Wires that can be made bad: a TCP proxy that delays, swallows or cuts, and a datagram relay that loses."""

import contextlib
import select
import socket
import threading
import time
from collections import deque

from edge.wire.trigger import OUTPUT


class Proxy:
    """Forwards TCP to a loopback port, from a port of its own or the one named.

    Attributes:
        delay_s: bytes towards the broker are held so long. swallow: bytes of both directions vanish, connections stay.
        deaf: bytes of the broker vanish, its acknowledgements among them.
    """

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.delay_s = 0.0
        self.swallow = False
        self.deaf = False
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._held: deque[tuple[float, socket.socket, bytes]] = deque()
        self._ended = threading.Event()
        self._cut = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close every connection; new ones are welcome."""
        self._cut.set()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            sources = [self._listener, *(end for pair in self._pairs for end in pair)]
            ready, _, _ = select.select(sources, [], [], 0.01 if self._held else 0.05)
            if self._cut.is_set():
                self._cut.clear()
                self._drop_all()
                continue
            for source in ready:
                self._accept() if source is self._listener else self._move(source)
            while self._held and self._held[0][0] <= time.monotonic():
                _, sink, data = self._held.popleft()
                with contextlib.suppress(OSError):
                    sink.sendall(data)
        self._drop_all()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target, 1.0)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append((client, server))

    def _move(self, source: socket.socket) -> None:
        pair = next((pair for pair in self._pairs if source in pair), None)
        if pair is None:
            return
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._pairs.remove(pair)
            for end in pair:
                end.close()
        elif not self.swallow and (source is pair[0] or not self.deaf):
            upwards = source is pair[0]
            until = time.monotonic() + (self.delay_s if upwards else 0.0)
            self._held.append((until, pair[1] if upwards else pair[0], data))

    def _drop_all(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()
        self._pairs.clear()
        self._held.clear()


class Relay:
    """Forwards datagrams to an address, losing one of `lose_every` (0 loses none, 1 all)."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.lose_every = 0
        self.lost = 0
        self._seen = 0
        self._target = target
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()
        return str(host), int(port)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                data = self._socket.recv(2048)
            except (TimeoutError, OSError):
                continue
            self._seen += 1
            if self.lose_every and self._seen % self.lose_every == 0:
                self.lost += 1
                continue
            self.note(data)
            with contextlib.suppress(OSError):
                self._socket.sendto(data, self._target)

    def note(self, data: bytes) -> None:
        """A datagram passes."""


class OutputRelay(Relay):
    """The gate's output on its way to the line, and a book of it.

    Attributes:
        opens: (part, CLOCK_MONOTONIC ns) of every `open`, by the gate's own stamp.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.opens: list[tuple[int, int]] = []
        super().__init__(target)

    def note(self, data: bytes) -> None:
        output = OUTPUT.decode(data)
        if output.count is not None and output.output == "open":
            self.opens.append((output.count, output.mono_us * 1000))
