"""The gate and its supervisor: ready when it runs, fed by finished turns, and no longer when a turn hangs."""

import socket
import tempfile
import threading
import time

from edge.broker.launch import free_port
from edge.clock import SystemClock
from edge.gate.config import load_config
from edge.gate.process import GateProcess
from edge.system.notify import Notifier
from tests.support.gate_line import write_gate_toml


def said(listening, seconds):
    """What came in this time."""
    found, until = [], time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        listening.settimeout(left)
        try:
            found.append(listening.recv(200).decode())
        except TimeoutError:
            break
    return found


def test_it_feeds_the_watchdog_by_finished_turns_only(tmp_path):
    listen, output, broker = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM), free_port()
    config = load_config(write_gate_toml(tmp_path / "gate.toml", broker, listen, output))
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"{folder}/notify")
        stop, hang = threading.Event(), threading.Event()
        with GateProcess(config, SystemClock(), config.broker(), b"", Notifier(f"{folder}/notify", 400_000)) as gate:
            step = gate.step

            def turn():
                if hang.is_set():
                    stop.wait(30)
                return step()

            gate.step = turn
            thread = threading.Thread(target=gate.run, args=(stop,), daemon=True)
            thread.start()
            before = said(listening, 2.0)
            hang.set()
            said(listening, 0.5)
            during = said(listening, 1.0)
            stop.set()
            thread.join(10)
    assert before[0].startswith("READY=1")
    assert before.count("WATCHDOG=1") >= 3
    assert "WATCHDOG=1" not in during
