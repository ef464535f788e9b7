"""From judged pictures to figures: of all, of each type, of each named defect; at the limit and at every other."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.anomaly_map import to_picture
from edge.bundle.manifest import Limit
from training.datasets import Dataset, DefectConfig, Item, read_truth
from training.datasets.frames import log_progress
from training.evaluate.baseline import colour_auroc
from training.evaluate.judging import Judged
from training.evaluate.subject import Subject
from training.metrics import PixelCounts, auroc, auroc_interval, clopper_pearson, count_pixels, threshold_edges
from training.metrics.pixels import no_pixels, split_regions

LIMITS = (0.05, 0.3)
"""False positive rates up to which the overlap curves are integrated: MVTec LOCO AD's 0.05 and MVTec AD's 0.3."""

CAUSE_OF_TYPE = {"logical_anomalies": "logical", "structural_anomalies": "structural"}
"""MVTec LOCO AD's types, whose cause is known."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PixelFigures:
    """How well maps find the marked pixels.

    Attributes:
        pictures: pictures counted, good ones and those with masks.
        auroc: pixel AUROC. ap: pixel average precision.
        au_pro: area under the per-region overlap by limit on the false positive rate. au_spro: likewise with the data set's
            saturation thresholds.
    """

    pictures: int
    auroc: float | None
    ap: float | None
    au_pro: dict[float, float | None]
    au_spro: dict[float, float | None]


@dataclass(frozen=True, slots=True)
class Figures:
    """How well bad parts of some kind are told from all good ones.

    Attributes:
        bad: parts of this kind.
        auroc: image AUROC of the score. interval: 95 % for it.
        branches: image AUROC of st, ae and global alone, and of the larger of st and ae in units of their limits ("maps").
        missed: parts of this kind below the limit. miss_interval: 95 % for their share.
        pixels: figures of the maps; None where nobody drew masks.
    """

    bad: int
    auroc: float | None
    interval: Range | None
    branches: dict[str, float | None]
    missed: int
    miss_interval: Range
    pixels: PixelFigures | None

    @property
    def miss_rate(self) -> float | None:
        """Share of parts of this kind that would pass the gate."""
        return self.missed / self.bad if self.bad else None


@dataclass(frozen=True, slots=True)
class Causes:
    """Whether rejected bad parts were rejected for the right cause.

    Attributes:
        table: true cause ("logical", "structural") -> stated cause ("logical", "structural", "global") -> parts.
    """

    table: dict[str, dict[str, int]]

    @property
    def n(self) -> int:
        """Rejected bad parts whose true cause is known."""
        return sum(sum(row.values()) for row in self.table.values())

    @property
    def accuracy(self) -> float | None:
        """Share of them with the right cause; "global" names none, so it is never right."""
        return sum(row.get(true, 0) for true, row in self.table.items()) / self.n if self.n else None


@dataclass(frozen=True)
class Evaluation:
    """All figures of one model on one data set, with the judged pictures they come from.

    Attributes:
        model: the model's name. engine: who computed. data: the data set's name and hash. saturation: its table of defects.
        limit: what parts were held against.
        judged: every picture, good ones first.
        all: figures of all bad parts. by_type: of each folder. by_defect: of each defect the masks name.
        false_rejects: good parts above the limit. false_reject_interval: 95 % for their share.
        causes: whether causes were right; None where no type tells the cause.
        baseline_auroc: what averages of colour reach on the same pictures.
        untrained: type -> what an untrained random network reaches on it; empty where nobody asked.
        leaked: test pictures that are byte for byte among the training or validation pictures.
        provenance: where the model comes from, label -> text. warnings: what its maker warned of.
    """

    model: str
    engine: str
    data: str
    data_sha256: str
    saturation: dict[int, DefectConfig]
    limit: Limit
    judged: list[Judged]
    all: Figures
    by_type: dict[str, Figures]
    by_defect: dict[str, Figures]
    false_rejects: int
    false_reject_interval: Range
    causes: Causes | None
    baseline_auroc: float | None
    leaked: tuple[Item, ...]
    provenance: dict[str, str]
    warnings: tuple[str, ...]
    untrained: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """Good parts judged."""
        return sum(not one.bad for one in self.judged)

    @property
    def false_reject_rate(self) -> float | None:
        """Share of good parts above the limit."""
        return self.false_rejects / self.good if self.good else None

    @property
    def mean_auroc(self) -> float | None:
        """Mean of the types' image AUROC: how MVTec LOCO AD's results are published."""
        areas = [figures.auroc for figures in self.by_type.values() if figures.auroc is not None]
        return float(np.mean(areas)) if areas else None

    @property
    def seconds(self) -> float:
        """Median time of inference and judgement of one picture."""
        return float(np.median([one.seconds for one in self.judged]))


