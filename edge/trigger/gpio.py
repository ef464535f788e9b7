"""Triggers from the box's own pins: a light barrier's edge, or an encoder's counts, through the kernel's GPIO interface (gpiod).

The kernel stamps each edge in its interrupt on CLOCK_MONOTONIC, debounces, and numbers a line's edges: a gap in these numbers
is an edge the buffer lost, and for a light barrier a part without a verdict.

    gpio     each edge is a part
    encoder  the rising edges of channel A are counts (down, when channel B is high then); every `pitch_counts` is a part.
             A processor takes some ten thousand edges a second; faster encoders need a divider or a counter card.

Source: gpiod 2.x (libgpiod's Python bindings), chip.request_lines and LineRequest; Linux GPIO uAPI v2.
"""

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from edge.errors import ConfigError
from edge.trigger.base import Deliver
from edge.wire.trigger import TRIGGER_SCHEMA, LineTrigger

logger = logging.getLogger(__name__)

_PATIENCE = timedelta(milliseconds=200)
_CONSUMER = "onbelt"
_BUFFER = 256  # edges the kernel keeps while this thread does not run


@dataclass(frozen=True, slots=True)
class GpioSettings:
    """Which pins.

    Attributes:
        chip: device of the GPIO chip. line: of the light barrier, or of the encoder's channel A. line_b: its channel B, -1 none.
        edge: which edge is a part. debounce_us: a level must hold so long, 0 for none.
        pitch_counts: encoder counts from part to part; 0 makes every edge a part.
    """

    chip: str
    line: int
    line_b: int = -1
    edge: Literal["rising", "falling"] = "rising"
    debounce_us: int = 1000
    pitch_counts: int = 0


class GpioTrigger:
    """Edges of one line, or counts of an encoder.

    Args:
        settings: which pins.

    Attributes:
        refused: edges the kernel's buffer lost. encoder: counts so far.
    """

    def __init__(self, settings: GpioSettings) -> None:
        self.refused = 0
        self.encoder = 0
        kind = f"encoder every {settings.pitch_counts} counts" if settings.pitch_counts else f"gpio {settings.edge} edge"
        self.name = f"{kind}, {settings.chip} line {settings.line}"
        self._settings = settings
        self._request: Any = None
        self._count = 0
        self._edges = 0

    def open(self) -> None:
        """Take the lines. Raises ConfigError: gpiod is missing, no such chip or line, no right to it, or it is in use."""
        wanted = self._settings
        try:
            import gpiod
            from gpiod.line import Direction, Edge
        except ImportError as exc:
            raise ConfigError(f"trigger.kind: gpio and encoder need gpiod ({exc}); pip install 'onbelt[gpio]'") from exc
        settings = {
            wanted.line: gpiod.LineSettings(
                direction=Direction.INPUT,
                edge_detection=Edge.RISING if wanted.edge == "rising" or wanted.pitch_counts else Edge.FALLING,
                debounce_period=timedelta(microseconds=0 if wanted.pitch_counts else wanted.debounce_us),
            )
        }
        if wanted.line_b >= 0:
            settings[wanted.line_b] = gpiod.LineSettings(direction=Direction.INPUT)
        try:
            self._request = gpiod.request_lines(wanted.chip, consumer=_CONSUMER, config=settings, event_buffer_size=_BUFFER)
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"trigger.chip: {wanted.chip} line {wanted.line} cannot be taken ({exc}); gpioinfo lists the lines and who uses "
                "them, and the udev rule of the installer gives them to the user onbelt"
            ) from exc

    def run(self, stop: threading.Event, deliver: Deliver) -> None:
        """Deliver parts until told to stop."""
        request = self._request
        if request is None:
            raise RuntimeError("the trigger is not open")
        while not stop.is_set():
            if not request.wait_edge_events(_PATIENCE):
                continue
            for event in request.read_edge_events():
                self._note(event)
                part = self._edge(event)
                if part is not None:
                    deliver(part)

    def _note(self, event: Any) -> None:
        lost = max(0, event.line_seqno - self._edges - 1)
        self._edges = event.line_seqno
        if not lost:
            return
        if not self.refused:
            logger.warning("%s: %d edges lost by the kernel's buffer (said once, counted from now on)", self.name, lost)
        self.refused += lost
        if self._settings.pitch_counts:
            self.encoder += lost
        else:
            self._count += lost  # parts that nobody will judge still have their numbers

    def _edge(self, event: Any) -> LineTrigger | None:
        every = self._settings.pitch_counts
        if not every:
            self._count += 1
            return LineTrigger(TRIGGER_SCHEMA, self._count, event.timestamp_ns // 1000)
        self.encoder += self._direction()
        if self.encoder // every <= self._count:  # a belt that runs back brings no new parts
            return None
        self._count = self.encoder // every
        return LineTrigger(TRIGGER_SCHEMA, self._count, event.timestamp_ns // 1000, self.encoder)

    def _direction(self) -> int:
        if self._settings.line_b < 0:
            return 1
        from gpiod.line import Value

        return -1 if self._request.get_value(self._settings.line_b) == Value.ACTIVE else 1

    def close(self) -> None:
        """Give the lines back. May be called twice."""
        request, self._request = self._request, None
        if request is not None:
            request.release()
