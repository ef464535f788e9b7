"""What the station says of itself every ten seconds: counters since the start, and what the box has left."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

from edge.clock import Clock
from edge.daemon.stages.backfill import Backfill
from edge.daemon.stages.capture import Capture
from edge.daemon.stages.figures import Figures
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.ledger import Ledger
from edge.daemon.stages.publish import Publisher
from edge.daemon.state.slack import SlackWatch
from edge.mqtt.link import Link
from edge.page.live import LiveView
from edge.system.thermal import temperatures
from edge.wire import station as wire
from edge.wire import topics
from edge.wire.topics import Topics

_PAGE_BYTES = resource.getpagesize()


class HealthReport:
    """Gathers the figures, publishes them, and leaves them with the page for its metrics.

    Args:
        who, names: identity and topics. line, rest: the connections; the message goes over the second.
        ledger, figures, capture, publisher, backfill: what is counted.
        slack: what gates say of the time left. refused: messages from outside that were refused.
        journal: whose disk is reported. clock: this machine's.
        view: the page, or None.
    """

    def __init__(
        self,
        who: Identity,
        names: Topics,
        line: Link,
        rest: Link,
        ledger: Ledger,
        figures: Figures,
        capture: Capture,
        publisher: Publisher,
        backfill: Backfill,
        slack: SlackWatch,
        refused: Callable[[], int],
        journal: Path,
        clock: Clock,
        view: LiveView | None = None,
    ) -> None:
        self._who = who
        self._topic = names.topic(topics.HEALTH)
        self._line = line
        self._rest = rest
        self._ledger = ledger
        self._figures = figures
        self._capture = capture
        self._publisher = publisher
        self._backfill = backfill
        self._slack = slack
        self._refused = refused
        self._journal = journal
        self._view = view
        self._start_ns = clock.monotonic_ns()

    def report(self, now_ns: int) -> None:
        """Say how the station is."""
        health = self._gather(now_ns)
        if self._view is not None:
            self._view.health = health
        self._rest.publish(self._topic, wire.HEALTH.encode(health), qos=topics.HEALTH.qos)

    def _gather(self, now_ns: int) -> wire.Health:
        figures, clock = self._figures, self._publisher.clock_state
        return wire.Health(
            sch=wire.HEALTH_SCHEMA,
            station=self._who.station,
            boot=self._who.boot,
            up_s=(now_ns - self._start_ns) // 1_000_000_000,
            seq=self._ledger.last_seq,
            verdicts=figures.verdicts(),
            invalid=figures.invalid(),
            late=figures.late,
            unsent=self._backfill.unsent,
            lost=self._publisher.lost,
            dropped=self._line.refused + self._rest.refused,
            refused=self._refused(),
            reconnects=max(0, self._line.reconnects - 1),
            frame_to_verdict_ms=figures.own_ms.percentiles(50, 99),
            slack_ms=figures.slack_ms.percentiles(50, 1),
            gate_slack_ms=self._slack.look(self._who.valid_ms),
            camera=wire.CameraCounts(*self._capture.counts()),
            journal_rows=self._publisher.rows,
            disk_free_mb=_disk_free_mb(self._journal),
            rss_mb=resident_mb(),
            temp_c=temperatures(),
            clk=wire.ClockHealth(clock.src, clock.off_us, clock.unc_us),
        )


def _disk_free_mb(path: Path) -> int:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize // 2**20


def resident_mb() -> int:
    """What this process holds in memory, MB of 2^20 bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES // 2**20
    except (OSError, ValueError, IndexError):
        return 0
