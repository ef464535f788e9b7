"""Stages of a daemon with what they need around them, without threads."""

from edge.camera.base import Camera
from edge.clock import Clock
from edge.daemon.stages.capture import Capture
from edge.daemon.stages.framecheck import FrameCheck
from edge.daemon.stages.ledger import Answers, Ledger
from edge.daemon.stages.parts import Outcome, Shot, Ticket
from edge.daemon.state.phase import Station
from edge.queues import Backlog, Newest


def make_capture(
    camera: Camera,
    clock: Clock,
    station: Station,
    answers: Answers | None = None,
    *,
    shots: Newest[Shot] | None = None,
    valid_ms: float = 400.0,
) -> Capture:
    """The camera's stage; parts of its own and nobody who takes its frames unless given."""
    answers = answers or Answers(Ledger(), Backlog[Outcome](64), clock)
    return Capture(camera, Newest[Ticket](2), shots or Newest[Shot](1), answers, FrameCheck(20.0), station, clock, valid_ms)
