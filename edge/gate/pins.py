"""The gate's wires as real pins (gpiod): a light barrier in, the rejector, a watchdog line and a line stop out.

    output    active lets a part through; it is active from a part's decision until `open_ms` later or the next part's decision,
              whichever comes first, and inactive always else: without power, without a process, without a decision the part is
              ejected. Wire the rejector so.
    watchdog  flips with every turn of the loop: a retriggerable relay or the PLC takes it, and ejects everything when it stands
              still. A pin keeps its level when its process hangs; only the watchdog line tells.
    reinspect active sends a part to a person, for as long as the output would be active; never both at once
    stop      active asks for a line stop
    encoder   where the shift register goes by counts: its channel A, and B for the direction

One line belongs to one process: the gate takes the light barrier and passes each part on to the station of the same box as a
datagram (`line.forward`, there trigger.kind = "udp"), so both count alike. Its numbers begin where the machine's clock stands, in
milliseconds: after a restart of the gate no number comes twice.

Source: gpiod 2.x, chip.request_lines, LineRequest.set_value; Linux GPIO uAPI v2.
"""

import logging
import socket
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

from edge.clock import Clock
from edge.errors import ConfigError
from edge.gate.encoder import WRAP
from edge.wire.trigger import ENCODER_SCHEMA, TRIGGER, TRIGGER_SCHEMA, EncoderCount, LineTrigger

logger = logging.getLogger(__name__)

_CONSUMER = "onbelt-gate"
_BUFFER = 1024  # edges, of all lines: what the kernel keeps at most; an encoder of 10 kHz fills it in 100 ms


@dataclass(frozen=True, slots=True)
class PinSettings:
    """Which pins, by their number on one chip; -1 for none.

    Attributes:
        chip: device. trigger, output, watchdog, stop: lines. falling: the falling edge is a part.
        debounce_us: the light barrier must hold its level so long. open_ms: longest that the output stays active for one part.
        forward: where each part is passed on to, or None.
        encoder, encoder_b: channels of the belt's encoder: rising edges of A are counts, down when B is high then. Without B
            the belt is taken to run forward only. reinspect: sends a part to a person.
    """

    chip: str
    trigger: int
    output: int
    watchdog: int
    stop: int = -1
    falling: bool = False
    debounce_us: int = 1000
    open_ms: float = 60.0
    forward: tuple[str, int] | None = None
    encoder: int = -1
    encoder_b: int = -1
    reinspect: int = -1


