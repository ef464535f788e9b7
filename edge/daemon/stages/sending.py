"""Written verdicts on their way to the gate: sent while their deadline lasts, confirmed or not.

A broker that confirms nothing for a while counts as gone: verdicts then wait in the journal for the back-fill, and another
connection is tried.
"""

import math
from collections import deque
from typing import NamedTuple

from edge.daemon.stages.parts import NS_PER_MS
from edge.daemon.state.phase import Station
from edge.mqtt.link import Delivering, Link
from edge.mqtt.local import LocalGate

STALL_MS = 1000.0  # a broker that has not confirmed a verdict for so long is not there, whatever TCP says
RENEW_MS = 3000.0  # and after so long another connection is tried: one confirmation lost would stall this one for good


class _Live(NamedTuple):
    delivery: Delivering
    n: int
    sent_ns: int


class Sending:
    """The way to the broker, and to a gate on this box.

    Args:
        line: the connection for verdicts. topic: where they go. valid_ms: a verdict's life after its trigger.
        station: told when the broker confirms nothing. local: the gate on this box, or None.
    """

    def __init__(self, line: Link, topic: str, valid_ms: float, station: Station, local: LocalGate | None) -> None:
        self._line = line
        self._topic = topic
        self._station = station
        self._local = local
        self._expiry_s = math.ceil(valid_ms / 1000) + 1
        self._stall_ns = round(max(STALL_MS, valid_ms) * NS_PER_MS)
        self._live: deque[_Live] = deque()
        self._renewed_ns = 0
        self._session = 0
        self._confirmed: list[int] = []

    def send(self, payload: bytes, n: int, now_ns: int, slack_ms: float) -> bool:
        """Send a verdict while its deadline lasts.

        Args:
            payload: the verdict.
            n: its row in the journal, 0 when it could not be written.
            now_ns: CLOCK_MONOTONIC.
            slack_ms: what is left of its deadline.

        Returns:
            False when it did not go to the broker: the back-fill sends it later.
        """
        delivery = None
        if slack_ms > 0 and not self._stalled(now_ns):
            delivery = self._line.publish(self._topic, payload, qos=1, expiry_s=self._expiry_s)
        if delivery is None:
            if slack_ms > 0 and self._local is not None:
                self._local.send(self._topic, payload)  # a broker that stalls is no reason for a gate on this box to wait
            return False
        if n:
            self._live.append(_Live(delivery, n, now_ns))
        return True

    def settle(self) -> None:
        """Look which live verdicts the broker has confirmed; those of an earlier session never will be."""
        if self._session != self._line.reconnects:
            self._session = self._line.reconnects
            self._live.clear()
        waiting = [live for live in self._live if not live.delivery.done]
        if len(waiting) != len(self._live):
            self._confirmed += [live.n for live in self._live if live.delivery.done]
            self._live = deque(waiting)

    @property
    def confirmed(self) -> bool:
        """Whether there are rows to take from the journal's outbox."""
        return bool(self._confirmed)

    def take_confirmed(self) -> list[int]:
        """Rows that were confirmed since the last call."""
        taken, self._confirmed = self._confirmed, []
        return taken

    def undecided(self) -> list[int]:
        """Rows that may still be confirmed, or are and have not been taken."""
        return [live.n for live in self._live] + self._confirmed

    def _stalled(self, now_ns: int) -> bool:
        stalled = bool(self._live) and now_ns - self._live[0].sent_ns > self._stall_ns
        if stalled:
            self._station.raise_(
                "broker-stalled",
                "warning",
                "the broker confirms no verdicts",
                "check the broker's load and the network; verdicts go to the journal meanwhile",
            )
            waited_ns = now_ns - max(self._live[0].sent_ns, self._renewed_ns)
            if waited_ns > self._stall_ns + round(RENEW_MS * NS_PER_MS):
                self._renewed_ns = now_ns
                self._line.renew("it confirms no verdicts")
        else:
            self._station.clear("broker-stalled")
        return stalled
