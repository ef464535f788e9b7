"""The belt before a gate that goes by counts: runs at the top speed the gate was told, can be stopped, its sender silenced.

Counts follow from the time, so a busy kit tells late but never wrong.
"""

import socket
import threading

from edge.clock import Clock
from edge.gate.encoder import WRAP
from edge.wire.trigger import ENCODER, ENCODER_SCHEMA, EncoderCount

TELL_S = 0.004  # 250 telegrams a second


class KitBelt:
    """Sends the belt's counts until it is closed.

    Args:
        counts_per_s: its speed. gate: where the gate listens. clock: shared with the gate's machine.

    Attributes:
        mute: True while the sender is silent.
    """

    def __init__(self, counts_per_s: float, gate: tuple[str, int], clock: Clock) -> None:
        self.mute = False
        self._per_ns = counts_per_s / 1e9
        self._gate = gate
        self._clock = clock
        self._lock = threading.Lock()
        self._from = (1_000_000.0, clock.monotonic_ns())  # so many counts at that time
        self._runs = True
        self._ended = threading.Event()
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._tell, name="gatecheck-belt", daemon=True)
        self._thread.start()

    def counts(self, at_ns: int) -> int:
        """What the encoder shows then; never 0, which would mean that there is none."""
        with self._lock:
            counts, since_ns = self._from
            return int(counts + (at_ns - since_ns) * self._per_ns * self._runs) % WRAP or WRAP

    def run(self, *, on: bool) -> None:
        """Start or stop the belt."""
        now_ns = self._clock.monotonic_ns()
        counts = float(self.counts(now_ns))
        with self._lock:
            self._from, self._runs = (counts, now_ns), on

    def close(self) -> None:
        """Tell nothing any more."""
        self._ended.set()
        self._thread.join(1.0)
        self._out.close()

    def _tell(self) -> None:
        while not self._ended.wait(TELL_S):
            if not self.mute:
                now_ns = self._clock.monotonic_ns() // 1000 * 1000
                self._out.sendto(ENCODER.encode(EncoderCount(ENCODER_SCHEMA, now_ns // 1000, self.counts(now_ns))), self._gate)
