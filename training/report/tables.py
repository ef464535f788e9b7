"""The report's tables: figures by type and defect, and stated causes against true ones."""

from html import escape

from training.evaluate import Evaluation, Figures
from training.report.formats import number, percents, span


def table_section(evaluation: Evaluation) -> str:
    """Ranking, branches, misses and pixel figures of every type and defect; below them, where causes are known, who said what."""
    heads = (
        "",
        "bad parts",
        "AUROC",
        "95 %",
        "st",
        "ae",
        "global",
        "missed",
        "95 %",
        "AU-PRO<br>5 %",
        "30 %",
        "AU-sPRO<br>5 %",
        "30 %",
        "pixel<br>AUROC",
        "pixel<br>AP",
    )
    several = len(evaluation.by_type) > 1
    rows = [_row("all", evaluation.all, "total")] if several else []
    for group in (evaluation.by_type, evaluation.by_defect):
        rows += [_row(name, figures, "first" if i == 0 else "") for i, (name, figures) in enumerate(group.items())]
    notes = [f"Mean of the types' AUROC: {number(evaluation.mean_auroc)}."] if several else []
    if evaluation.baseline_auroc is not None:
        notes.append(f"Averages of colour alone: {evaluation.baseline_auroc:.3f}.")
    notes += [f"Untrained random network, {kind}: {area:.3f}." for kind, area in evaluation.untrained.items()]
    if evaluation.all.branches["maps"] is not None:
        notes.append(f"Both maps without the global branch: {evaluation.all.branches['maps']:.3f}.")
    return (
        "<section><h2>By type and defect</h2>"
        f'<p class="dim">Each row against all {evaluation.good} good parts. {escape(" ".join(notes))}</p>'
        f'<div class="scroll"><table><thead><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_cause_table(evaluation)}</section>"
    )


def _row(name: str, figures: Figures, style: str) -> str:
    cells = [
        escape(name),
        str(figures.bad),
        number(figures.auroc),
        "-" if figures.interval is None else f"<small>{span(figures.interval)}</small>",
        *(number(figures.branches[branch]) for branch in ("st", "ae", "global")),
        str(figures.missed),
        f"<small>{percents(figures.miss_interval)}</small>",
        *map(number, _pixel_figures(figures)),
    ]
    marked = [f"<td{' class=wrong' if i == 7 and figures.missed else ''}>{cell}</td>" for i, cell in enumerate(cells)]
    return f'<tr class="{style}">{"".join(marked)}</tr>'


def _pixel_figures(figures: Figures) -> tuple[float | None, ...]:
    """AU-PRO and AU-sPRO, each at both limits on the false positive rate, then pixel AUROC and AP."""
    pixels = figures.pixels
    if pixels is None:
        return (None,) * 6
    areas = (area[limit] for area in (pixels.au_pro, pixels.au_spro) for limit in (0.05, 0.3))
    return (*areas, pixels.auroc, pixels.ap)


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
