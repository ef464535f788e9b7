"""One connection to the page: reads requests, checks them, answers from a fixed table of paths.

What it refuses, and why: a Host header with an unknown DNS name (a web site could point its own name at this machine and read
the page through a visitor's browser: DNS rebinding; an IP address cannot be pointed anywhere), methods other than GET and
HEAD, bodies, long request lines and headers, HTTP/0.9. Paths are looked up; evidence alone is a file's name, of hex digits only.
"""

import logging
import re
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer
from typing import Any, cast

import msgspec

from edge import __version__
from edge.journal.evidence import frame_path, map_path
from edge.page.connections import Connections
from edge.page.metrics import metrics_text
from edge.page.rows import WHYS
from edge.page.site import MAX_LIVE, Site
from edge.wire.verdict import REASONS

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 2048
MAX_HEAD_BYTES = 16 * 1024
IDLE_S = 30.0  # a connection kept alive between two requests
SEND_S = 5.0  # a reader that takes nothing for so long is gone
LIVE_INTERVAL_S = 0.1
LIVE_BEAT_S = 1.0  # sent even when nothing changes, so that the page notices a dead connection
LIVE_BUFFER_BYTES = 128 * 1024  # the kernel would hold megabytes for a browser that has stopped reading
DRAIN_BYTES = 256 * 1024
_EVIDENCE = re.compile(r"/evidence/([0-9a-f]{32})(\.map)?\Z")
_PICTURE = re.compile(r"/(picture|heat)/([0-9]{1,19})\.(jpg|png)\Z")
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_SECURITY = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class _RefusedError(Exception):
    """A request that is answered with an error; carries the status and a line of text."""

    def __init__(self, status: HTTPStatus, text: str, *, close: bool = True, allow: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.close = close
        self.allow = allow


class _Head:
    """Reads a request's head and stops at 16 KiB, where the standard library would take 6 MB."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = MAX_HEAD_BYTES

    def readline(self, size: int = -1) -> bytes:
        limit = min(self._left, MAX_HEAD_BYTES if size < 0 else size)
        line: bytes = self._source.readline(limit)
        self._left -= len(line)
        if self._left <= 0:
            raise _RefusedError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"expected a request head of at most {MAX_HEAD_BYTES} bytes"
            )
        return line


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, site: Site, connections: Connections, request: Any, client_address: Any, server: BaseServer) -> None:
        self._site = site
        self._connections = connections
        super().__init__(request, client_address, server)  # answers, and returns when the connection has ended

    def handle(self) -> None:
        """Serve requests until the peer or the server ends the connection."""
        self.close_connection = False
        while not self.close_connection and not self._site.stopping.is_set():
            self.handle_one_request()

    def handle_one_request(self) -> None:
        """Read one request, check it, answer it."""
        wire = self.rfile
        try:
            self.connection.settimeout(IDLE_S)
            if not wire.peek(1):  # type: ignore[attr-defined]
                self.close_connection = True
                return
            self._connections.reading(self.connection, since=True)
            self.rfile = cast("Any", _Head(wire))
            try:
                ready = self._read()
            finally:
                self.rfile = wire
                self._connections.reading(self.connection, since=False)
            self.connection.settimeout(SEND_S)
            if ready:
                self._answer()
        except _RefusedError as refusal:
            self._refuse(refusal)
        except (TimeoutError, ConnectionError) as exc:
            logger.debug("%s: %s", self.client_address, exc)
            self.close_connection = True

    def _read(self) -> bool:
        """Read line and headers; False when the parser has answered already."""
        self.command = ""
        self.raw_requestline = self.rfile.readline(MAX_LINE_BYTES + 1)
        if len(self.raw_requestline) > MAX_LINE_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, f"expected a request line of at most {MAX_LINE_BYTES} bytes")
        if not self.parse_request():
            return False
        if self.request_version == "HTTP/0.9":
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "expected HTTP/1.0 or 1.1")
        if self.headers.get("Content-Length", "0").strip() != "0" or "Transfer-Encoding" in self.headers:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "expected no body")
        return True

    def _answer(self) -> None:
        if self.command not in {"GET", "HEAD"}:
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD: the page only shows", allow=True)
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not self._site.knows_host(hosts[0]):
            raise _RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this page answers to IP addresses, localhost and this machine's name only; "
                "add the name you used to the page's allowed hosts",
            )
        path = self.path.partition("?")[0]
        if path in self._site.static:
            self._static(path)
        elif path == "/live":
            self._stream()
        elif path == "/api/state.json":
            self._send(msgspec.json.encode(self._site.view.snapshot()), "application/json")
        elif path == "/api/whatif.json":
            self._send(self._site.view.whatif, "application/json")
        elif path == "/metrics":
            text = metrics_text(self._site.view, readers=self._site.readers)
            self._send(text.encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/healthz":
            snapshot = self._site.view.snapshot(self._site.view.revision)
            health = {"ok": True, "version": __version__, "idle_s": snapshot.idle_s, "readers": self._site.readers}
            self._send(msgspec.json.encode(health), "application/json")
        elif (match := _PICTURE.match(path)) is not None and (match[1], match[3]) in {("picture", "jpg"), ("heat", "png")}:
            self._picture(match[1], int(match[2]))
        elif (match := _EVIDENCE.match(path)) is not None and self._site.evidence is not None:
            self._evidence(self._site.evidence, f"sha256:{match[1]}", of_map=bool(match[2]))
        else:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "no such page", close=False)

    def _static(self, path: str) -> None:
        body, kind, tag = self._site.static[path]
        if self.headers.get("If-None-Match") == tag:
            self._send(b"", kind, status=HTTPStatus.NOT_MODIFIED, extra={"ETag": tag, "Cache-Control": "no-cache"})
        else:
            self._send(body, kind, extra={"ETag": tag, "Cache-Control": "no-cache"})

    def _picture(self, kind: str, seq: int) -> None:
        pictures = self._site.pictures
        body = pictures.jpeg(seq) if kind == "picture" else pictures.heat(seq)
        if body is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "this part's picture is no longer kept, or it never had one", close=False)
        # A part's picture never changes within one run of the daemon, but the next run counts from 1 again.
        cache = {"Cache-Control": "private, max-age=600"}
        self._send(body, "image/jpeg" if kind == "picture" else "image/png", extra=cache)

    def _evidence(self, folder: Path, digest: str, *, of_map: bool) -> None:
        path = map_path(folder, digest) if of_map else frame_path(folder, digest)
        try:
            body = path.read_bytes()
        except OSError:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "this evidence is not kept, or not any more", close=False) from None
        # Named by its content: what was fetched once never changes.
        self._send(body, "image/png", extra={"Cache-Control": "private, max-age=31536000, immutable"})

    def _stream(self) -> None:
        """Server-Sent Events: what changed, at most ten times a second, at least once a second, until one side ends it."""
        site = self._site
        self.close_connection = True
        head = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if self.command == "HEAD":
            self._head(HTTPStatus.OK, "text/event-stream", None, head)
            return
        if not site.enter_live():
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"expected at most {MAX_LIVE} open pages; close one")
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LIVE_BUFFER_BYTES)
            self._head(HTTPStatus.OK, "text/event-stream", None, head)
            known, quiet_s = 0, 0.0
            while not site.stopping.is_set():
                if site.view.revision != known or quiet_s >= LIVE_BEAT_S:
                    snapshot = site.view.snapshot(known)
                    message: dict[str, Any] = {"every_ms": site.pictures.interval_ms(site.readers), "live": snapshot}
                    if snapshot.reset:
                        message |= {"words": REASONS, "whys": WHYS}
                    self.connection.sendall(b"data: " + msgspec.json.encode(message) + b"\n\n")
                    known, quiet_s = snapshot.revision, 0.0
                site.stopping.wait(LIVE_INTERVAL_S)
                quiet_s += LIVE_INTERVAL_S
        finally:
            site.leave_live()

    def _refuse(self, refusal: _RefusedError) -> None:
        self.close_connection = self.close_connection or refusal.close
        extra = {"Allow": "GET, HEAD"} if refusal.allow else {}
        if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
            extra["Retry-After"] = "5"
        try:
            self.connection.settimeout(SEND_S)
            self._send(f"{refusal}\n".encode(), "text/plain; charset=utf-8", status=refusal.status, extra=extra)
            if self.close_connection:
                self._drain()
        except OSError as exc:
            logger.debug("%s: %s", self.client_address, exc)
            self.close_connection = True

    def _drain(self) -> None:
        """Take what the peer still sends, within bounds: closing on unread bytes resets the connection under our answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(0.2)
        left = DRAIN_BYTES
        while left > 0 and (chunk := self.connection.recv(16384)):
            left -= len(chunk)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The parser's own refusals, in our form; what the peer sent is not repeated to it."""
        del message, explain
        status = HTTPStatus(code)
        self._refuse(_RefusedError(status, status.phrase))

    def _send(self, body: bytes, kind: str, *, status: HTTPStatus = HTTPStatus.OK, extra: dict[str, str] | None = None) -> None:
        head = {"Cache-Control": "no-store"} | (extra or {})
        self._head(status, kind, len(body), head, b"" if self.command == "HEAD" else body)

    def _head(self, status: HTTPStatus, kind: str, length: int | None, extra: dict[str, str], body: bytes = b"") -> None:
        """Send status line, headers and body in one write."""
        headers = {"Content-Type": kind, **_SECURITY, **extra}
        if length is not None and status != HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(length)
        if self.close_connection:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.connection.sendall("\r\n".join(lines).encode("latin-1") + body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are worth a line when debugging only."""
        logger.debug("%s %s", self.client_address, format % args)
