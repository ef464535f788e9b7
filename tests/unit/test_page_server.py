"""Every address of the page, every malformed request, every bound of its server."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from edge import __version__
from edge.errors import ConfigError
from edge.page import connections as connections_module
from edge.page import handler as handler_module
from edge.page import site as site_module
from edge.page.live import GateAckView, LiveView, PartView
from edge.page.server import PageServer
from edge.page.site import STATIC, Site
from edge.wire.verdict import REASONS
from tests.support.page_feed import STATE


def add(view: LiveView, seq: int, verdict: str = "pass", **fields: Any) -> None:
    pixels, heat = np.zeros((32, 48, 3), np.uint8), np.full((24, 24), 0.9, np.float32)
    defaults: dict[str, Any] = {"part_id": "SN-1", "reasons": (), "pixels": pixels, "anomaly_map": heat, "verdict_ms": 15.0}
    numbers: dict[str, Any] = {"cal": 0.4, "p": 0.3, "st": 0.2, "ae": 0.4, "global_": 0.1, "infer_ms": 9.8, "slack_ms": 205.0}
    view.add_part(PartView(seq=seq, verdict=verdict, trig_us=0, **(defaults | numbers | fields)))


@pytest.fixture
def view() -> LiveView:
    view = LiveView()
    view.set_state(STATE)
    add(view, 1)
    add(view, 2, "reject", reasons=("logical",), cal=1.7)
    view.add_ack(GateAckView(1, "pass", "verdict", "g1", 180.0, fired=False))
    view.add_ack(GateAckView(None, "reject", "missing", "g1"))
    return view


@pytest.fixture
def page(view: LiveView) -> Iterator[PageServer]:
    with PageServer(view) as server:
        yield server


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


# -------------------------------------------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/api/state.json", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", "application/json"),
        ("/picture/2.jpg", "image/jpeg"),
        ("/heat/2.png", "image/png"),
        ("/picture/2.jpg?run=abc", "image/jpeg"),
    ],
)
def test_every_address_answers_with_its_type_and_the_security_headers(page, path, kind):
    reply = ask(page, path)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == kind
    assert reply.body
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in reply.headers
    head = ask(page, path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    if path not in {"/metrics", "/api/state.json", "/healthz"}:  # those differ from call to call
        assert head.headers["Content-Length"] == str(len(reply.body))


def test_the_state_holds_what_the_page_shows(page):
    state = json.loads(ask(page, "/api/state.json").body)
    assert [part["verdict"] for part in state["parts"]] == ["pass", "reject"]
    assert state["parts"][1] | {"regions": []} == state["parts"][1]
    assert state["parts"][0]["gate"] == {
        "decision": "pass", "why": "verdict", "gate": "g1", "slack_ms": 180.0, "fired": False, "confirmed": None,
    }  # fmt: skip
    assert state["counts"] == {"pass": 1, "reject": 1, "invalid": 0, "uncertain": 0}
    assert state["gate"] == {"pass/verdict": 1, "reject/missing": 1}
    assert state["state"] == STATE
    assert state["latency"]["infer"]["p99"] == 9.8


def test_health_is_about_the_server_not_about_the_belt(page):
    health = json.loads(ask(page, "/healthz").body)
    assert health["ok"] is True
    assert health["version"] == __version__
    assert 0 <= health["idle_s"] < 60


def test_metrics_follow_prometheus_rules(view, page):
    view.set_state({**STATE, "model": {**STATE["model"], "name": 'evil"\\\n} 1\nonbelt_armed 7'}})
    text = ask(page, "/metrics").body.decode()
    sample = re.compile(r'([a-z_]+)(\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? (\S+)')
    typed, values = set(), {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            match = sample.fullmatch(line)
            assert match, line
            assert any(match[1] == name or match[1].removesuffix(suffix) == name for name in typed
                       for suffix in ("_bucket", "_sum", "_count")), line  # fmt: skip
            values[match[1] + (match[2] or "")] = float(match[3])
    assert values['onbelt_parts_total{verdict="reject"}'] == 1
    assert values['onbelt_gate_decisions_total{decision="reject",why="missing"}'] == 1
    assert values["onbelt_armed"] == 1
    assert values['onbelt_infer_seconds_bucket{le="0.01"}'] == 2
    assert values['onbelt_infer_seconds_bucket{le="0.00562341"}'] == 0
    assert values["onbelt_infer_seconds_sum"] == pytest.approx(0.0196)
    buckets = [value for key, value in values.items() if key.startswith("onbelt_slack_seconds_bucket")]
    assert buckets == sorted(buckets)


def test_metrics_stand_a_state_that_is_not_what_the_page_expects(view, page):
    view.set_state({"armed": "perhaps", "model": ["x"]})
    text = ask(page, "/metrics").body.decode()
    assert "onbelt_armed " not in text
    assert f'onbelt_info{{version="{__version__}"}} 1' in text


def test_static_files_are_sent_again_only_when_they_changed(page):
    first = ask(page, "/page.js")
    again = ask(page, "/page.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert ask(page, "/page.js", headers={"If-None-Match": '"other"'}).status == 200


def test_a_connection_serves_many_requests(page):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)) as connection:
        for path, status in [("/", 200), ("/nothing", 404), ("/healthz", 200), ("/picture/99.jpg", 404), ("/heat/2.png", 200)]:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == status
            answer.read()


# -------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/static/index.html",
        "/page.js/",
        "/page.js%00",
        "/index.html",
        "/picture/../page.js",
        "/picture/2.png",
        "/heat/2.jpg",
        "/picture/-1.jpg",
        "/picture/2.jpg/",
        "/picture/2e3.jpg",
        "/picture/.jpg",
        "/picture/99999999999999999999.jpg",
        "/picture/٢.jpg",
        "/picture/2.jpg%0a",
        "http://127.0.0.1/etc/passwd",
        "*",
        "/live/",
        "/api/",
    ],
)
def test_other_paths_are_not_found(page, path):
    got = raw(page, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert got.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), got[:100]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_only_get_and_head_are_answered(page, method):
    got = raw(page, f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in got


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\r\n\r\n", None),
        (b"GET\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET / HTTP/x.y\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1 more\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 120 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 421),
    ],
)
def test_a_malformed_request_gets_a_short_refusal_and_the_server_lives_on(page, request_bytes, status):
    got = raw(page, request_bytes + b"GET /page.css HTTP/1.1\r\nHost: localhost\r\n\r\n" if status is None else request_bytes)
    if status is not None:
        assert got.startswith(f"HTTP/1.1 {status} ".encode()), got[:200]
        assert got.count(b"HTTP/1.1 ") == 1
        assert b"Content-Security-Policy" in got
        assert len(got) < 1500
    assert ask(page, "/healthz").status == 200


def test_what_was_sent_is_not_repeated_in_a_refusal(page):
    got = raw(page, b"GET /<script>alert(1)</script> HTTP/9.<b>\r\nHost: <i>\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b"<" not in got


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "192.168.7.4", "[::1]:80", "[fe80::1]", "box.example", "localhost."]
)
def test_names_that_are_this_machine_are_served(view, host):
    site = Site(view, allowed_hosts=("Box.example",))
    assert site.knows_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        " ",
        "localhost@evil.example",
        "[::1",
        "a b",
        "1.2.3.4:x",
        "2130706433",
    ],
)
def test_names_that_could_be_rebound_are_refused(view, page, host):
    assert not Site(view).knows_host(host)
    got = raw(page, f"GET /api/state.json HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 421 ")
    assert b"SN-1" not in got
    assert b"allowed hosts" in got


# -------------------------------------------------------------------------------------------------- the stream
def test_the_stream_begins_with_everything_and_goes_on_with_what_changed(view, page):
    stream = Stream(page)
    with contextlib.closing(stream):
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        first = stream.message()
        assert [part["seq"] for part in first["live"]["parts"]] == [1, 2]
        assert first["live"]["reset"] is True
        assert first["words"] == REASONS
        assert first["whys"]["missing"] == "no verdict came"
        add(view, 3)
        second = stream.message()
        assert [part["seq"] for part in second["live"]["parts"]] == [3]
        assert "words" not in second


def test_the_stream_speaks_at_least_once_a_second_when_nothing_happens(page):
    stream = Stream(page)
    with contextlib.closing(stream):
        stream.message()
        start = time.monotonic()
        assert stream.message()["live"]["parts"] == []
        assert time.monotonic() - start < 2.0


def test_many_parts_become_few_messages_and_none_is_lost(view, page):
    stream = Stream(page)
    with contextlib.closing(stream):
        stream.message()
        start = time.monotonic()

        def feed() -> None:
            for seq in range(10, 310):
                add(view, seq)
                time.sleep(0.003)

        feeder = threading.Thread(target=feed)
        feeder.start()
        seqs: list[int] = []
        messages = 0
        while not seqs or seqs[-1] < 309:
            seqs += [part["seq"] for part in stream.message()["live"]["parts"]]
            messages += 1
        feeder.join(5)
        assert seqs == list(range(10, 310))
        assert messages <= (time.monotonic() - start) * 10 + 2


def test_a_browser_that_stops_reading_is_dropped_and_nothing_piles_up(view, page, monkeypatch):
    monkeypatch.setattr(handler_module, "SEND_S", 0.3)
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", port_of(page)))
        wire.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: page._site.readers == 1)
        end = time.monotonic() + 15
        while page._site.readers:
            assert time.monotonic() < end, "still served"
            view.set_state({"reasons": ["x" * 60_000]})
            time.sleep(0.02)
    assert ask(page, "/healthz").status == 200


def test_the_number_of_open_pages_is_bounded(page, monkeypatch):
    monkeypatch.setattr(site_module, "MAX_LIVE", 2)
    streams = [Stream(page) for _ in range(3)]
    try:
        assert [stream.answer.status for stream in streams] == [200, 200, 503]
        assert streams[2].answer.headers["Retry-After"] == "5"
        streams[0].close()
        # The server notices when it next writes, a second later at most.
        wait_until(lambda: page._site.readers == 1)
        replacement = Stream(page)
        streams.append(replacement)
        assert replacement.answer.status == 200
    finally:
        for stream in streams:
            stream.close()


# -------------------------------------------------------------------------------------------------- bounds
def test_the_number_of_connections_is_bounded(page, monkeypatch):
    monkeypatch.setattr(connections_module, "MAX_CONNECTIONS", 3)
    idle = [socket.create_connection(("127.0.0.1", port_of(page)), timeout=5) for _ in range(3)]
    server = page._server
    assert server is not None
    wait_until(lambda: server.connections.count == 3)
    assert raw(page, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 503 ")
    for wire in idle:
        wire.close()
    wait_until(lambda: server.connections.count == 0)
    assert ask(page, "/healthz").status == 200


def test_a_request_sent_a_byte_at_a_time_is_cut_off(page, monkeypatch):
    monkeypatch.setattr(connections_module, "REQUEST_DEADLINE_S", 0.5)
    with socket.create_connection(("127.0.0.1", port_of(page)), timeout=5) as wire:
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * 1000:
                wire.sendall(bytes([byte]))
                time.sleep(0.05)
                assert time.monotonic() - start < 4, "still listening to it"


def test_a_silent_connection_is_closed(page, monkeypatch):
    monkeypatch.setattr(handler_module, "IDLE_S", 0.2)
    assert raw(page, b"") == b""
    assert raw(page, b"GET / HT") == b""


# -------------------------------------------------------------------------------------------------- start and stop
def test_the_port_that_is_taken_is_named_with_the_remedy(view, page):
    port = port_of(page)
    with pytest.raises(ConfigError, match=rf"port {port} is taken .*another port; 0 takes a free one"):
        PageServer(view, port=port).start()


def test_an_address_of_another_machine_is_refused(view):
    with pytest.raises(ConfigError, match=r"203\.0\.113\.7:0 is not an address of this machine; use 127\.0\.0\.1"):
        PageServer(view, host="203.0.113.7").start()


def test_a_port_out_of_range_is_refused(view):
    with pytest.raises(ConfigError, match="expected a port of 0 to 65535, got 70000"):
        PageServer(view, port=70_000).start()


def test_closing_is_quick_whoever_is_connected_and_frees_the_port(view):
    page = PageServer(view)
    page.start()
    port = port_of(page)
    stream = Stream(page)
    stream.message()
    with contextlib.closing(stream), socket.create_connection(("127.0.0.1", port), timeout=5):
        start = time.monotonic()
        page.close()
        page.close()
        assert time.monotonic() - start < 1.5
    with pytest.raises(RuntimeError, match="not running"):
        _ = page.url
    assert not [thread for thread in threading.enumerate() if thread.name == "page"]
    with PageServer(view, port=port) as again:
        assert ask(again, "/healthz").status == 200


def test_starting_twice_is_a_mistake(page):
    with pytest.raises(RuntimeError, match="started already"):
        page.start()


def test_a_closed_page_can_be_started_again(view):
    page = PageServer(view)
    for _ in range(2):
        page.start()
        stream = Stream(page)
        with contextlib.closing(stream):
            assert stream.message()["live"]["reset"]
        page.close()


def test_it_listens_on_this_machine_only_unless_told_otherwise(page):
    assert page.url.startswith("http://127.0.0.1:")


# -------------------------------------------------------------------------------------------------- what is shipped
@pytest.mark.parametrize("name", sorted(name for name, _ in STATIC.values()))
def test_a_shipped_file_needs_nothing_from_elsewhere_and_nothing_inline(name):
    text = (files("edge.page") / "static" / name).read_text()
    links = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert links <= {"http://www.w3.org/2000/svg"}
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", text)
        for target in re.findall(r'(?:src|href)="([^"#]+)"', text):
            assert target in STATIC, target


def test_the_script_puts_in_text_only():
    script = "".join((files("edge.page") / "static" / name).read_text() for name in ("page.js", "whatif.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script)


def test_every_element_the_script_asks_for_is_in_the_page():
    folder = files("edge.page") / "static"
    html = (folder / "index.html").read_text()
    script = "".join((folder / name).read_text() for name in ("page.js", "whatif.js"))
    asked = set(re.findall(r'byId\("([\w-]+)"\)', script))
    there = re.findall(r'\sid="([\w-]+)"', html)
    assert asked <= set(there)
    assert len(there) == len(set(there))
