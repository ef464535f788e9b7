"""The page's HTTP server: standard library, one thread per connection, everything bounded.

It listens on 127.0.0.1 unless told otherwise, reads only GET and HEAD without a body, serves a fixed table of paths, and
limits connections, request sizes and the time a peer may take. A browser that stops reading is disconnected; nothing is queued
for it. The server never touches the daemon's state: it reads a `LiveView`.
"""

import errno
import logging
import socket
import socketserver
import threading
import time
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from edge.errors import ConfigError
from edge.page.connections import Connections
from edge.page.handler import Handler
from edge.page.live import LiveView
from edge.page.site import Site

logger = logging.getLogger(__name__)

CLOSE_DEADLINE_S = 2.0
_POLL_S = 0.1  # how soon `close` is noticed, and how often slow senders are looked for
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\nRetry-After: 2\r\n"
    b"Connection: close\r\n\r\ntoo many connections\n"
)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        # A colon is found in IPv6 addresses only.
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.connections = Connections()
        super().__init__(address, partial(Handler, site, self.connections))

    def server_bind(self) -> None:
        # HTTPServer would ask the name service for our own name, which can take seconds on a network without one.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.connections.enter(request):
            request.settimeout(0.2)
            try:
                request.sendall(_BUSY)
            except OSError:
                logger.debug("a refused connection was gone before it could be told")
            super().shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.leave(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called ten times a second."""
        self.connections.drop_slow()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Called inside the except block of the connection's thread. The peer's faults are handled where they happen.
        del request
        logger.exception("page: answering %s failed", client_address)


class PageServer:
    """Serves the page of one `LiveView`.

    Args:
        view: what to show.
        host: address to listen on; the default is this machine only.
        port: 0 takes a free one, see `url`.
        allowed_hosts: further names the page is reached by, besides IP addresses, localhost and this machine's own name.
        evidence: folder of stored frames, served by hash; None serves none.
    """

    def __init__(
        self,
        view: LiveView,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        allowed_hosts: tuple[str, ...] = (),
        evidence: Path | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._site = Site(view, allowed_hosts=allowed_hosts, evidence=evidence)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen and serve in the background.

        Raises:
            ConfigError: the port is taken or not allowed, or the address is not one of this machine's.
        """
        if self._server is not None:
            raise RuntimeError("the page's server was started already")
        where = f"{self._host}:{self._port}"
        try:
            self._server = _Server((self._host, self._port), self._site)
        except OverflowError as exc:
            raise ConfigError(f"page: expected a port of 0 to 65535, got {self._port}") from exc
        except OSError as exc:
            raise ConfigError(_bind_message(where, self._port, exc)) from exc
        self._site.stopping.clear()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL_S}, name="page", daemon=True
        )
        self._thread.start()
        logger.info("page at %s", self.url)

    @property
    def url(self) -> str:
        """Where the page is, with a trailing slash."""
        if self._server is None:
            raise RuntimeError("the page's server is not running")
        host = self._host
        if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            host = "127.0.0.1" if host != "::" else "::1"
        return f"http://[{host}]:{self._server.server_port}/" if ":" in host else f"http://{host}:{self._server.server_port}/"

    def close(self) -> None:
        """Stop serving, hang up on every browser and free the port. May be called twice."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is None or thread is None:
            return
        self._site.stopping.set()
        server.shutdown()
        thread.join(CLOSE_DEADLINE_S)
        server.connections.drop_all()
        deadline = time.monotonic() + CLOSE_DEADLINE_S
        while server.connections.count and time.monotonic() < deadline:
            time.sleep(0.01)
        server.server_close()

    def __enter__(self) -> "PageServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bind_message(where: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"page: port {port} is taken ({where}); another program listens there, perhaps a second daemon. "
            f"Stop it (`ss -ltnp 'sport = :{port}'` names it) or give the page another port; 0 takes a free one"
        )
    if exc.errno == errno.EACCES:
        return f"page: port {port} is reserved for the system ({where}); give the page a port above 1023"
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"page: {where} is not an address of this machine; use 127.0.0.1, or 0.0.0.0 to be seen on every network it is on"
    return f"page: cannot listen on {where}: {exc}"
