"""The loop closed: gates say how much time each verdict left them, and the station disarms before the first one comes too late.

Slack in an ack is counted from the moment the verdict was in the gate's hands to the gate's own D: it holds everything, network
and gate's machine too. Its mean and its spread are followed over some 30 parts; when the mean less four times the spread reaches
zero, one part in some thousands would be late, and the station stops passing parts while all are still in time.
Verdicts go on as `invalid`, their acks still carry the slack, so the station arms itself again when the way is quick enough.

What is looked for is a way that grows slower, not one that broke: a frozen broker makes some parts very late, which the gate
rejects by itself, and says nothing of the next. So one part moves the figures by at most four spreads, and after a pause, in
which the line stood or the broker was gone, they begin anew.

Beside it stands what an integrator asks for: the time that 99.9 % of the last parts had left at the gate. D less that is the
p99.9 from trigger to gate; D itself is the gate's, and no ack names it. A warning comes long before a part is late.
"""

import threading

from edge.clock import Clock
from edge.daemon.rolling import Rolling
from edge.daemon.state.phase import Station

CONDITION = "slack"
NEAR = "gate-near"
NEAR_SHARE = 0.1  # of valid_ms: less than that is left for one part in a thousand
_KNOWN = 1000  # parts before a p99.9 means anything
MEMORY = 1.0 / 30.0  # weight of the newest part: two seconds of a line of 15 parts/s
SPREADS = 4.0
CALM = 1.25  # arm again at this much more than disarmed at: not to and fro
_FIRST = 30  # parts before the figures mean anything
_LEAST_SPREAD_MS = 1.0  # so that a way that never varied can begin to
PAUSE_NS = 2_000_000_000  # no ack for so long: what was known of the way is of another time


class SlackWatch:
    """Follows the slack of one station's gates. From any thread.

    Args:
        station: told when time runs out. clock: this machine's.

    Attributes:
        mean_ms: of the newest parts. spread_ms: their standard deviation. parts: acks that carried a slack.
        recent_ms: of the last few thousand parts.
    """

    def __init__(self, station: Station, clock: Clock) -> None:
        self.mean_ms = 0.0
        self.spread_ms = 0.0
        self.parts = 0
        self.recent_ms = Rolling()
        self._station = station
        self._clock = clock
        self._variance = 0.0
        self._last_ns = 0
        self._short = False
        self._lock = threading.Lock()

    def acked(self, slack_ms: float) -> None:
        """A gate had a verdict in hand, so many ms before its D; negative is late."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            if now_ns - self._last_ns > PAUSE_NS:
                self.parts, self._variance = 0, 0.0
            self._last_ns = now_ns
            self.recent_ms.add(slack_ms)
            self._take(slack_ms)
            need_ms = SPREADS * self.spread_ms
            known = self.parts >= _FIRST
            short = known and self.mean_ms < (CALM * need_ms if self._short else need_ms)
            changed, self._short = short != self._short, short
        if changed and short:
            self._station.raise_(
                CONDITION,
                "fault",
                f"verdicts reach the gate {self.mean_ms:.0f} ms before its deadline on average, spread {self.spread_ms:.0f} ms: "
                "soon one will be late",
                "slow the line, free processor and network, or move the rejector; it arms again when there is time",
            )
        elif changed:
            self._station.clear(CONDITION)

    def look(self, valid_ms: float) -> list[float] | None:
        """What half and 99.9 % of the last parts had left at the gate, ms, None before any ack; warns where it is little."""
        left = self.recent_ms.percentiles(50, 0.1)
        if left is None or self.recent_ms.count < _KNOWN:
            return left
        if left[1] < NEAR_SHARE * valid_ms:
            self._station.raise_(
                NEAR,
                "warning",
                f"one verdict in a thousand reaches the gate {left[1]:.0f} ms before its deadline or later, of {valid_ms:g} ms",
                "look what else takes processor, disk and network; slow the line, or give more time: move the rejector",
            )
        elif left[1] > CALM * NEAR_SHARE * valid_ms:
            self._station.clear(NEAR)
        return left

    def _take(self, slack_ms: float) -> None:
        self.parts += 1
        if self.parts == 1:
            self.mean_ms = slack_ms
            return
        weight, apart = max(MEMORY, 1.0 / self.parts), slack_ms - self.mean_ms
        if self.parts > _FIRST:
            bound = SPREADS * max(self.spread_ms, _LEAST_SPREAD_MS)
            apart = min(max(apart, -bound), bound)
        self.mean_ms += weight * apart
        self._variance = (1.0 - weight) * (self._variance + weight * apart * apart)
        self.spread_ms = self._variance**0.5
