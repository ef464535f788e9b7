"""The whole evaluation: open, judge, measure."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from edge.bundle.signing import TrustStore
from training.datasets import Dataset, Item
from training.datasets.layout import hash_file
from training.evaluate.baseline import untrained_auroc
from training.evaluate.figures import Evaluation, measure
from training.evaluate.judging import judge_pictures
from training.evaluate.subject import open_subject


def evaluate(
    model: Path, data: Path, *, engine: str = "auto", trust: TrustStore | None = None, baselines: bool = False
) -> Evaluation:
    """Judge a data set's test pictures with a model and measure how well it did.

    Args:
        model: a bundle file, or the folder of a run.
        data: a data set's folder.
        engine: as `open_subject`.
        trust: keys to believe a bundle's signature by.
        baselines: also fit and judge an untrained network (`training.evaluate.baseline.untrained_auroc`).

    Raises:
        OnbeltError: as `open_subject`, a picture or mask is unusable, or there are no pictures to fit a baseline on.
    """
    subject = open_subject(model, data, engine=engine, trust=trust)
    with subject.engine:
        judged = judge_pictures(subject.items, subject.engine, subject.judge)
        name, size = subject.engine.name, subject.engine.size
    measured = measure(judged, subject, engine=name, leaked=leaked_pictures(subject.data))
    if baselines:
        measured = replace(measured, untrained=untrained_auroc(subject.data, size))
    return measured


def leaked_pictures(data: Dataset) -> list[Item]:
    """Test pictures that are byte for byte among the training or validation pictures: they flatter the model.

    Files are hashed only where sizes coincide.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for item in (*data.train, *data.validation):
        by_size[item.path.stat().st_size].append(item.path)
    known: dict[int, set[str]] = {}
    leaked = []
    for item in data.test:
        size = item.path.stat().st_size
        if size not in by_size:
            continue
        if size not in known:
            known[size] = {hash_file(path) for path in by_size[size]}
        if hash_file(item.path) in known[size]:
            leaked.append(item)
    return leaked
