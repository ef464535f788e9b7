"""The what-if as one HTML file that loads nothing: curve, tables, and pictures of the good parts that set the limit."""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from calibration.limit import LimitKind
from calibration.whatif import Beside, Point, WhatIf
from edge.heatmap import overlay
from edge.judge import Judgement
from edge.limits.curve import Rate
from edge.preprocess import Frame8

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 320, 52, 34
_COLOURS = ("#b3261e", "#8250df", "#9a6700", "#0a7ea4", "#57606a")
_GOOD = "#1f6feb"
_PICTURE_PX = 240
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:920px;margin:2em auto;padding:0 1em;color:#1f2328;background:#fff}
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.25em .8em;text-align:left;border-bottom:1px solid #d1d9e0}
td.n{text-align:right;font-variant-numeric:tabular-nums}.now{background:#f0f6ff}figure{display:inline-block;margin:0 1.2em 1em 0;
vertical-align:top;max-width:500px}figcaption{font-size:13px}img{image-rendering:auto;border:1px solid #d1d9e0}svg text{font:12px
system-ui,sans-serif}.quiet{color:#59636e}.legend span{margin-right:1.2em}pre{white-space:pre-wrap}
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A part with its picture: name, score in units of the limit, a sentence about it, and what was found in it."""

    name: str
    cal: float
    says: str
    frame: Frame8
    judgement: Judgement


def page(
    found: WhatIf,
    title: str,
    words: Sequence[str],
    setters: Sequence[Seen],
    passing: Sequence[Seen],
    beside: Sequence[Beside] = (),
) -> str:
    """The whole page.

    Args:
        found: what `calibration.whatif.explore` gave.
        title: of model and limit.
        words: the answer in words, one line each.
        setters: pictures of the good parts that set the limit.
        passing: pictures of bad parts that pass, the nearest to the limit first.
        beside: what limits for each map would add.
    """
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>What if the limit were another? <small class='quiet'>{html.escape(title)}</small></h1>",
        _curve(found),
        _table(found),
        _beside(beside),
        f"<h2>Good parts that set the limit</h2>{_setters(found)}{_gallery(setters)}",
    ]
    if passing:
        parts.append(f"<h2>Bad parts that pass, nearest to the limit first</h2>{_gallery(passing)}")
    parts.append(f"<h2>In words</h2><pre>{html.escape(chr(10).join(words))}</pre></html>")
    return "\n".join(parts)


def _curve(found: WhatIf) -> str:
    limit = found.limit.value
    points = [one for one in found.curve if one.limit > 0]
    low, high = min(one.limit for one in points) / limit, max(one.limit for one in points) / limit * 1.05
    low = max(low, high / 1000)

    def x(value: float) -> float:
        place = math.log(max(value / limit, low) / low) / math.log(high / low) if high > low else 0.5
        return _LEFT + place * (_WIDTH - _LEFT - 10)

    def y(share: float) -> float:
        return 10 + (1.0 - math.sqrt(share)) * (_HEIGHT - _BOTTOM - 10)  # roots: 0.5 % must be seen beside 50 %

    drawn = []
    for share in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        drawn.append(f"<line x1='{_LEFT}' x2='{_WIDTH - 10}' y1='{y(share):.1f}' y2='{y(share):.1f}' stroke='#e5e7eb'/>")
        drawn.append(f"<text x='{_LEFT - 6}' y='{y(share) + 4:.1f}' text-anchor='end'>{share:.1%}</text>")
    drawn += [
        f"<text x='{x(ratio * limit):.1f}' y='{_HEIGHT - 14}' text-anchor='middle'>{ratio:g}</text>"
        for ratio in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
        if low <= ratio <= high
    ]
    here = x(limit)
    drawn.append(
        f"<line x1='{here:.1f}' x2='{here:.1f}' y1='10' y2='{_HEIGHT - _BOTTOM}' stroke='#1f2328' stroke-dasharray='4 3'/>"
    )
    kinds = list(found.now.missed)
    legend = [("good parts rejected", _GOOD)] + [
        (f"{kind} parts that pass", _COLOURS[i % len(_COLOURS)]) for i, kind in enumerate(kinds)
    ]
    series: list[tuple[list[Rate], str]] = [([one.rejected for one in points], _GOOD)]
    series += [([one.missed[kind] for one in points], _COLOURS[i % len(_COLOURS)]) for i, kind in enumerate(kinds)]
    for rates, colour in series:
        xs = [x(one.limit) for one in points]
        upper = [f"{a:.1f},{y(rate.high):.1f}" for a, rate in zip(xs, rates, strict=True)]
        lower = [f"{a:.1f},{y(rate.low):.1f}" for a, rate in zip(xs, rates, strict=True)]
        middle = [f"{a:.1f},{y(rate.share):.1f}" for a, rate in zip(xs, rates, strict=True)]
        drawn.append(f"<polygon points='{' '.join(upper + lower[::-1])}' fill='{colour}' opacity='.15'/>")
        drawn.append(f"<polyline points='{' '.join(middle)}' fill='none' stroke='{colour}' stroke-width='1.8'/>")
    named = "".join(f"<span style='color:{colour}'>&#9632; {html.escape(said)}</span> " for said, colour in legend)
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='false rejects and misses by limit'>{''.join(drawn)}</svg>"
        f"<p class='legend'>{named}</p>"
        "<p class='quiet'>Across: the limit, in units of the one asked for. Bands: 90 % intervals of what was counted.</p>"
    )


def _table(found: WhatIf) -> str:
    kinds = list(found.now.missed)
    head = ["asked for", "promise", "limit", "good parts above", *(f"{kind} that pass" for kind in kinds)]
    rows = [("<tr class='now'>", found.limit, found.now)] + [("<tr>", other, point) for other, point in found.rates]
    body = []
    for tag, limit, point in sorted(rows, key=lambda row: row[1].false_reject):
        promise = f"{limit.confidence:.0%} sure" if limit.kind is LimitKind.GUARANTEE else "estimate"
        cells = [f"{limit.false_reject:.1%}", promise, f"{limit.value:.5g}", *_counted(point, kinds)]
        body.append(tag + "".join(f"<td class='n'>{cell}</td>" for cell in cells) + "</tr>")
    more = []
    for one in found.forecasts:
        upper = "above all seen" if one.high is None else f"{one.high:.5g}"
        said = f"{one.about:.5g} <span class='quiet'>({one.low:.5g} to {upper})</span>" if one.rank else "too few for a guarantee"
        cells = [f"{one.parts:,}", said, *(_rate(one.missed[kind]) if kind in one.missed else "-" for kind in kinds)]
        more.append("<tr>" + "".join(f"<td class='n'>{cell}</td>" for cell in cells) + "</tr>")
    again = ["good parts", "limit (90 % interval)", *(f"{kind} that pass, at the middle" for kind in kinds)]
    return (
        f"<h2>The same good parts at another rate</h2><table><tr>{_head(head)}</tr>{''.join(body)}</table>"
        f"<h2>More good parts like these, at {found.limit.false_reject:.2%}</h2>"
        f"<table><tr>{_head(again)}</tr>{''.join(more)}</table>"
    )


def _beside(beside: Sequence[Beside]) -> str:
    if not beside:
        return ""
    kinds = list(beside[0].missed)
    rows = []
    for one in beside:
        promise = "guaranteed" if one.guarantee else f"estimate: {one.needed:,} parts needed"
        cells = [f"{one.false_reject:.1%}", promise, _rate(one.rejected), *(_rate(one.missed[kind]) for kind in kinds)]
        rows.append("<tr>" + "".join(f"<td class='n'>{cell}</td>" for cell in cells) + "</tr>")
    head = ["asked for", "promise", "good parts above one of them", *(f"{kind} that pass" for kind in kinds)]
    return (
        "<h2>With a limit for each map beside the fused one</h2><p>All three share one promise: <code>onbelt limit --also st=st "
        f"ae=ae</code>.</p><table><tr>{_head(head)}</tr>{''.join(rows)}</table>"
    )


def _setters(found: WhatIf) -> str:
    """What the limit would be without each: said of all of them, also where there are no pictures."""
    kinds = list(found.now.missed)
    rows = []
    for one in found.setters:
        without = "-" if one.without is None else f"{one.without.value:.5g}"
        if one.without is not None and one.without.kind is LimitKind.ESTIMATE:
            without += " (estimate)"
        odd = f"1 in {1 / one.chance:,.0f}" if 0 < one.chance < 0.05 else "usual"
        cells = [str(one.place), f"{one.raw / found.limit.value:.2f}", odd, without]
        cells += [_rate(one.missed[kind]) if kind in one.missed else "-" for kind in kinds]
        rows.append("<tr>" + "".join(f"<td class='n'>{cell}</td>" for cell in cells) + "</tr>")
    head = [
        "place",
        "of the limit",
        "gap to the next",
        "limit if it and those above were not good",
        *(f"{kind} that pass then" for kind in kinds),
    ]
    return (
        "<p>Look at each: is it really good, clean, and lit and placed as it should be? If so it belongs here, and the limit is "
        f"what your process asks for. None is left out by itself.</p><table><tr>{_head(head)}</tr>{''.join(rows)}</table>"
    )


def _gallery(parts: Sequence[Seen]) -> str:
    figures = []
    for one in parts:
        plain, marked = _data(Image.fromarray(one.frame)), _data(overlay(one.frame, one.judgement))
        caption = f"<b>{html.escape(one.name)}</b>: {one.cal:.2f} of the limit. {html.escape(one.says)}"
        figures.append(
            f"<figure><img src='{plain}' alt=''> <img src='{marked}' alt=''><figcaption>{caption}</figcaption></figure>"
        )
    return "".join(figures)


def _data(picture: Image.Image) -> str:
    scale = _PICTURE_PX / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    buffer = io.BytesIO()
    picture.convert("RGB").resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _counted(point: Point, kinds: list[str]) -> list[str]:
    return [_rate(point.rejected), *(_rate(point.missed[kind]) for kind in kinds)]


def _rate(rate: Rate) -> str:
    return f"{rate.count} of {rate.of} <span class='quiet'>({rate.low:.1%} to {rate.high:.1%})</span>"


def _head(cells: Sequence[str]) -> str:
    return "".join(f"<th>{html.escape(cell)}</th>" for cell in cells)
