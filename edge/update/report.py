"""The report of a comparison: one HTML file that needs nothing else, with the pictures of the parts the models disagree about."""

import base64
import html
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.heatmap import overlay
from edge.judge import Judgement
from edge.update.compare import Comparison, Pair

SIDE_PX = 256
MOST_PICTURES = 24  # each twice, 256 px: some 5 MB of photographs, 13 MB of noise
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1b1f24}
h1{font-size:1.4em}.bad{color:#b3261e}.good{color:#0b6b3a}
table{border-collapse:collapse;margin:1em 0}td,th{text-align:left;padding:.3em 1em .3em 0;border-bottom:1px solid #d8dde3}
figure{display:inline-block;margin:0 1.2em 1.2em 0;vertical-align:top;width:530px}
img{width:256px;height:auto;margin-right:6px;background:#eee}figcaption{font-size:.9em}
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A part in the report: how both judged it, its picture and the new model's map over it, as PNG files."""

    pair: Pair
    picture: bytes
    heat: bytes


def show(pair: Pair, pixels: NDArray[np.uint8], judgement: Judgement | None) -> Shown:
    """Make a part ready for the report.

    Args:
        pair: how both judged it.
        pixels: (H, W, 3) uint8 RGB.
        judgement: the new model's, None where it gave none.
    """
    heat = _png(overlay(pixels, judgement)) if judgement is not None else b""
    return Shown(pair, _png(Image.fromarray(pixels)), heat)


def render(title: str, reason: str, text: str, facts: dict[str, str], comparison: Comparison, shown: list[Shown]) -> bytes:
    """The report as UTF-8 HTML.

    Args:
        title: which model.
        reason: why it was refused, empty when it may take over.
        text: one line.
        facts: name and value.
        comparison: what was counted.
        shown: the parts to show, in the order they came.
    """
    verdict = f'<p class="bad">Refused: <b>{_text(reason)}</b>. ' if reason else '<p class="good">May take over. '
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(title)}</title><style>{_STYLE}</style>",
        f"<h1>{_text(title)}</h1>{verdict}{_text(text)}</p><table>",
        *(f"<tr><th>{_text(name)}<td>{_text(value)}" for name, value in facts.items()),
        "</table><table><tr><th>counted<th>parts<th>of<th>bound",
        *(f"<tr><td>{_text(what)}<td>{hits}<td>{of}<td>{_text(bound)}" for what, hits, of, bound in comparison.rows()),
        f"</table><h2>Parts they disagree about: {comparison.differing}</h2>",
    ]
    if comparison.differing > len(shown):
        parts.append(f"<p>The first {len(shown)} are shown.</p>")
    parts += [_figure(one) for one in shown]
    return "\n".join(parts).encode()


def _figure(one: Shown) -> str:
    pair = one.pair
    pictures = "".join(
        f'<img alt="{_text(label)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for label, png in (("as the camera saw it", one.picture), ("the new model's map", one.heat))
        if png
    )
    after = f"{pair.after} ({pair.after_cal:.2f} of its limit)" if pair.after != "invalid" else _text(pair.text)
    said = f"running: {pair.before} ({pair.before_cal:.2f} of its limit)<br>new: {after}"
    return f"<figure>{pictures}<figcaption>part {pair.seq}<br>{said}</figcaption></figure>"


def _png(picture: Image.Image) -> bytes:
    picture = picture.copy()
    picture.thumbnail((SIDE_PX, SIDE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _text(value: str) -> str:
    return html.escape(value)
