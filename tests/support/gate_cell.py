"""A whole cell for fault tests: broker, real daemon, real gate, simulated line; each can be killed, frozen and brought back."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from edge.broker.launch import BrokerKind, BrokerProcess, end_process, free_port, wait_until
from edge.demo.book import Tally
from edge.demo.line import Line, LineSettings
from edge.demo.summary import Scores
from edge.journal.reader import Reader
from edge.wire.topics import Topics
from edge.wire.verdict import decode_verdict
from tests.conftest import ROOT
from tests.support.bundles import make_tiny_bundle
from tests.support.gate_daemon import is_good
from tests.support.gate_wires import OutputRelay, Proxy, Relay

SITE, AREA, LINE_NAME, STATION, GATE = "plant", "hall", "line3", "st2", "g1"
TOPICS = Topics(SITE, AREA, LINE_NAME, STATION)
# Wide on purpose: these tests are about what opens a gate, not about speed, and CI machines are slow and shared.
GATE_MS, LEAD_MS, MARGIN_MS = 700.0, 20.0, 80.0
VALID_MS = GATE_MS - LEAD_MS - MARGIN_MS
RATE_HZ = 15.0
PATIENCE_S = 60.0  # nothing here takes long; a loaded machine may take its time all the same
WATCHDOG_MS = 400.0
MAC_KEY = b"a key of more than sixteen bytes"


class Program:
    """A process of the cell, with its log."""

    def __init__(self, argv: list[str], log: Path) -> None:
        self.argv = argv
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )

    def signal(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def kill(self) -> None:
        if self.process is not None:
            end_process(self.process, signal.SIGKILL, 5.0)

    def stop(self) -> None:
        if self.process is not None:
            end_process(self.process, signal.SIGTERM, 5.0)

    def said(self, text: str) -> bool:
        return self.log.exists() and text in self.log.read_text(errors="replace")


class Cell:
    """Everything, not started yet. All wires go through hands of the test; verdicts are sealed.

    Args:
        folder: for configurations, journal and logs. kind: of broker.
        rate_hz: parts a second. gate_ms: from camera to rejector. missed_beats: that disarm.
        journal_mb: its size. evidence_mb: that of the pictures beside it.

    Attributes:
        station_wire: TCP between daemon and broker. gate_wire: between gate and broker.
        to_station, to_gate: the trigger datagrams. output: the gate's, and what it has opened when.
    """

    def __init__(
        self,
        folder: Path,
        kind: BrokerKind,
        *,
        rate_hz: float = RATE_HZ,
        gate_ms: float = GATE_MS,
        margin_ms: float = MARGIN_MS,
        missed_beats: int = 3,
        journal_mb: float = 4.0,
        evidence_mb: float = 1024.0,
    ) -> None:
        valid_ms = gate_ms - LEAD_MS - margin_ms
        self.folder = folder
        self.kind = kind
        self.broker: BrokerProcess | None = None
        self.broker_port = free_port()
        self.station_wire, self.gate_wire = Proxy(self.broker_port), Proxy(self.broker_port)
        station_address, gate_address = (("127.0.0.1", free_port(socket.SOCK_DGRAM)) for _ in range(2))
        self.to_station, self.to_gate = Relay(station_address), Relay(gate_address)
        self.line = Line(
            LineSettings(rate_hz, gate_ms, LEAD_MS, WATCHDOG_MS), [self.to_station.address, self.to_gate.address], is_good
        )
        self.output = OutputRelay(self.line.address)
        self.journal = folder / "journal.db"
        self._read_n = 0
        bundle, _, trust = make_tiny_bundle(folder)
        key = folder / "verdict.key"
        key.write_bytes(MAC_KEY)
        key.chmod(0o600)
        names = f'site = "{SITE}"\narea = "{AREA}"\nline = "{LINE_NAME}"\nstation = "{STATION}"\ngate = "{GATE}"\n'
        station = folder / "station.toml"
        station.write_text(
            f"[station]\n{names}"
            f"[model]\nbundle = {json.dumps(str(bundle))}\ntrust = [{json.dumps(str(trust))}]\n"
            f'engine = "onnxruntime"\nthreads = 1\n'
            f"budget_ms = {valid_ms}\n[deadline]\nvalid_ms = {valid_ms}\n"
            '[camera]\nkind = "belt"\n'
            f'[trigger]\nkind = "udp"\nlisten = "127.0.0.1:{station_address[1]}"\n'
            f"[mqtt]\nport = {self.station_wire.port}\nkeepalive_s = 2\n"
            f'[seal]\nenabled = true\nmac_key = "{key}"\n[page]\nenabled = false\n'
            f'[journal]\npath = "{self.journal}"\nmax_mb = {journal_mb}\n[evidence]\nmax_mb = {evidence_mb}\n'
        )
        gate = folder / "gate.toml"
        gate.write_text(
            f"[station]\n{names}[timing]\ngate_ms = {gate_ms}\nlead_ms = {LEAD_MS}\nmargin_ms = {margin_ms}\n"
            f"[rules]\nmissed_beats = {missed_beats}\ncommissioning_parts = 4\nstop_hold_s = 0.3\nrequire_mac = true\n"
            f'mac_key = "{key}"\n[mqtt]\nport = {self.gate_wire.port}\nkeepalive_s = 2\n'
            f'[line]\nlisten = "127.0.0.1:{gate_address[1]}"\noutput = "127.0.0.1:{self.output.address[1]}"\n'
        )
        self.daemon = Program([sys.executable, "-m", "tests.support.gate_daemon", str(station)], folder / "daemon.log")
        self.gate = Program([sys.executable, "-m", "edge.cli", "gate", "--config", str(gate), "--json"], folder / "gate.log")

    def start_broker(self) -> None:
        if self.broker is None:
            self.broker = BrokerProcess(self.kind, self.folder, self.broker_port)
        else:
            self.broker.start()

    def start(self) -> "Cell":
        """Everything up, the belt running, parts going through."""
        self.start_broker()
        self.gate.start()
        self.daemon.start()
        assert wait_until(lambda: self.gate.said("commissioning: "), PATIENCE_S), self.logs()
        self.line.start()
        self.wait_for_passes(6)
        return self

    def wait_for_passes(self, more: int, timeout_s: float = PATIENCE_S) -> None:
        """So many parts more go through."""
        before = self.line.counts["opened"]
        assert wait_until(lambda: self.line.counts["opened"] >= before + more, timeout_s), self.logs()

    def verify(self) -> Tally:
        """Nothing went through that the station's own journal does not show as passed, and nothing bad; so far."""
        settled = self.line.book.tally().parts
        self._read_journal()
        tally = self.line.book.tally()
        assert tally.parts >= settled
        assert tally.unjudged == 0, f"went through without a verdict; {self.logs()}"
        assert tally.against_verdict == 0, f"went through against the verdict; {self.logs()}"
        assert tally.misses == 0, f"bad parts went through; {self.logs()}"
        return tally

    def _read_journal(self) -> None:
        """Note the verdicts written since the last look: a part may settle while all of a long journal is read."""
        scores = Scores()
        with Reader(self.journal) as reader:
            while rows := reader.rows(self._read_n, 500):
                for row in rows:
                    scores.note(self.line.book, decode_verdict(row.payload))
                self._read_n = rows[-1].n

    def recovers(self) -> Tally:
        """Parts go through again, and all is still right."""
        self.wait_for_passes(4)
        return self.verify()

    def finish(self) -> Tally:
        """End the run: every part on the belt has been decided."""
        self.line.finish()
        self.gate.stop()
        self.daemon.stop()
        tally = self.verify()
        assert tally.parts == self.line.count, "every part on the belt must have reached the rejector"
        return tally

    @property
    def healthy(self) -> bool:
        """All three run and the belt moves: the next test may go on with it."""
        alive = all(p.process is not None and p.process.poll() is None for p in (self.daemon, self.gate))
        return alive and self.broker is not None and not self.broker.died and self.line.gate_alive

    def close(self) -> None:
        self.line.finish()
        for program in (self.gate, self.daemon):
            program.kill()
        if self.broker is not None:
            self.broker.kill()
        for wire in (self.station_wire, self.gate_wire, self.to_station, self.to_gate, self.output):
            wire.close()

    def logs(self) -> str:
        texts = [
            f"--- {p.log.name}\n{p.log.read_text(errors='replace')[-2500:]}" for p in (self.daemon, self.gate) if p.log.exists()
        ]
        return f"line {dict(self.line.counts)} at part {self.line.count}\n" + "\n".join(texts)


def pause(seconds: float) -> None:
    """Let a fault last. The only sleep of the fault tests: what is under test is time itself."""
    time.sleep(seconds)
