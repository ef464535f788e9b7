"""How well a model judges a data set: open it, judge every picture as the box would, and measure."""

from training.evaluate.evaluation import evaluate, leaked_pictures
from training.evaluate.figures import Evaluation, Figures, PixelFigures, measure_pixels
from training.evaluate.judging import Judged, judge_pictures
from training.evaluate.records import pictures_json, to_json
from training.evaluate.subject import ENGINES, Subject, open_subject

__all__ = [
    "ENGINES",
    "Evaluation",
    "Figures",
    "Judged",
    "PixelFigures",
    "Subject",
    "evaluate",
    "judge_pictures",
    "leaked_pictures",
    "measure_pixels",
    "open_subject",
    "pictures_json",
    "to_json",
]
