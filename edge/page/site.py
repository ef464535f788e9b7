"""What every connection to the page shares: the view, encoded pictures, static files, host names, places for readers."""

import hashlib
import ipaddress
import re
import socket
import threading
from importlib.resources import files
from pathlib import Path

from edge.page.live import LiveView
from edge.page.pictures import Pictures

MAX_LIVE = 12
STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/whatif.js": ("whatif.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Site:
    """What all connections share: the view, the encoded pictures, the static files, and the stop signal."""

    def __init__(self, view: LiveView, *, allowed_hosts: tuple[str, ...] = (), evidence: Path | None = None) -> None:
        self.view = view
        self.evidence = evidence
        self.pictures = Pictures(view)
        self.stopping = threading.Event()
        self.static: dict[str, tuple[bytes, str, str]] = {}
        for path, (name, kind) in STATIC.items():
            body = (files("edge.page") / "static" / name).read_bytes()
            self.static[path] = (body, kind, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in allowed_hosts)}
        self._lock = threading.Lock()
        self._live = 0

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this machine: an IP address, localhost, our own name or one allowed by configuration."""
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", header.strip())
        if match is None:
            return False
        name = match[1].strip("[]").rstrip(".").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    @property
    def readers(self) -> int:
        """How many browsers follow the live stream."""
        return self._live

    def enter_live(self) -> bool:
        """Take a place among the live readers; False when all are taken."""
        with self._lock:
            if self._live >= MAX_LIVE:
                return False
            self._live += 1
            return True

    def leave_live(self) -> None:
        """Give the place back."""
        with self._lock:
            self._live -= 1
