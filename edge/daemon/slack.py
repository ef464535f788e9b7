"""The loop closed: gates say how much time each verdict left them, and the station disarms before the first one comes too late.

Slack in an ack is counted from the moment the verdict was in the gate's hands to the gate's own D: it holds everything, network
and gate's machine too. Its mean and its spread are followed over some 30 parts; when the mean less four times the spread reaches
zero, one part in some thousands would be late, and the station stops passing parts while all are still in time.
Verdicts go on as `invalid`, their acks still carry the slack, so the station arms itself again when the way is quick enough.
"""

import threading

from edge.daemon.phase import Station

CONDITION = "slack"
MEMORY = 1.0 / 30.0  # weight of the newest part: two seconds of a line of 15 parts/s
SPREADS = 4.0
CALM = 1.25  # arm again at this much more than disarmed at: not to and fro
_FIRST = 30  # parts before the figures mean anything


class SlackWatch:
    """Follows the slack of one station's gates. From any thread.

    Args:
        station: told when time runs out.

    Attributes:
        mean_ms: of the newest parts. spread_ms: their standard deviation. parts: acks that carried a slack.
    """

    def __init__(self, station: Station) -> None:
        self.mean_ms = 0.0
        self.spread_ms = 0.0
        self.parts = 0
        self._station = station
        self._variance = 0.0
        self._short = False
        self._lock = threading.Lock()

    def acked(self, slack_ms: float) -> None:
        """A gate had a verdict in hand, so many ms before its D; negative is late."""
        with self._lock:
            self.parts += 1
            if self.parts == 1:
                self.mean_ms = slack_ms
            else:
                weight = max(MEMORY, 1.0 / self.parts)
                apart = slack_ms - self.mean_ms
                self.mean_ms += weight * apart
                self._variance = (1.0 - weight) * (self._variance + weight * apart * apart)
            self.spread_ms = self._variance**0.5
            if self.parts < _FIRST:
                return
            need_ms = SPREADS * self.spread_ms
            short = self.mean_ms < (CALM * need_ms if self._short else need_ms)
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
