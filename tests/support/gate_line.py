"""A gate as a real process, its configuration, and a simulated line in front of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.broker.launch import end_process, free_port
from edge.demo.line import Line, LineSettings
from tests.support.gate_messages import GATE, STATION

GATE_MS, LEAD_MS, MARGIN_MS = 260.0, 10.0, 30.0
D_MS = GATE_MS - LEAD_MS - MARGIN_MS
COMMISSIONING = 5


def write_gate_toml(
    path: Path,
    broker_port: int,
    listen: int,
    output: int,
    *,
    gate_ms: float = GATE_MS,
    min_pitch_ms: float = 0.0,
    encoder: str = "",
    **rules: object,
) -> Path:
    rules = {"commissioning_parts": COMMISSIONING, "stop_hold_s": 0.3} | rules
    given = "\n".join(f"{key} = {json.dumps(value)}" for key, value in rules.items())
    path.write_text(
        f'[station]\nsite = "plant"\narea = "hall"\nline = "line3"\nstation = "{STATION}"\ngate = "{GATE}"\n'
        f"[timing]\ngate_ms = {gate_ms}\nlead_ms = {LEAD_MS}\nmargin_ms = {MARGIN_MS}\n"
        f"min_pitch_ms = {min_pitch_ms}\n[encoder]\n{encoder}\n[rules]\n{given}\n[mqtt]\nport = {broker_port}\nkeepalive_s = 2\n"
        f'[line]\nlisten = "127.0.0.1:{listen}"\noutput = "127.0.0.1:{output}"\n'
    )
    return path


class GateUnderTest:
    """`onbelt gate` with a line: start, kill, freeze, stop."""

    def __init__(
        self, folder: Path, broker_port: int, is_good: Callable[[int], bool], station: tuple[str, int], **rules: Any
    ) -> None:
        self.listen = free_port(socket.SOCK_DGRAM)
        self.line = Line(
            LineSettings(rate_hz=20.0, gate_ms=GATE_MS, lead_ms=LEAD_MS), [station, ("127.0.0.1", self.listen)], is_good
        )
        self.config = write_gate_toml(folder / "gate.toml", broker_port, self.listen, self.line.address[1], **rules)
        self.log = folder / "gate.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()  # of one that was killed
        with self.log.open("ab") as log:
            argv = [sys.executable, "-m", "edge.cli", "gate", "--config", str(self.config), "--json"]
            self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})

    def signal(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def kill(self) -> None:
        assert self.process is not None
        end_process(self.process, signal.SIGKILL, 2.0)

    def stop(self) -> dict[str, object]:
        """End the line, then the gate; its own figures."""
        self.line.finish()
        if self.process is None:
            return {}
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=5)
        figures: dict[str, object] = json.loads(out) if out else {}
        return figures

    def close(self) -> None:
        self.line.finish()
        if self.process is not None:
            end_process(self.process, signal.SIGKILL, 2.0)
            if self.process.stdout is not None:
                self.process.stdout.close()

    def wait_for_log(self, text: str, timeout_s: float = 10.0, after: int = 0) -> None:
        end = time.monotonic() + timeout_s
        while text not in self.log.read_text()[after:]:
            if time.monotonic() > end:
                raise TimeoutError(f"the gate did not log {text!r} within {timeout_s} s:\n{self.log.read_text()}")
            time.sleep(0.02)
