"""Lays the report out as one HTML file."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import numpy as np

from edge import __version__
from edge.clock import SystemClock
from edge.engine.machine import this_machine
from edge.errors import ConfigError
from training.evaluate import Evaluation, Judged, pictures_json, to_json
from training.report import charts
from training.report.cautions import cautions
from training.report.formats import number, percents, share, span
from training.report.gallery import at_worst, make_case, worst_alarms, worst_misses
from training.report.tables import table_section

REPORT_NAME, FIGURES_NAME = "report.html", "evaluation.json"

_TERMS = (
    ("score / limit", "The score of a part divided by the model's limit. Above 1 it is rejected."),
    ("AUROC", "Chance that a bad part scores above a good one: 0.5 is guessing, 1 is never wrong. Says nothing about the limit."),
    ("95 %", "Range that holds the true value 19 times of 20: exact for shares (Clopper-Pearson), Newcombe's for AUROC."),
    ("false rejects", "Good parts above the limit. Misses: bad parts at or below it, which the gate would let through."),
    ("st, ae, global", "AUROC of one branch alone: teacher against student, auto-encoder against student, the part as a whole."),
    ("AU-PRO", "How much of each marked region is found while at most 5 % (30 %) of good pixels are marked; 1 is best."),
    ("AU-sPRO", "The same, where part of a region may be enough (MVTec LOCO AD's saturation thresholds)."),
    ("pixel AP", "Share of the marked pixels that are bad, averaged over all limits: hard where defects are small."),
    ("averages of colour", "What 8 x 8 cell means and each channel's spread reach without any network: the floor to clear."),
)


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Write the report and, beside it, its figures and every picture's verdict as JSON.

    Args:
        evaluation: what to report.
        folder: made when missing; files of these names in it are replaced.

    Returns:
        The HTML file.

    Raises:
        ConfigError: the folder cannot be made or written.
        PictureError, DataError: a picture or mask shown in it cannot be read any more.
    """
    page = render(evaluation)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(
            folder / FIGURES_NAME, json.dumps({**to_json(evaluation), "pictures": pictures_json(evaluation)}, indent=1) + "\n"
        )
        _replace(folder / REPORT_NAME, page)
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot write the report there ({exc.strerror}); name another folder with --report") from exc
    return folder / REPORT_NAME


def _replace(path: Path, text: str) -> None:
    """Write whole or not at all: a browser may be looking at the old report."""
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def render(evaluation: Evaluation) -> str:
    """The whole page."""
    groups = _groups(evaluation.judged)
    title = f"{evaluation.model} on {evaluation.data}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">{len(evaluation.judged)} pictures judged one by one, {escape(evaluation.engine)}</p>',
        *(f'<div class="warn"><b>{escape(head)}</b>{escape(text)}</div>' for head, text in cautions(evaluation)),
        _tiles(evaluation),
        _scores_section(groups),
        f'<div class="pair">{_roc_section(groups)}{_what_if_section(groups)}</div>'
        if evaluation.all.bad
        else _what_if_section(groups),
        table_section(evaluation) if evaluation.all.bad else "",
        _cases_section(evaluation),
        _provenance_section(evaluation),
        _terms_section(),
    ]
    data = json.dumps({name: [round(float(s), 5) for s in values] for name, values in groups.items()}).replace("</", "<\\/")
    script = f'<script type="application/json" id="scores">{data}</script><script>{_asset("slider.js")}</script>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_asset('style.css')}</style></head><body><main>{''.join(parts)}</main>{script}</body></html>\n"
    )


def _groups(judged: Iterable[Judged]) -> dict[str, charts.Scores]:
    """Type -> scores in units of the limit, "good" first."""
    groups: dict[str, list[float]] = {}
    for one in judged:
        groups.setdefault(one.item.type, []).append(one.judgement.cal)
    return {name: np.asarray(values) for name, values in groups.items()}


def _tiles(evaluation: Evaluation) -> str:
    first = evaluation.all
    tiles = []
    if first.auroc is not None and first.interval is not None:
        tiles.append(("Image AUROC", number(first.auroc), f"95 %: {span(first.interval)}", False))
    if evaluation.good:
        note = f"{evaluation.false_rejects} of {evaluation.good}; 95 %: {percents(evaluation.false_reject_interval)}"
        tiles.append(("Good parts rejected", share(evaluation.false_reject_rate), note, evaluation.false_rejects > 0))
    if first.bad:
        note = f"{first.missed} of {first.bad}; 95 %: {percents(first.miss_interval)}"
        tiles.append(("Bad parts missed", share(first.miss_rate), note, first.missed > 0))
    if first.pixels is not None:
        tiles.append(("AU-sPRO at 5 %", number(first.pixels.au_spro[0.05]), f"pixel AUROC {number(first.pixels.auroc)}", False))
    if evaluation.causes is not None and evaluation.causes.accuracy is not None:
        tiles.append(("Cause right", share(evaluation.causes.accuracy), f"of {evaluation.causes.n} rejected bad parts", False))
    tiles.append(("Time a picture", f"{1000 * evaluation.seconds:.1f} ms", "median, inference and judgement", False))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><h2>{escape(head)}</h2><strong{" class=wrong" if wrong else ""}>{escape(value)}</strong>'
            f"<span>{escape(note)}</span></div>"
            for head, value, note, wrong in tiles
        )
        + "</div>"
    )


