"""The report's charts: who scores where, what another limit would do, and the ROC curves.

Scores are shown as score / limit, so 1.0 is the limit of every model.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.metrics import clopper_pearson, roc_curve
from training.report.svg import Plot, Scale, percent_scale

_BINS = 40
_ROW_PX = 62.0
_BAND_PLACES = 81  # of the limit where an interval is computed: finer than the eye
_CURVES = 6  # lines a chart can hold before their colours run together

Scores = NDArray[np.float64]


def score_range(groups: Mapping[str, Scores]) -> float:
    """Right end of the score axis: 2, 4 or 8 limits, so that nine tenths of the bad parts lie inside if they can."""
    bad = [values for name, values in groups.items() if name != "good"]
    reach = float(np.quantile(np.concatenate(bad), 0.9)) if bad else 2.0
    return next((end for end in (2.0, 4.0) if reach <= end), 8.0)


def score_scale(high: float) -> Scale:
    """The score axis; what lies beyond its end is gathered at it."""
    ticks = [(i * high / 4, f"{i * high / 4:g}") for i in range(5)]
    ticks[-1] = (high, f"{high:g}+")
    return Scale(0.0, high, tuple(ticks), "score / limit")


def score_chart(groups: Mapping[str, Scores]) -> str:
    """One histogram a type above one another, with the limit through all of them.

    Args:
        groups: type -> (N,) scores in units of the limit, "good" first.
    """
    high = score_range(groups)
    width = high / _BINS
    rows = list(groups.items())
    plot = Plot(
        score_scale(high),
        Scale(0.0, float(len(rows)), ()),
        label="histograms of score / limit, one row a type; the limit is at 1",
        width=1180.0,
        height=_ROW_PX * len(rows) + 78.0,
        left=230.0,
        top=24.0,
        bottom=54.0,
    )
    for index, (name, values) in enumerate(rows):
        base = float(len(rows) - 1 - index)
        kind = "good" if name == "good" else "bad"
        # A score of exactly 1 passes, so bins are open on the left: (0.95, 1], (1, 1.05].
        bins = np.clip(np.ceil(values / width - 1e-9).astype(np.int64) - 1, 0, _BINS - 1)
        counts = np.bincount(bins, minlength=_BINS)
        for number in np.flatnonzero(counts):
            low = number * width
            wrong = (low >= 1.0 - 1e-9) == (kind == "good")
            tall = 0.86 * counts[number] / counts.max()
            end = "up" if number == _BINS - 1 else f"{low + width:g}"
            plot.bar(
                low,
                low + width,
                base,
                base + tall,
                f"bar {kind}{' wrong' if wrong else ''}",
                f"{name}: {counts[number]} parts from {low:g} to {end}",
                f' data-low="{low:g}" data-kind="{kind}"',
            )
        plot.line([(0.0, base), (high, base)], "axis")
        plot.text(0.0, base, name, "name", "end", dx=-14, dy=-24)
        plot.text(0.0, base, f"{values.size} parts", "small", "end", dx=-14, dy=-6)
    plot.upright(1.0, "limit", "limit", ' data-follows=""')
    return plot.render()


def what_if_chart(groups: Mapping[str, Scores]) -> str:
    """Share of good parts rejected and of bad parts missed, for every place the limit might stand at, with 95 % intervals.

    Args:
        groups: as `score_chart`.
    """
    high = score_range(groups)
    plot = Plot(score_scale(high), percent_scale("share of parts"), label="false rejects and misses over the limit")
    good = groups.get("good", np.empty(0))
    places = np.linspace(0.0, high, _BAND_PLACES)
    if good.size:
        _band(plot, places, good.size - np.searchsorted(np.sort(good), places, side="right"), good.size, 0)
    for number, (_, values) in enumerate(curves(groups)):
        _band(plot, places, np.searchsorted(np.sort(values), places, side="right"), values.size, number + 1)
    if good.size:
        ordered = np.sort(np.clip(good, 0.0, high))
        above = 1.0 - np.arange(1, ordered.size + 1) / ordered.size
        plot.steps([(0.0, 1.0), *zip(ordered.tolist(), above.tolist(), strict=True), (high, 0.0)], "curve c0")
    for number, (_, values) in enumerate(curves(groups)):
        ordered = np.sort(values)
        below = np.arange(ordered.size) / ordered.size
        # A part is missed once the limit reaches its score: just below it, the parts before it in order are.
        inside = ordered < high
        points = [(0.0, 0.0)]
        for score, share in zip(ordered[inside].tolist(), below[inside].tolist(), strict=True):
            points += [(max(score, 0.0), share), (max(score, 0.0), share + 1.0 / ordered.size)]
        points.append((high, points[-1][1]))
        plot.line(points, f"curve c{number + 1}")
    plot.upright(1.0, "limit", "", ' data-follows=""')
    return plot.render()


def _band(plot: Plot, places: Scores, counts: NDArray[np.int64], n: int, colour: int) -> None:
    """Shade the exact 95 % interval of a share at each place of the limit."""
    ends = [clopper_pearson(int(count), n) for count in counts]
    low = [(float(place), end[0]) for place, end in zip(places, ends, strict=True)]
    high = [(float(place), end[1]) for place, end in zip(places, ends, strict=True)]
    plot.band(low, high, f"band c{colour}")


def roc_chart(groups: Mapping[str, Scores]) -> str:
    """ROC curves of each type against the good parts, with the place the limit puts each at.

    Args:
        groups: as `score_chart`.
    """
    plot = Plot(
        percent_scale("good parts rejected"),
        percent_scale("bad parts found"),
        label="ROC curves; the dots are where the limit stands",
        right=34.0,
    )
    plot.line([(0.0, 0.0), (1.0, 1.0)], "chance")
    good = groups.get("good", np.empty(0))
    if not good.size:
        return plot.render()
    rejected = float((good > 1.0).mean())
    for number, (name, values) in enumerate(curves(groups)):
        fpr, tpr, _ = roc_curve(np.concatenate([good, values]), np.arange(good.size + values.size) >= good.size)
        plot.line(list(zip(fpr.tolist(), tpr.tolist(), strict=True)), f"curve c{number + 1}")
        found = float((values > 1.0).mean())
        plot.dot(rejected, found, f"dot c{number + 1}", f"{name}: {found:.1%} found, {rejected:.1%} of good parts rejected")
    return plot.render()


def curves(groups: Mapping[str, Scores]) -> Sequence[tuple[str, Scores]]:
    """The lines of a chart: each type of defect, or all of them as one where they are too many to tell apart."""
    bad = [(name, values) for name, values in groups.items() if name != "good"]
    if len(bad) <= _CURVES:
        return bad
    return [(f"all {len(bad)} types", np.concatenate([values for _, values in bad]))]


def legend(groups: Mapping[str, Scores], *, good: str = "", bad: str = "") -> list[tuple[str, str]]:
    """Style and words of each line; `good` and `bad` say what its height means."""
    lines = [(f"c{number + 1}", f"{name}{bad}") for number, (name, _) in enumerate(curves(groups))]
    return [("c0", f"good{good}"), *lines] if good else lines
