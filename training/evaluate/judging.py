"""Judging pictures one by one, exactly as the box does: the same resize, engine and judge."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edge.engine.base import Engine, Scores
from edge.judge import Judge, Judgement
from edge.preprocess import fit, read_picture
from training.datasets import GOOD, Item
from training.datasets.frames import Progress, log_progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture and what the model made of it.

    Attributes:
        item: the picture.
        height: of the upright picture, pixels. width: likewise.
        scores: what the engine gave. judgement: what the judge made of it.
        seconds: time of inference and judgement, without reading the file.
    """

    item: Item
    height: int
    width: int
    scores: Scores
    judgement: Judgement
    seconds: float

    @property
    def bad(self) -> bool:
        """Whether the part is of a type of defect."""
        return self.item.type != GOOD

    @property
    def rejected(self) -> bool:
        """Whether the part would not pass the gate."""
        return self.judgement.verdict != "pass"


def judge_pictures(items: Sequence[Item], engine: Engine, judge: Judge, progress: Progress | None = None) -> list[Judged]:
    """Judge pictures in order.

    Args:
        items: what to read.
        engine: who scores.
        judge: who decides.
        progress: called with (done, total) after each picture; by default a log line every five seconds.

    Returns:
        One entry a picture.

    Raises:
        PictureError: a picture cannot be read; the message names it.
        EngineError: the engine failed.
    """
    report = progress or log_progress("judging pictures")
    judged = []
    for index, item in enumerate(items):
        picture = read_picture(item.path)
        frame = fit(picture, engine.size)
        if index == 0:
            engine.infer(frame)  # the first call allocates and compiles; it would spoil the timing of the first picture
        began = time.perf_counter()
        scores = engine.infer(frame)
        judgement = judge.judge(scores)
        seconds = time.perf_counter() - began
        judged.append(Judged(item, picture.shape[0], picture.shape[1], scores, judgement, seconds))
        report(index + 1, len(items))
    return judged