def _scores_section(groups: dict[str, charts.Scores]) -> str:
    return (
        "<section><h2>Who scores where</h2>"
        '<p class="dim">Each row is one type of part; bars to the right of the limit are rejected.</p>'
        f"{charts.score_chart(groups)}"
        '<ul class="keys"><li><i class="box good"></i>good parts</li><li><i class="box bad"></i>bad parts</li>'
        '<li><i class="box wrong"></i>on the wrong side of the limit</li></ul>'
        '<div class="slider"><label for="limit">What if the limit were elsewhere?</label>'
        f'<input id="limit" type="range" min="0.2" max="{charts.score_range(groups):g}" step="0.01" value="1">'
        '<button id="back" type="button">back to the model\'s</button><output id="said" for="limit"></output></div></section>'
    )


def _roc_section(groups: dict[str, charts.Scores]) -> str:
    return (
        "<section><h2>ROC curves</h2>"
        '<p class="dim">Every limit at once; the dots are the model\'s.</p>'
        f"{charts.roc_chart(groups)}{_keys(charts.legend(groups))}</section>"
    )


def _what_if_section(groups: dict[str, charts.Scores]) -> str:
    keys = charts.legend(groups, good=" parts rejected", bad=" missed")
    return (
        "<section><h2>What another limit would do</h2>"
        '<p class="dim">Further left rejects more good parts, further right misses more bad ones. Shaded: 95 % intervals.</p>'
        f"{charts.what_if_chart(groups)}{_keys(keys)}</section>"
    )


def _keys(lines: Sequence[tuple[str, str]]) -> str:
    return '<ul class="keys">' + "".join(f'<li><i class="{style}"></i>{escape(words)}</li>' for style, words in lines) + "</ul>"


def _cases_section(evaluation: Evaluation) -> str:
    missed = any(one.bad and not one.rejected for one in evaluation.judged)
    alarmed = any(not one.bad and one.rejected for one in evaluation.judged)
    return _cards(
        "Worst misses" if missed else "Closest to a miss",
        "The bad parts with the lowest scores: the part, its anomaly map, what was marked.",
        at_worst(worst_misses(evaluation.judged)),
        evaluation,
    ) + _cards(
        "Worst false alarms" if alarmed else "Closest to a false alarm",
        "The good parts with the highest scores. Worth a look by hand: some good parts are not good.",
        at_worst(worst_alarms(evaluation.judged)),
        evaluation,
    )


def _cards(head: str, text: str, shown: Sequence[Judged], evaluation: Evaluation) -> str:
    if not shown:
        return ""
    cards = []
    for one in shown:
        case = make_case(one, evaluation.saturation)
        truth = (
            f'<img src="{case.truth}" alt="what was marked">'
            if case.truth
            else (f'<span class="none">{"nobody marked it" if one.bad else "nothing to mark"}</span>')
        )
        verdict = ' class="wrong"' if case.wrong else ""
        cards.append(
            f'<figure><div><img src="{case.picture}" alt="the part"><img src="{case.heat}" alt="anomaly map">{truth}</div>'
            f"<figcaption><b>{escape(case.title)}</b><br><span{verdict}>{escape(case.note)}</span></figcaption></figure>"
        )
    return f'<section><h2>{head}</h2><p class="dim">{text}</p><div class="cases">{"".join(cards)}</div></section>'


def _provenance_section(evaluation: Evaluation) -> str:
    limit = evaluation.limit
    now = datetime.fromtimestamp(SystemClock().utc_us() / 1e6, tz=timezone.utc)
    facts = {
        **evaluation.provenance,
        "limit": f"{limit.raw:.6g} ({limit.kind}, from {limit.n} parts, {limit.false_reject:.2%} false rejects accepted, "
        f"confidence {limit.confidence:.0%})",
        "data set": f"{evaluation.data}, {len(evaluation.judged)} pictures judged",
        "data set's hash": f"{evaluation.data_sha256} (train and validation)",
        "engine": evaluation.engine,
        "machine": str(this_machine()),
        "reported": f"{now:%Y-%m-%d %H:%M} UTC by onbelt {__version__}",
    }
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in facts.items())
    return f'<section><h2>Where this comes from</h2><table class="facts"><tbody>{rows}</tbody></table></section>'


def _terms_section() -> str:
    return f"<section><h2>What the words mean</h2><dl>{''.join(f'<dt>{t}</dt><dd>{d}</dd>' for t, d in _TERMS)}</dl></section>"


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
