"""The figures as plain text for a terminal."""

from training.evaluate.figures import Evaluation, Figures

_WIDTH = 24


def to_text(evaluation: Evaluation) -> str:
    """Lay the figures out as text of at most 100 columns."""
    lines = [
        f"{evaluation.model} on {evaluation.data}, {evaluation.engine}",
        f"{len(evaluation.judged)} pictures: {evaluation.good} good, {evaluation.all.bad} bad; "
        f"{1000 * evaluation.seconds:.1f} ms a picture (median)",
        "",
        f"{'':{_WIDTH}}{'bad':>5}{'AUROC':>8}{'95 %':>15}{'st':>7}{'ae':>7}{'global':>8}{'missed':>9}{'sPRO.05':>9}",
    ]
    rows = {"all": evaluation.all, **evaluation.by_type}
    lines += [_row(name, figures) for name, figures in rows.items()]
    if evaluation.by_defect:
        lines += ["", *(_row(f"  {name}", figures) for name, figures in evaluation.by_defect.items())]
    lines.append("")
    pixels = evaluation.all.pixels
    if pixels is not None:
        lines.append(
            f"pixels: AUROC {_n(pixels.auroc)}, AP {_n(pixels.ap)}, "
            f"AU-PRO {_n(pixels.au_pro[0.3])} (FPR 0.3) {_n(pixels.au_pro[0.05])} (0.05), "
            f"AU-sPRO {_n(pixels.au_spro[0.3])} (0.3) {_n(pixels.au_spro[0.05])} (0.05), {pixels.pictures} pictures"
        )
    low, high = evaluation.false_reject_interval
    rate = evaluation.false_reject_rate
    if rate is not None:
        lines.append(
            f"false rejects: {evaluation.false_rejects} of {evaluation.good} good parts = {rate:.1%} "
            f"(95 %: {low:.1%} to {high:.1%}); limit: {evaluation.limit.kind}, from {evaluation.limit.n} parts"
        )
    if evaluation.causes is not None and evaluation.causes.accuracy is not None:
        lines.append(f"cause right for {evaluation.causes.accuracy:.0%} of {evaluation.causes.n} rejected parts of known cause")
    if evaluation.baseline_auroc is not None:
        lines.append(f"averages of colour alone reach AUROC {evaluation.baseline_auroc:.3f} on these pictures")
    if evaluation.untrained:
        areas = ", ".join(f"{area:.3f} on {kind}" for kind, area in evaluation.untrained.items())
        lines.append(f"an untrained random network with a pooled head reaches AUROC {areas}")
    if evaluation.leaked:
        lines.append(
            f"WARNING: {len(evaluation.leaked)} of {len(evaluation.judged)} test pictures are also training or validation "
            f"pictures, such as {evaluation.leaked[0].path}: these figures flatter the model"
        )
    return "\n".join(lines)


def _row(title: str, figures: Figures) -> str:
    interval = "" if figures.interval is None else f"{figures.interval[0]:.3f}-{figures.interval[1]:.3f}"
    spro = None if figures.pixels is None else figures.pixels.au_spro[0.05]
    branches = "".join(f"{_n(figures.branches[name]):>{width}}" for name, width in (("st", 7), ("ae", 7), ("global", 8)))
    return (
        f"{title[: _WIDTH - 1]:{_WIDTH}}{figures.bad:>5}{_n(figures.auroc):>8}{interval:>15}{branches}"
        f"{figures.missed:>5}/{figures.bad:<3}{_n(spro):>9}"
    )


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
