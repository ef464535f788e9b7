"""Outcomes, moments and the identity verdicts are made of in tests, and a publisher with a real journal."""

import numpy as np

from edge.daemon.stages.compose import Moment
from edge.daemon.stages.figures import Figures
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Shot
from edge.daemon.stages.publish import Publisher
from edge.daemon.state.phase import Station
from edge.journal.reader import Reader
from edge.journal.store import Journal
from edge.judge import Judgement
from edge.page.live import LiveView
from edge.queues import Backlog
from edge.system.clocksync import ClockState
from edge.wire import station as wire
from edge.wire.verdict import GENESIS, decode_verdict
from tests.support.station import T0_NS, HandClock, RecordingConnection, frame, ticket

BOOT = "01JD8Q7ZK30000000000000000"
KEY = b"sixteen bytes ok"
WHO = Identity(
    "st2", BOOT, "g1", "L1", "c1", 400.0, "m@sha256:" + "9f" * 16, "bottle@7", "sha256:" + "77" * 16, None
)  # fmt: skip
FREE = ClockState("free", None, None)
TOKEN = "chk-20261122-010633"
CHECK = wire.Check(TOKEN, 1, 2, 3)


def judgement(verdict="pass", cal=0.4, cause=None, regions=()):
    return Judgement(verdict, cal / 2, cal, 0.3, cal, cal / 2, cal / 3, cause, regions, np.zeros((8, 8), np.float32))


def outcome(seq=1, judged=None, reason="", **options):
    shot = Shot(ticket(seq, **options), frame(seq))
    judged = judged if judged is not None or reason else judgement()
    return Outcome.of(shot, reason, T0_NS + 20 * NS_PER_MS, begun_ns=T0_NS + 5 * NS_PER_MS, judgement=judged, infer_ms=9.81)


def moment(after_ms=30.0, token=TOKEN, forced=""):
    return Moment(T0_NS + round(after_ms * NS_PER_MS), token, GENESIS, FREE, forced)


class Desk:
    """A publisher with a real journal and a recorded connection."""

    def __init__(self, folder, who=WHO, *, armed=True, **connection):
        self.path = folder / "j.db"
        self.clock = HandClock()
        self.station = Station(self.clock)
        if armed:
            self.station.warming()
            self.station.checked(CHECK, 3_600_000)
        self.journal = Journal(self.path, "st2", 4 * 2**20)
        self.line = RecordingConnection(**connection)
        self.figures = Figures()
        self.view = LiveView(self.clock)
        self.publisher = Publisher(
            Backlog[Outcome](32), self.journal, self.line, "verdict/g1", who, self.station, self.clock, self.figures, self.view
        )

    def step(self, *outcomes, after_ms=30.0):
        self.clock.now_ns = T0_NS + round(after_ms * NS_PER_MS)
        self.publisher.step(list(outcomes))

    def rest(self, ms=2000.0):
        self.clock.forward(ms)
        self.publisher._rest()

    def sent(self):
        return [decode_verdict(one.payload) for one in self.line.sent]

    def rows(self):
        with Reader(self.path) as reader:
            return reader.rows(0, 1000)

    def unsent(self):
        with Reader(self.path) as reader:
            return [row.n for row in reader.unsent(0, 1000, 1000)]
