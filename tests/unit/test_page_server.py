"""The page's stream, every bound of its server, and how it starts and stops."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from edge.errors import ConfigError
from edge.page import connections as connections_module
from edge.page import handler as handler_module
from edge.page import site as site_module
from edge.page.live import LiveView
from edge.page.server import PageServer
from edge.wire.verdict import REASONS
from tests.support.page_client import Stream, add, ask, make_view, port_of, raw, wait_until


@pytest.fixture
def view() -> LiveView:
    return make_view()


@pytest.fixture
def page(view: LiveView) -> Iterator[PageServer]:
    with PageServer(view) as server:
        yield server


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