class Pins:
    """Takes the lines at once; the output is inactive from then on.

    Args:
        settings: which pins. clock: this machine's.

    Raises:
        ConfigError: gpiod is missing, no such chip or line, no right to it, or it is in use.
    """

    def __init__(self, settings: PinSettings, clock: Clock) -> None:
        self.refused = 0
        self._settings = settings
        self._clock = clock
        self._toggle = False
        self._open_until_ns = 0
        self._edges: Counter[int] = Counter()
        self._counts = 0
        self._count = clock.monotonic_ns() // 1_000_000
        try:
            import gpiod
            from gpiod.line import Direction, Edge, Value
        except ImportError as exc:
            raise ConfigError(f"line.kind = \"gpio\" needs gpiod ({exc}); pip install 'onbelt[gpio]'") from exc
        self._active, self._inactive = Value.ACTIVE, Value.INACTIVE
        edge = Edge.FALLING if settings.falling else Edge.RISING
        debounce = timedelta(microseconds=settings.debounce_us)
        out = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.INACTIVE)
        config: dict[int, Any] = {
            settings.trigger: gpiod.LineSettings(direction=Direction.INPUT, edge_detection=edge, debounce_period=debounce)
        }
        if settings.encoder >= 0:
            config[settings.encoder] = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.RISING)
        if settings.encoder_b >= 0:
            config[settings.encoder_b] = gpiod.LineSettings(direction=Direction.INPUT)
        config |= dict.fromkeys(
            (line for line in (settings.output, settings.watchdog, settings.stop, settings.reinspect) if line >= 0), out
        )
        try:
            self._request: Any = gpiod.request_lines(settings.chip, consumer=_CONSUMER, config=config, event_buffer_size=_BUFFER)
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"line.chip: {settings.chip} lines {sorted(config)} cannot be taken ({exc}); gpioinfo tells who has them; "
                "is another gate running?"
            ) from exc
        self._out: socket.socket | None = None
        if settings.forward is not None:
            self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._out.setblocking(False)

    def fileno(self) -> int:
        """For poll: readable when an edge waits."""
        return int(self._request.fd)

    def triggers(self) -> list[LineTrigger | EncoderCount]:
        """All parts that wait, and where the belt stands; the kernel stamped them on CLOCK_MONOTONIC.

        Edges of the light barrier that its buffer lost are parts without a slot.
        """
        found: list[LineTrigger | EncoderCount] = []
        begin_us = self._clock.monotonic_ns() // 1000
        if self._request.wait_edge_events(timedelta(0)):
            for event in self._request.read_edge_events():
                lost = max(0, event.line_seqno - self._edges[event.line_offset] - 1)
                self._edges[event.line_offset] = event.line_seqno
                self.refused += lost
                if event.line_offset == self._settings.encoder:
                    self._counts += lost + self._direction()
                    continue
                self._count += 1 + lost
                enc = self._counts % WRAP or WRAP if self._settings.encoder >= 0 else 0
                part = LineTrigger(TRIGGER_SCHEMA, self._count, event.timestamp_ns // 1000, enc)
                self._pass_on(part)
                found.append(part)
        if self._settings.encoder >= 0:
            # Read at every turn: a belt at rest gives no edges, and is not silent all the same.
            found.append(EncoderCount(ENCODER_SCHEMA, begin_us, self._counts % WRAP))
        return found

    def _direction(self) -> int:
        if self._settings.encoder_b < 0:
            return 1
        return -1 if self._request.get_value(self._settings.encoder_b) == self._active else 1

    def _pass_on(self, part: LineTrigger) -> None:
        if self._out is None or self._settings.forward is None:
            return
        try:
            self._out.sendto(TRIGGER.encode(part), self._settings.forward)
        except OSError as error:
            # The station then has no trigger, gives no verdict, and the part is ejected.
            logger.debug("part %d not passed on: %s", part.count, error)

    def drive(self, count: int, *, opened: bool, stop: bool, reinspect: bool = False) -> None:
        """A part is decided: it goes through, or to a person, or both outputs are taken back for it."""
        del count
        active = opened or reinspect
        self._open_until_ns = self._clock.monotonic_ns() + round(self._settings.open_ms * 1e6) if active else 0
        self._set(self._settings.output, on=opened)
        self._set(self._settings.reinspect, on=reinspect and not opened)
        self._set(self._settings.stop, on=stop)

    def kick(self, *, stop: bool) -> None:
        """Flip the watchdog, end what has been open long enough, repeat the line stop."""
        if self._open_until_ns and self._clock.monotonic_ns() >= self._open_until_ns:
            self._open_until_ns = 0
            self._set(self._settings.output, on=False)
            self._set(self._settings.reinspect, on=False)
        self._toggle = not self._toggle
        self._set(self._settings.watchdog, on=self._toggle)
        self._set(self._settings.stop, on=stop)

    def _set(self, line: int, *, on: bool) -> None:
        if line >= 0:
            self._request.set_value(line, self._active if on else self._inactive)

    def close(self) -> None:
        """Close the output and give the lines back. May be called twice."""
        request, self._request = self._request, None
        if request is not None:
            for line in (self._settings.output, self._settings.reinspect):
                if line >= 0:
                    request.set_value(line, self._inactive)
            request.release()
        if self._out is not None:
            self._out.close()

    def __enter__(self) -> "Pins":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