def measure(judged: Sequence[Judged], subject: Subject, *, engine: str, leaked: Iterable[Item] = ()) -> Evaluation:
    """Compute all figures.

    Args:
        judged: every picture of the subject's items, judged.
        subject: what judged them, and the data set they come from.
        engine: who computed.
        leaked: test pictures the model may have learnt from.

    Raises:
        DataError: a mask is unusable.
    """
    data = subject.data
    ordered = sorted(judged, key=lambda one: one.bad)
    good = [one for one in ordered if not one.bad]
    types: dict[str, list[Judged]] = defaultdict(list)
    for one in ordered:
        if one.bad:
            types[one.item.type].append(one)
    counts, names = _count(ordered, data)
    named: dict[str, list[Judged]] = defaultdict(list)
    for parts in types.values():  # type by type, so that a type's defects stand together
        for name in sorted(set().union(*(names.get(one.item, set()) for one in parts))):
            named[name] += [one for one in parts if name in names.get(one.item, set())]
    rejected = sum(one.rejected for one in good)
    return Evaluation(
        model=subject.name,
        engine=engine,
        data=data.name,
        data_sha256=data.data_sha256,
        saturation=data.saturation,
        limit=subject.limit,
        judged=ordered,
        all=_figures(good, [one for one in ordered if one.bad], counts),
        by_type={kind: _figures(good, parts, counts) for kind, parts in types.items()},
        by_defect={name: _figures(good, parts, counts) for name, parts in named.items()},
        false_rejects=rejected,
        false_reject_interval=clopper_pearson(rejected, len(good)),
        causes=_causes(ordered),
        baseline_auroc=colour_auroc(data),
        leaked=tuple(leaked),
        provenance=subject.provenance,
        warnings=subject.warnings,
    )


def measure_pixels(judged: Sequence[Judged], data: Dataset) -> PixelFigures | None:
    """Compare the anomaly maps of some pictures with their masks, whatever these maps show.

    Args:
        judged: good pictures and bad ones.
        data: the data set they come from.

    Returns:
        None where no defect among them has a mask.

    Raises:
        DataError: a mask is unusable.
    """
    counts, _ = _count(judged, data)
    return _pixel_figures(list(counts.values()))


def _figures(good: list[Judged], bad: list[Judged], counts: dict[Item, PixelCounts]) -> Figures:
    flags = [False] * len(good) + [True] * len(bad)
    parts = good + bad

    def area(values: list[float]) -> float | None:
        return auroc(values, flags)

    overall = area([one.scores.raw for one in parts])
    missed = sum(not one.rejected for one in bad)
    return Figures(
        bad=len(bad),
        auroc=overall,
        interval=None if overall is None else auroc_interval(overall, len(good), len(bad)),
        branches={
            "st": area([one.scores.st for one in parts]),
            "ae": area([one.scores.ae for one in parts]),
            "global": area([one.scores.global_ for one in parts]),
            "maps": area([max(one.judgement.st, one.judgement.ae) for one in parts]),
        },
        missed=missed,
        miss_interval=clopper_pearson(missed, len(bad)),
        pixels=_pixel_figures([counts[one.item] for one in parts if one.item in counts]),
    )


def _pixel_figures(counted: list[PixelCounts]) -> PixelFigures | None:
    if not any(one.defects for one in counted):
        return None
    total = sum(counted, start=no_pixels(counted[0].negative.size))
    return PixelFigures(
        pictures=len(counted),
        auroc=total.auroc(),
        ap=total.average_precision(),
        au_pro={limit: total.au_pro(limit) for limit in LIMITS},
        au_spro={limit: total.au_spro(limit) for limit in LIMITS},
    )


def _count(judged: Sequence[Judged], data: Dataset) -> tuple[dict[Item, PixelCounts], dict[Item, set[str]]]:
    """Count the pixels of good pictures and of those with masks, and note which defects the masks name."""
    marked = [one for one in judged if not one.bad or one.item.masks]
    names: dict[Item, set[str]] = {}
    counts: dict[Item, PixelCounts] = {}
    if not any(one.bad for one in marked):
        return counts, names
    edges = threshold_edges(one.judgement.anomaly_map for one in marked)
    report = log_progress("counting pixels")
    for done, one in enumerate(marked, start=1):
        truths = read_truth(one.item, data.saturation)
        names[one.item] = {truth.name for truth in truths if truth.name}
        if data.saturation:
            defects = [(truth.pixels, truth.saturation_px) for truth in truths]
        else:
            defects = split_regions([truth.pixels for truth in truths])
        counts[one.item] = count_pixels(to_picture(one.judgement.anomaly_map, one.height, one.width), defects, edges)
        report(done, len(marked))
    return counts, names


def _causes(judged: Sequence[Judged]) -> Causes | None:
    table: dict[str, dict[str, int]] = {}
    for one in judged:
        true = CAUSE_OF_TYPE.get(one.item.type)
        if true is None:
            continue
        row = table.setdefault(true, {"logical": 0, "structural": 0, "global": 0})
        if one.rejected and one.judgement.cause is not None:
            row[one.judgement.cause] += 1
    return Causes(table) if table else None
