"""A visitor of the page: requests, raw bytes, the stream; and a view to visit."""

import contextlib
import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edge.page.live import GateAckView, LiveView, PartView
from edge.page.server import PageServer
from tests.support.page_feed import STATE


def add(view: LiveView, seq: int, verdict: str = "pass", **fields: Any) -> None:
    pixels, heat = np.zeros((32, 48, 3), np.uint8), np.full((24, 24), 0.9, np.float32)
    defaults: dict[str, Any] = {"part_id": "SN-1", "reasons": (), "pixels": pixels, "anomaly_map": heat, "verdict_ms": 15.0}
    numbers: dict[str, Any] = {"cal": 0.4, "p": 0.3, "st": 0.2, "ae": 0.4, "global_": 0.1, "infer_ms": 9.8, "slack_ms": 205.0}
    view.add_part(PartView(seq=seq, verdict=verdict, trig_us=0, **(defaults | numbers | fields)))


def make_view() -> LiveView:
    """A view with a part that passed, one that was rejected, and answers of the gate."""
    view = LiveView()
    view.set_state(STATE)
    add(view, 1)
    add(view, 2, "reject", reasons=("logical",), cal=1.7)
    view.add_ack(GateAckView(1, "pass", "verdict", "g1", 180.0, fired=False))
    view.add_ack(GateAckView(None, "reject", "missing", "g1"))
    return view


def port_of(page: PageServer) -> int:
    return int(urlsplit(page.url).port or 0)


class Reply:
    """A status, headers and a body."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()


def ask(page: PageServer, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        return Reply(connection.getresponse())


def raw(page: PageServer, data: bytes) -> bytes:
    """Send bytes, return all that comes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port_of(page)), timeout=5) as wire:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.sendall(data)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := wire.recv(65536):
                got += chunk
        return got


class Stream:
    """A reader of /live."""

    def __init__(self, page: PageServer) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)
        self.connection.request("GET", "/live")
        self.answer = self.connection.getresponse()

    def message(self) -> dict[str, Any]:
        line = self.answer.readline()
        assert line.startswith(b"data: "), line
        assert self.answer.readline() == b"\n"
        got: dict[str, Any] = json.loads(line[6:])
        return got

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def wait_until(condition, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.01)
