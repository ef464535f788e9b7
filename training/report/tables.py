"""The report's tables: figures by type and defect, and stated causes against true ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from training.evaluate import Evaluation, Figures
from training.report.formats import number, percents, span

_PARTS_HEADS = ("", "bad parts", "AUROC", "95 %", "st", "ae", "global", "missed", "95 %")
_PIXELS_HEADS = ("pixels", "pictures", "AU-PRO, 5 %", "30 %", "AU-sPRO, 5 %", "30 %", "pixel AUROC", "pixel AP")


def table_section(evaluation: Evaluation) -> str:
    """Ranking, branches and misses of every type and defect; pixel figures where there are masks, stated causes where known."""
    several = len(evaluation.by_type) > 1
    groups = [{"all": evaluation.all}] if several else []
    groups += [evaluation.by_type, evaluation.by_defect]
    notes = [f"Mean of the types' AUROC: {number(evaluation.mean_auroc)}."] if several else []
    if evaluation.baseline_auroc is not None:
        notes.append(f"Averages of colour alone: {evaluation.baseline_auroc:.3f}.")
    notes += [f"Untrained random network, {kind}: {area:.3f}." for kind, area in evaluation.untrained.items()]
    if evaluation.all.branches["maps"] is not None:
        notes.append(f"Both maps without the global branch: {evaluation.all.branches['maps']:.3f}.")
    return (
        "<section><h2>By type and defect</h2>"
        f'<p class="dim">Each row against all {evaluation.good} good parts. {escape(" ".join(notes))}</p>'
        f"{_table(_PARTS_HEADS, groups, _part_cells, total=several)}"
        f"{_pixel_table(groups, total=several)}{_cause_table(evaluation)}</section>"
    )


def _table(
    heads: Sequence[str], groups: Iterable[Mapping[str, Figures]], cells: Callable[[Figures], Iterable[str]], *, total: bool
) -> str:
    rows: list[str] = []
    for group in groups:
        for i, (name, figures) in enumerate(group.items()):
            style = "total" if total and not rows else "first" if i == 0 else ""
            rows.append(f'<tr class="{style}"><td>{escape(name)}</td>{"".join(cells(figures))}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _part_cells(figures: Figures) -> list[str]:
    interval = "-" if figures.interval is None else f"<small>{span(figures.interval)}</small>"
    branches = (number(figures.branches[branch]) for branch in ("st", "ae", "global"))
    return [
        *(f"<td>{cell}</td>" for cell in (figures.bad, number(figures.auroc), interval, *branches)),
        f"<td{' class=wrong' if figures.missed else ''}>{figures.missed}</td>",
        f"<td><small>{percents(figures.miss_interval)}</small></td>",
    ]


def _pixel_table(groups: Iterable[Mapping[str, Figures]], *, total: bool) -> str:
    masked = [{name: figures for name, figures in group.items() if figures.pixels is not None} for group in groups]
    return _table(_PIXELS_HEADS, masked, _pixel_cells, total=total) if any(masked) else ""


def _pixel_cells(figures: Figures) -> list[str]:
    pixels = figures.pixels
    if pixels is None:
        return []
    areas = (area[limit] for area in (pixels.au_pro, pixels.au_spro) for limit in (0.05, 0.3))
    return [f"<td>{cell}</td>" for cell in (pixels.pictures, *map(number, (*areas, pixels.auroc, pixels.ap)))]


def _cause_table(evaluation: Evaluation) -> str:
    if evaluation.causes is None or not evaluation.causes.n:
        return ""
    stated = ("logical", "structural", "global")
    rows = "".join(
        f"<tr><td>{true}</td>{''.join(f'<td>{row.get(cause, 0)}</td>' for cause in stated)}</tr>"
        for true, row in evaluation.causes.table.items()
    )
    return (
        "<table><thead><tr><th>true cause of rejected parts</th>"
        f"{''.join(f'<th>said {cause}</th>' for cause in stated)}</tr></thead><tbody>{rows}</tbody></table>"
    )
