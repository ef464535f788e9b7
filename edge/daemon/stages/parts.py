"""What travels between the stages: a ticket per trigger, the shot taken for it, and the outcome that becomes its verdict."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Frame, Trigger
from edge.daemon.stages.identity import Identity
from edge.judge import Judgement

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Ticket:
    """One trigger's claim to exactly one verdict.

    Attributes:
        seq: the verdict's number. trigger: the part.
        trig_us: wall clock at the trigger, microseconds UTC, a label.
        deadline_ns: the verdict is void from then on. give_up_ns: whoever has the part then, it is answered `invalid`.
            Both CLOCK_MONOTONIC.
    """

    seq: int
    trigger: Trigger
    trig_us: int
    deadline_ns: int
    give_up_ns: int


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame that may be judged, with the ticket it was taken for."""

    ticket: Ticket
    frame: Frame


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a part.

    Attributes:
        ticket: whose answer this is.
        reason: why it is `invalid`, a code of edge.wire.verdict.REASONS; empty when it was judged.
        pixels: the picture for the page, or None; shed first when the journal falls behind.
        size_px: width and height of the picture, (0, 0) without one. exp_ns: end of its exposure, 0 without one.
        judgement: where it was judged. infer_ms: time in the engine.
        begun_ns: when judging began, 0 when it did not. done_ns: when it was answered.
        who: what judged it, None for what judges now: another model may have taken over since.
        have: of several cameras, those that delivered; empty where that follows from the rest.
    """

    ticket: Ticket
    reason: str = ""
    pixels: NDArray[np.uint8] | None = None
    size_px: tuple[int, int] = (0, 0)
    exp_ns: int = 0
    judgement: Judgement | None = None
    infer_ms: float | None = None
    begun_ns: int = 0
    done_ns: int = 0
    who: Identity | None = None
    have: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        shot: Shot,
        reason: str,
        done_ns: int,
        *,
        begun_ns: int = 0,
        judgement: Judgement | None = None,
        infer_ms: float | None = None,
        who: Identity | None = None,
    ) -> "Outcome":
        """The outcome of a part with a frame."""
        frame = shot.frame
        height, width = frame.pixels.shape[:2]
        return cls(shot.ticket, reason, frame.pixels, (width, height), frame.eof_ns, judgement, infer_ms, begun_ns, done_ns, who)
