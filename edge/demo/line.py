"""The physical world of the demo and of the fault tests: a belt that carries parts past the camera to a rejector.

    trigger datagram (to station and gate)   at the camera
    rejector                                 gate_ms later: the part goes through or is ejected

The rejector is normally closed. A part goes through only if the gate's `open` for that very part came at least `lead_ms` before
the part did, and only while the gate's watchdog toggles. The line keeps no other memory of the gate: whatever is lost, late,
repeated or unreadable ejects. It knows nothing of verdicts, and never waits for anybody.

    >>> line = Line(LineSettings(rate_hz=10.0, gate_ms=400.0), (station, gate), is_good=lambda count: count % 9 != 0)
    >>> line.start(); ...; line.finish(); line.book.tally().escapes
"""

import select
import socket
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge.clock import Clock, SystemClock
from edge.demo.book import PartBook
from edge.errors import ContractError
from edge.wire.trigger import MAX_DATAGRAM_BYTES, OUTPUT, TRIGGER, TRIGGER_SCHEMA, GateOutput, LineTrigger

NS_PER_MS = 1_000_000
IDLE_MS = 50.0  # longest sleep, so that `finish` is heard

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LineSettings:
    """A belt.

    Attributes:
        rate_hz: parts per second at the camera.
        gate_ms: from camera to rejector. lead_ms: what the rejector needs from signal to effect.
        watchdog_ms: a gate whose watchdog stands still for longer ejects everything. Ten of its periods: a loaded two-core
            box was seen to delay one by 90 ms.
        encoder_hz: counts of the belt's encoder per second.
    """

    rate_hz: float
    gate_ms: float
    lead_ms: float = 20.0
    watchdog_ms: float = 200.0
    encoder_hz: float = 10_000.0


@dataclass(slots=True)
class _Passage:
    stamp_ns: int
    open_ns: int = 0


class Line:
    """Runs the belt in a thread of its own.

    Args:
        settings: the belt. hears: where triggers go, station and gate.
        is_good: the truth about each part by number; asked once per part, from the line's thread.
        port: where the gate's output comes in on loopback; 0 takes a free one.

    Attributes:
        book: what became of each part.
        counts: "opened", "closed", "watchdog", "refused", "stopped-ms" and others; "open-late" is an `open` with less than the
            lead left, "open-gone" one for a part that has passed the rejector.
    """

    def __init__(
        self,
        settings: LineSettings,
        hears: Sequence[Address],
        is_good: Callable[[int], bool],
        *,
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.book = PartBook()
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._hears = list(hears)
        self._is_good = is_good
        self._clock = clock or SystemClock()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._under_way: OrderedDict[int, _Passage] = OrderedDict()
        self._count = 0
        self._start_ns = 0
        self._next_ns = 0
        self._toggle: bool | None = None
        self._toggled_ns = 0
        self._stop_asked = False
        self._stopped_since_ns = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)

    @property
    def address(self) -> Address:
        """Where the gate's output must be sent."""
        host, port = self._socket.getsockname()
        return str(host), int(port)

    @property
    def count(self) -> int:
        """Parts put on the belt."""
        return self._count

    @property
    def gate_alive(self) -> bool:
        """The gate's watchdog toggles."""
        return self._clock.monotonic_ns() - self._toggled_ns <= self._settings.watchdog_ms * NS_PER_MS

    @property
    def stopped(self) -> bool:
        """The gate asks for a line stop, and the belt brings no new parts."""
        return self._stop_asked and self.gate_alive

    def start(self) -> None:
        """Put the first part on the belt."""
        self._start_ns = self._next_ns = self._clock.monotonic_ns()
        self._thread.start()

    def finish(self) -> None:
        """No new parts; return when the last one has reached the rejector."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(self._settings.gate_ms / 1000 + 5.0)
        self._socket.close()

    # --- the line's thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._ending.is_set() and not self._under_way):
            select.select([self._socket], [], [], self._patience_ms() / 1000)
            self._listen()
            now_ns = self._clock.monotonic_ns()
            self._arrivals(now_ns)
            self._launch(now_ns)

    def _patience_ms(self) -> float:
        moments = [passage.stamp_ns + round(self._settings.gate_ms * NS_PER_MS) for passage in self._first_under_way()]
        if not self._ending.is_set():
            moments.append(self._next_ns)
        return max(0.0, min([IDLE_MS, *((moment - self._clock.monotonic_ns()) / NS_PER_MS for moment in moments)]))

    def _first_under_way(self) -> list[_Passage]:
        return [next(iter(self._under_way.values()))] if self._under_way else []

    def _listen(self) -> None:
        while True:
            try:
                payload = self._socket.recv(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            try:
                self._hear(OUTPUT.decode(payload), self._clock.monotonic_ns())
            except ContractError:
                self.counts["refused"] += 1

    def _hear(self, output: GateOutput, now_ns: int) -> None:
        self._stop_asked = output.stop
        if output.toggle is not self._toggle:
            self._toggle, self._toggled_ns = output.toggle, now_ns
        if output.count is None or output.output != "open":
            return
        passage = self._under_way.get(output.count)
        if passage is None:
            self.counts["open-gone"] += 1
        elif not passage.open_ns:
            passage.open_ns = now_ns

    def _arrivals(self, now_ns: int) -> None:
        """Parts at the rejector: through, or ejected."""
        while self._under_way:
            count, passage = next(iter(self._under_way.items()))
            at_ns = passage.stamp_ns + round(self._settings.gate_ms * NS_PER_MS)
            if now_ns < at_ns:
                return
            del self._under_way[count]
            self.book.passage(count, through=self._goes_through(passage, at_ns))

    def _goes_through(self, passage: _Passage, at_ns: int) -> bool:
        if not passage.open_ns:
            self.counts["closed"] += 1
            return False
        if passage.open_ns > at_ns - self._settings.lead_ms * NS_PER_MS:
            self.counts["open-late"] += 1
            return False
        if at_ns - self._toggled_ns > self._settings.watchdog_ms * NS_PER_MS:
            self.counts["watchdog"] += 1
            return False
        self.counts["opened"] += 1
        return True

    def _launch(self, now_ns: int) -> None:
        if self._ending.is_set() or now_ns < self._next_ns:
            return
        period_ns = round(1e9 / self._settings.rate_hz)
        # A belt does not catch up: after a delay of ours the next part comes a whole period later.
        self._next_ns += period_ns
        if self._next_ns <= now_ns:
            self._next_ns = now_ns + period_ns
        if self.stopped:
            if self._stopped_since_ns:
                self.counts["stopped-ms"] += round((now_ns - self._stopped_since_ns) / NS_PER_MS)
            else:
                self.counts["stops"] += 1
            self._stopped_since_ns = now_ns
            return
        self._stopped_since_ns = 0
        self._count += 1
        self.book.launched(self._count, good=self._is_good(self._count))
        stamp_ns = self._clock.monotonic_ns()
        self._under_way[self._count] = _Passage(stamp_ns)
        encoder = 1 + round((stamp_ns - self._start_ns) / 1e9 * self._settings.encoder_hz)
        payload = TRIGGER.encode(LineTrigger(TRIGGER_SCHEMA, self._count, stamp_ns // 1000, encoder))
        for address in self._hears:
            self._send(payload, address)

    def _send(self, payload: bytes, address: Address) -> None:
        try:
            self._socket.sendto(payload, address)
        except OSError:
            self.counts["trigger-not-sent"] += 1
