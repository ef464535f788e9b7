"""Every address of the page, and every malformed request."""

import contextlib
import http.client
import json
import re
from collections.abc import Iterator

import pytest

from edge import __version__
from edge.page.live import LiveView
from edge.page.server import PageServer
from edge.page.site import Site
from tests.support.page_client import ask, make_view, port_of, raw
from tests.support.page_feed import STATE


@pytest.fixture
def view() -> LiveView:
    return make_view()


@pytest.fixture
def page(view: LiveView) -> Iterator[PageServer]:
    with PageServer(view) as server:
        yield server


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
    assert state["latency"]["at_gate"] == {"p50": 180.0, "p99": 180.0, "p999": 180.0, "min": 180.0, "max": 180.0, "n": 1.0}


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
    assert values["onbelt_gate_slack_seconds_count"] == 1
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
