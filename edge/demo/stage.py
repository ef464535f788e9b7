"""Everything of one demo on disk and as processes: a temporary folder, two configuration files, broker, daemon, gate, line.

with Stage(options, bundle, plan, speed) as stage:
    stage.raise_all(); stage.line.start(); ...; stage.end()
"""

import json
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edge.broker.launch import BrokerKind, BrokerProcess, free_port
from edge.clock import SystemClock
from edge.demo.children import Child, stop_all
from edge.demo.line import Line, LineSettings
from edge.demo.observer import Observer
from edge.demo.plan import LEAD_MS, MARGIN_MS, Plan
from edge.errors import OnbeltError
from edge.mqtt.settings import Broker
from edge.wire.topics import Topics

SITE, AREA, LINE, STATION, GATE = "demo", "hall", "belt", "station", "g1"


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What the command line says about it.

    Attributes:
        bundle: the model file. trust: folders of trusted keys, none for the usual ones.
        product, seed: what runs on the belt. page_port: 0 for no page. broker: which. engine: backend.
    """

    bundle: Path
    trust: tuple[Path, ...]
    product: str
    seed: int
    page_port: int
    broker: BrokerKind
    engine: str


class Stage:
    """Sets the scene, and clears it whatever happens.

    Args:
        options: from the command line. plan: rate and deadline. is_good: the truth about each part, by number.

    Raises:
        BrokerError: the broker does not start.
    """

    def __init__(self, options: StageOptions, plan: Plan, is_good: Callable[[int], bool]) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="onbelt-demo-")
        self.folder = Path(self._temporary.name)
        self.journal = self.folder / "journal.db"
        self._options = options
        self._plan = plan
        trigger_ports = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        self.line = Line(
            LineSettings(plan.rate_hz, plan.gate_ms, LEAD_MS), [("127.0.0.1", port) for port in trigger_ports], is_good
        )
        self.broker: BrokerProcess | None = None
        self.observer: Observer | None = None
        try:
            self.broker = BrokerProcess(options.broker, self.folder)
            station, gate = self._write_station(trigger_ports[0]), self._write_gate(trigger_ports[1])
            self.daemon = Child("daemon", ["run", "--config", str(station)], self.folder / "daemon.log")
            self.gate = Child("gate", ["gate", "--config", str(gate)], self.folder / "gate.log")
            self.observer = Observer(
                Broker("127.0.0.1", self.broker.port),
                Topics(SITE, AREA, LINE, STATION),
                SystemClock(),
                plan.valid_ms,
            )
        except BaseException:
            self.close()
            raise

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes besides the broker."""
        return self.daemon, self.gate

    def raise_all(self) -> None:
        """Start everything but the belt."""
        assert self.observer is not None
        self.observer.start()
        self.gate.start()
        self.daemon.start()

    def check(self) -> None:
        """Look whether everybody lives.

        Raises:
            OnbeltError: one of them died unasked; the text ends with its last words.
        """
        for child in self.children:
            if child.died:
                raise OnbeltError(f"the {child.name} has ended by itself; the end of its log:\n{child.last_words()}")
        if self.broker is not None and self.broker.died:
            raise OnbeltError(f"the {self.broker.kind.value} broker has ended by itself")

    def end(self) -> None:
        """Stop the belt and wait for the last part, then end the processes, the broker last. May be called twice."""
        self.line.finish()
        stop_all(self.children)
        if self.observer is not None:
            self.observer.close()
        if self.broker is not None:
            self.broker.stop()

    def close(self) -> None:
        """End everything and remove the folder."""
        try:
            if hasattr(self, "gate"):
                self.end()
            else:
                self.line.finish()
                if self.broker is not None:
                    self.broker.stop()
        finally:
            self._temporary.cleanup()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write_station(self, trigger_port: int) -> Path:
        options, plan = self._options, self._plan
        assert self.broker is not None
        return _write_toml(
            self.folder / "station.toml",
            {
                "station": {"site": SITE, "area": AREA, "line": LINE, "station": STATION, "gate": GATE},
                # The belt was slowed to what this machine can do, so the budget is that deadline, not the bundle's.
                "model": {
                    "bundle": str(options.bundle.absolute()),
                    "trust": [str(folder.absolute()) for folder in options.trust],
                    "engine": options.engine,
                    "budget_ms": plan.valid_ms,
                },
                "deadline": {"valid_ms": plan.valid_ms},
                "camera": {"kind": "belt"},
                "camera.belt": {"product": options.product, "seed": options.seed},
                "trigger": {"kind": "udp", "listen": f"127.0.0.1:{trigger_port}", "clock": "shared"},
                "mqtt": {"port": self.broker.port},
                "page": {"enabled": bool(options.page_port), "port": options.page_port},
                "journal": {"path": str(self.journal), "max_mb": 64.0},
            },
        )

    def _write_gate(self, trigger_port: int) -> Path:
        assert self.broker is not None
        return _write_toml(
            self.folder / "gate.toml",
            {
                "station": {"site": SITE, "area": AREA, "line": LINE, "station": STATION, "gate": GATE},
                "timing": {"gate_ms": self._plan.gate_ms, "lead_ms": LEAD_MS, "margin_ms": MARGIN_MS},
                "rules": {"commissioning_parts": self._plan.commissioning_parts},
                "mqtt": {"port": self.broker.port},
                "line": {"listen": f"127.0.0.1:{trigger_port}", "output": f"127.0.0.1:{self.line.address[1]}"},
            },
        )


def _write_toml(path: Path, sections: dict[str, dict[str, object]]) -> Path:
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    path.write_text("\n".join(lines))
    return path
