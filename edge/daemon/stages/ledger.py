"""One trigger, one verdict: the ledger gives every trigger its number and lets exactly one stage answer it.

A part may be given up by the pulse while the engine still works on it, or displaced by a newer one while the camera still
waits: whoever claims the ticket first answers, and everybody else's answer is dropped.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from edge.clock import Clock
from edge.daemon.stages.parts import Outcome, Ticket
from edge.queues import Backlog

KEPT_PICTURES = 4  # beyond so many waiting outcomes their pictures go: a slow disk must not fill the memory with frames


class Ledger:
    """The open tickets, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Ticket] = OrderedDict()
        self._last = 0

    @property
    def last_seq(self) -> int:
        """Number of the newest trigger, 0 before the first."""
        return self._last

    def open(self, make: Callable[[int], Ticket]) -> Ticket:
        """Give the next number; `make` gets it and returns the ticket."""
        with self._lock:
            ticket = make(self._last + 1)
            self._last = ticket.seq
            self._open[ticket.seq] = ticket
            return ticket

    def claim(self, seq: int) -> bool:
        """True for the first caller only: he must answer."""
        with self._lock:
            return self._open.pop(seq, None) is not None

    def is_open(self, seq: int) -> bool:
        """Nobody has answered it yet."""
        return seq in self._open

    def overdue(self, now_ns: int) -> list[Ticket]:
        """Open tickets whose time to give up has come."""
        with self._lock:
            return [ticket for ticket in self._open.values() if ticket.give_up_ns <= now_ns]

    def all_open(self) -> list[Ticket]:
        """All open tickets, oldest first."""
        with self._lock:
            return list(self._open.values())

    def next_give_up_ns(self) -> int | None:
        """When the next part must be given up; None when none is open."""
        with self._lock:
            return min((ticket.give_up_ns for ticket in self._open.values()), default=None)

    def __len__(self) -> int:
        return len(self._open)


class Answers:
    """Where every stage leaves its outcomes: the first answer to a ticket goes on to publication.

    Args:
        ledger: the open tickets.
        outbox: towards the journal; never drops.
        clock: stamps the answers.
    """

    def __init__(self, ledger: Ledger, outbox: Backlog[Outcome], clock: Clock) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._clock = clock
        self._closed = False

    def give(self, outcome: Outcome) -> bool:
        """Answer a ticket; False when somebody else had done so. Waits for room while the journal is slow."""
        if not self._ledger.claim(outcome.ticket.seq):
            return False
        if len(self._outbox) >= KEPT_PICTURES and outcome.pixels is not None:
            outcome = replace(outcome, pixels=None)
        # An answer claimed must arrive: until the journal has room the stage stands still, and so in turn do the triggers.
        while not self._outbox.put(outcome, timeout_s=0.1):
            if self._closed:
                return False
        return True

    def give_up(self, ticket: Ticket, reason: str) -> bool:
        """Answer `invalid` for whoever holds the ticket; False when there is no room now, the ticket stays open then."""
        if len(self._outbox) >= self._outbox.depth:
            return False
        return self.give(Outcome(ticket, reason, done_ns=self._clock.monotonic_ns()))

    def close(self) -> None:
        """Stop waiting for room: the journal is gone."""
        self._closed = True
