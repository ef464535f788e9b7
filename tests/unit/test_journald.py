"""Records to journald: the fields arrive as they were, and nothing is lost where there is no journal."""

import logging
import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from edge import journald


def decode(payload):
    """The binary form, read by the protocol's own description."""
    found, at = {}, 0
    while at < len(payload):
        end = payload.index(b"\n", at)
        size = int.from_bytes(payload[end + 1 : end + 9], "little")
        found[payload[at:end].decode()] = payload[end + 9 : end + 9 + size].decode()
        assert payload[end + 9 + size : end + 10 + size] == b"\n"
        at = end + 10 + size
    return found


@pytest.fixture
def journal():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = f"{folder}/socket"
        listening.bind(path)
        listening.settimeout(2.0)
        handler = journald.JournalHandler(path)
        logger = logging.getLogger("edge.test.journald")
        logger.propagate = False
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        yield logger, listening
        logger.removeHandler(handler)
        handler.close()


def test_message_priority_and_fields_arrive(journal, monkeypatch):
    logger, listening = journal
    monkeypatch.setitem(journald.fields, "ONBELT_STATION", "st2")
    logger.warning("camera: %s", "two\nlines, and =")
    found = decode(listening.recv(100_000))
    assert found["MESSAGE"] == "camera: two\nlines, and ="
    assert (found["PRIORITY"], found["LOGGER"], found["ONBELT_STATION"]) == ("4", "edge.test.journald", "st2")
    assert found["CODE_FILE"].endswith("test_journald.py")


def test_a_traceback_goes_with_its_record(journal):
    logger, listening = journal
    try:
        int("odd")
    except ValueError:
        logger.exception("ended")
    found = decode(listening.recv(100_000))
    assert found["PRIORITY"] == "3"
    assert "ValueError: invalid literal" in found["MESSAGE"]


def test_what_does_not_fit_or_finds_nobody_is_printed(journal, capsys):
    logger, listening = journal
    logger.info("x" * 100_000)
    listening.close()
    Path(logger.handlers[0]._path).unlink()
    logger.info("nobody listens")
    printed = capsys.readouterr().err
    assert "x" * 100_000 in printed
    assert "nobody listens" in printed


def test_it_is_used_only_where_the_stream_is_the_journals(monkeypatch):
    stream = sys.__stderr__
    assert stream is not None
    state = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino}")
    assert journald.connected(stream)
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not journald.connected(stream)
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not journald.connected(stream)
