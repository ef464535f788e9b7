"""Just enough SVG for the report's charts: two linear axes, lines, bars and labels, coloured by the page's style sheet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis.

    Attributes:
        low: value at its start. high: value at its end; what lies outside is drawn at the nearer end.
        ticks: value and label of each tick. title: what the axis shows, with its unit.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str = ""

    def at(self, value: float) -> float:
        """Where a value lies, 0 at the start and 1 at the end."""
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def percent_scale(title: str, step: float = 0.2) -> Scale:
    """An axis from 0 to 100 %."""
    count = round(1 / step)
    return Scale(0.0, 1.0, tuple((i * step, f"{100 * i * step:.0f} %") for i in range(count + 1)), title)


@dataclass
class Plot:
    """A chart under construction; coordinates of drawing methods are values on the axes.

    Attributes:
        x: horizontal axis. y: vertical axis.
        label: what the chart shows, for those who cannot see it.
        width: of the drawing, in its own units (about pixels). height: likewise.
        left, right, top, bottom: margins around the axes.
    """

    x: Scale
    y: Scale
    label: str
    width: float = 580.0
    height: float = 420.0
    left: float = 62.0
    right: float = 18.0
    top: float = 14.0
    bottom: float = 56.0
    _parts: list[str] = field(default_factory=list)

    def px(self, value: float) -> float:
        """Horizontal position of a value, in the drawing's units."""
        return self.left + self.x.at(value) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Vertical position of a value, in the drawing's units."""
        return self.height - self.bottom - self.y.at(value) * (self.height - self.top - self.bottom)

    def line(self, points: Points, style: str) -> None:
        """Join points by straight lines."""
        path = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{style}" points="{path}"/>')

    def steps(self, points: Points, style: str) -> None:
        """Join points by stairs: each value holds until the next point."""
        stairs = [points[0]]
        for point in points[1:]:
            stairs += [(point[0], stairs[-1][1]), point]
        self.line(stairs, style)

    def band(self, low: Points, high: Points, style: str) -> None:
        """Fill between two lines that share their horizontal places."""
        path = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in [*low, *reversed(high)])
        self._parts.append(f'<polygon class="{style}" points="{path}"/>')

    def bar(self, x0: float, x1: float, y0: float, y1: float, style: str, title: str = "", data: str = "") -> None:
        """Fill the rectangle between two values on each axis; `data` goes into the element as further attributes."""
        left, top = self.px(x0), self.py(y1)
        width, height = max(0.0, self.px(x1) - left - 1.0), self.py(y0) - top
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"{data}>{tip}</rect>'
        )

    def dot(self, x: float, y: float, style: str, title: str = "") -> None:
        """Mark a point."""
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(f'<circle class="{style}" cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="5">{tip}</circle>')

    def text(
        self, x: float, y: float, words: str, style: str = "", anchor: str = "start", dx: float = 0.0, dy: float = 0.0
    ) -> None:
        """Write beside a point, moved by (dx, dy) units."""
        place = f'x="{self.px(x) + dx:.1f}" y="{self.py(y) + dy:.1f}" text-anchor="{anchor}"'
        self._parts.append(f'<text class="{style}" {place}>{escape(words)}</text>')

    def upright(self, x: float, style: str, words: str = "", data: str = "") -> None:
        """Draw a vertical line over the whole height, with a label above it."""
        at = self.px(x)
        note = (
            f'<text class="note" x="{at:.1f}" text-anchor="middle" y="{self.top - 4:.1f}">{escape(words)}</text>' if words else ""
        )
        self._parts.append(
            f'<g class="upright"{data}><line class="{style}" x1="{at:.1f}" x2="{at:.1f}" y1="{self.top:.1f}" '
            f'y2="{self.height - self.bottom:.1f}"/>{note}</g>'
        )

    def render(self) -> str:
        """The finished <svg> element."""
        low, end = self.height - self.bottom, self.width - self.right
        axes = []
        for value, words in self.x.ticks:
            at = self.px(value)
            axes.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{self.top}" y2="{low}"/>')
            axes.append(f'<text x="{at:.1f}" y="{low + 19:.1f}" text-anchor="middle">{escape(words)}</text>')
        for value, words in self.y.ticks:
            at = self.py(value)
            axes.append(f'<line class="grid" x1="{self.left}" x2="{end}" y1="{at:.1f}" y2="{at:.1f}"/>')
            axes.append(f'<text x="{self.left - 8}" y="{at + 5:.1f}" text-anchor="end">{escape(words)}</text>')
        middle = (self.left + end) / 2
        axes.append(f'<line class="axis" x1="{self.left}" x2="{end}" y1="{low}" y2="{low}"/>')
        axes.append(
            f'<text class="title" x="{middle:.1f}" y="{self.height - 10}" text-anchor="middle">{escape(self.x.title)}</text>'
        )
        if self.y.title:
            across = (self.top + low) / 2
            turned = f'transform="translate(15 {across:.1f}) rotate(-90)" text-anchor="middle"'
            axes.append(f'<text class="title" {turned}>{escape(self.y.title)}</text>')
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.label, quote=True)}" '
            f'data-left="{self.left}" data-right="{end}" data-low="{self.x.low}" data-high="{self.x.high}">'
            f"{''.join(axes)}{''.join(self._parts)}</svg>"
        )
