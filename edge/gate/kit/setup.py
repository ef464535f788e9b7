"""From gate.toml to a kit that is connected: station, line and book in place."""

import contextlib
from collections.abc import Iterator

from edge.clock import SystemClock
from edge.errors import BrokerError
from edge.gate.config import GateConfig, loopback_address
from edge.gate.kit.belt import KitBelt
from edge.gate.kit.bench import Bench
from edge.gate.kit.book import Book
from edge.gate.kit.line import LineSide, Pulses, Wires
from edge.gate.kit.run import Check
from edge.gate.kit.station import Identity, KitStation

CONNECT_S = 10.0
# What the kit announces where gate.toml pins nothing; a gate that takes its armed set from the birth takes these.
MODEL, LIMIT, RECIPE = "gatecheck@sha256:" + "c4" * 16, "sha256:" + "11" * 16, "gatecheck@1"


@contextlib.contextmanager
def opened_kit(config: GateConfig, trigger_command: str | None = None, pid: int = 0) -> Iterator[Check]:
    """A kit before the gate this file describes.

    Args:
        config: gate.toml.
        trigger_command: makes one part come; None takes the datagram wires of the file.
        pid: the gate's process, 0 for none.

    Raises:
        ConfigError: a port is taken, a secret is missing. BrokerError: no connection.
    """
    clock, settings = SystemClock(), config.settings()
    who = Identity(
        config.topics(),
        config.station.gate,
        config.expect.model or MODEL,
        config.expect.limit or LIMIT,
        config.expect.recipe or RECIPE,
        settings.deadline_ms,
        config.mac_key(),
    )
    gate_ms = settings.gate_ms if settings.encoder is None else settings.encoder.gate_ms
    book = Book(who.topics, who.gate, clock)
    broker = config.broker()
    line: LineSide
    if trigger_command is None:
        listen, output = loopback_address(config.line.listen, "line.listen"), loopback_address(config.line.output, "line.output")
        by_counts = settings.encoder
        belt = KitBelt(by_counts.max_counts_per_s, listen, clock) if by_counts is not None else None
        line = Wires(who.gate, listen, output, clock, belt)
    else:
        line = Pulses(trigger_command, clock, book.fired, book.stop_alarm)
    station = KitStation(who, broker, clock, book.hear, stamped=line.sees_output)
    try:
        if not station.start(CONNECT_S):
            raise BrokerError(f"{broker}: no connection within {CONNECT_S:.0f} s; check [mqtt] in the file and the broker's log")
        yield Check(Bench(station, line, book, clock, settings.deadline_ms, gate_ms, settings.pitch_ms), settings, pid)
    finally:
        station.close()
        line.close()
