"""Shapes, text, scales and ticks of all charts.

x runs from 0 to 1000 (thousandths of the chart's width), y from 0 at the top in CSS pixels. Foreign text is bounded by
`short` and escaped by the template; nothing here writes markup.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

from sseproof.rundir.text import printable

WIDTH: Final = 1000.0
LEFT: Final = 66.0
"""Room for the labels of the y axis; on a narrow page they lean into the plot, behind a halo."""
RIGHT: Final = 985.0
TOP: Final = 26.0
"""Below the title of the y axis."""
FOOT: Final = 40.0
"""Labels and title of the x axis."""

DATA: Final = "#3f83c8"
OTHER: Final = "#b9682a"
"""Only for the second variant."""
PASS: Final = "#2f8f52"  # noqa: S105  # a colour
FAIL: Final = "#cf4a44"
UNKNOWN: Final = "#a97b12"
BAND: Final = "#8a80b5"
QUIET: Final = "#80868f"
SERIES: Final = (DATA, OTHER, "#7d72c4", "#3c9191")
"""One a variant, in the order of the plan."""
Sign = Literal["bar", "dot", "tick", "square", "stroke"]
SIGNS: Final[tuple[Sign, ...]] = ("dot", "tick", "square", "stroke")
"""The second sign of a series: the form of its points."""
DASHES: Final = ("", "7 3", "2 3", "9 3 2 3")
"""The second sign of a series that has only lines."""

LONGEST_LABEL_CHARS: Final = 28
MOST_TABLE_ROWS: Final = 200
MOST_POINTS: Final = 4_000
"""Points of a scatter; more are sampled evenly and the chart says so."""

_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})

Anchor = Literal["start", "middle", "end"]


class Shape(Struct, frozen=True):
    """One path, as its presentation attributes."""

    attributes: tuple[tuple[str, str], ...]
    title: str = ""
    """Shown when the pointer rests on it."""


class Text(Struct, frozen=True, kw_only=True):
    """One line of text at a place of the chart."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    strong: bool = False
    halo: bool = True
    """Keeps the text apart from data behind it; not so on a surface of its own."""

    @property
    def percent(self) -> str:
        """The place as SVG wants it."""
        return f"{_number(self.x / 10)}%"


class Key(Struct, frozen=True):
    """One entry of a chart's key: never a colour alone, always its word."""

    colour: str
    text: str
    dash: bool = False
    sign: Sign = "bar"
    opacity: float = 1.0


class Table(Struct, kw_only=True):
    """The data behind a chart, or a table of the page; cells are text, ready to be shown."""

    columns: list[str]
    rows: list[list[str]] = []
    text_columns: int = 1
    """So many columns hold words; the others hold numbers and are right-aligned."""
    note: str = ""


class Chart(Struct, kw_only=True):
    """One chart, ready for the template."""

    key: str
    """Unique on the page; names the ids of its title and description."""
    title: str
    description: str
    height: float
    shapes: list[Shape] = []
    texts: list[Text] = []
    keys: list[Key] = []
    sentence: str = ""
    table: Table | None = None
    span: "Scale | None" = None
    """Of a chart over the run's time: where its seconds lie, for the read-out of the optional script."""

    @property
    def pixels(self) -> str:
        """The height as SVG wants it."""
        return _number(self.height)

    # shapes -------------------------------------------------------------------------------------------------------------

    def bar(
        self,
        x0: float,
        x1: float,
        y0: float,
        y1: float,
        colour: str,
        *,
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """A filled rectangle; one too narrow to be seen is widened to a thousandth and a half."""
        x1 = max(x1, x0 + 1.5)
        path = f"M{_number(x0)} {_number(y0)}H{_number(x1)}V{_number(y1)}H{_number(x0)}Z"
        self.shapes.append(Shape((("d", path), ("fill", colour), *_opacity("fill-opacity", opacity)), title))

    def rectangles(
        self, boxes: Sequence[tuple[float, float, float, float]], colour: str, *, opacity: float = 1.0
    ) -> None:
        """Many filled rectangles as one path: each from x to x and from y to y."""
        path = "".join(
            f"M{_number(x0)} {_number(y0)}H{_number(x1)}V{_number(y1)}H{_number(x0)}Z"
            for x0, x1, y0, y1 in boxes
        )
        if path:
            self.shapes.append(Shape((("d", path), ("fill", colour), *_opacity("fill-opacity", opacity))))

    def line(
        self,
        points: Sequence[tuple[float, float]],
        colour: str,
        *,
        width: float = 2.0,
        dash: str = "",
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """Straight lines from point to point."""
        if len(points) < 2:
            return
        path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self._stroke(path, colour, width=width, dash=dash, opacity=opacity, title=title)

    def strokes(
        self,
        lines: Iterable[tuple[tuple[float, float], tuple[float, float]]],
        colour: str,
        *,
        width: float = 2.0,
        dash: str = "",
    ) -> None:
        """Straight lines that are not joined, all in one path."""
        path = "".join(
            f"M{_number(x0)} {_number(y0)}L{_number(x1)} {_number(y1)}" for (x0, y0), (x1, y1) in lines
        )
        if path:
            self._stroke(path, colour, width=width, dash=dash)

    def dots(
        self,
        points: Iterable[tuple[float, float]],
        colour: str,
        *,
        size: float = 4.0,
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """Round points, all in one path."""
        path = "".join(f"M{_number(x)} {_number(y)}h0" for x, y in points)
        if path:
            self._stroke(path, colour, width=size, opacity=opacity, cap="round", title=title)

    def ticks(
        self,
        points: Iterable[tuple[float, float]],
        colour: str,
        *,
        length: float = 7.0,
        width: float = 1.5,
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """Short upright strokes, all in one path."""
        path = "".join(f"M{_number(x)} {_number(y)}v{_number(length)}" for x, y in points)
        if path:
            self._stroke(path, colour, width=width, opacity=opacity, title=title)

    def points(
        self,
        points: Iterable[tuple[float, float]],
        colour: str,
        sign: Sign,
        *,
        size: float = 4.0,
        opacity: float = 1.0,
    ) -> None:
        """Points in the form of their series, all in one path."""
        if sign == "dot":
            self.dots(points, colour, size=size, opacity=opacity)
        elif sign == "square":
            path = "".join(f"M{_number(x)} {_number(y)}h0" for x, y in points)
            if path:
                self._stroke(path, colour, width=size, opacity=opacity, cap="square")
        else:
            length = size * (1.6 if sign == "tick" else 3.0)
            upright = ((x, y - length / 2) for x, y in points)
            self.ticks(upright, colour, length=length, width=size * 0.45, opacity=opacity)

    def area(
        self, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], colour: str
    ) -> None:
        """What lies between two lines."""
        if len(upper) < 2:
            return
        path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in [*upper, *reversed(lower)]) + "Z"
        self.shapes.append(Shape((("d", path), ("fill", colour), ("fill-opacity", "0.2"))))

    def _stroke(
        self,
        path: str,
        colour: str,
        *,
        width: float,
        dash: str = "",
        opacity: float = 1.0,
        cap: str = "",
        title: str = "",
    ) -> None:
        attributes = [
            ("d", path),
            ("fill", "none"),
            ("stroke", colour),
            ("stroke-width", _number(width)),
            ("vector-effect", "non-scaling-stroke"),
        ]
        if dash:
            attributes.append(("stroke-dasharray", dash))
        if cap:
            attributes.append(("stroke-linecap", cap))
        self.shapes.append(Shape((*attributes, *_opacity("stroke-opacity", opacity)), title))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        anchor: Anchor = "start",
        *,
        strong: bool = False,
        halo: bool = True,
    ) -> None:
        """One line of text; the caller bounds foreign text with `short`."""
        self.texts.append(Text(x=x, y=y, text=text, anchor=anchor, strong=strong, halo=halo))

    # axes ---------------------------------------------------------------------------------------------------------------

    def y_axis(
        self, scale: "Scale", title: str, ticks: Sequence[tuple[float, str]], *, title_y: float = 13
    ) -> None:
        """Gridlines with their labels, and the title above them."""
        self.text(0, title_y, title)
        for value, label in ticks:
            y = scale(value)
            self.line([(LEFT, y), (RIGHT, y)], QUIET, width=1, opacity=0.35)
            self.text(0, y + 4, label)

    def x_axis(self, scale: "Scale", title: str, ticks: Sequence[tuple[float, str]], bottom: float) -> None:
        """The ground line, ticks with labels, and the title at the right."""
        self.line([(LEFT, bottom), (RIGHT, bottom)], QUIET, width=1)
        for value, label in ticks:
            x = scale(value)
            self.line([(x, bottom), (x, bottom + 5)], QUIET, width=1)
            anchor: Anchor = "end" if x > 960 else "middle"
            self.text(min(x, RIGHT + 15), bottom + 18, label, anchor)
        self.text(1000, bottom + 35, title, "end")


class Scale(Struct, frozen=True):
    """Maps a value to a place; outside its ends it stays at the end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        share = (value - low) / (high - low) if high > low else 0.0
        return self.start + share * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether the value is drawn where it is."""
        return self.low <= value <= self.high


def linear_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round values between the two, at most `most`."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    step = 10 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10, 20, 50):
        if span / (step * factor) < most:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """1, 2 and 5 times powers of ten between the two, or only the powers where those are too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [
            factor * 10.0**power
            for power in range(first, last + 1)
            for factor in factors
            if low <= factor * 10.0**power <= high
        ]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


def log_ends(values: Iterable[float], least: float, most: float) -> tuple[float, float]:
    """Round ends of a log scale around the values, at least one power of ten apart."""
    kept = [value for value in values if value > 0] or [least, most]
    low = _round_down(min(kept))
    return low, max(_round_up(max(kept)), low * 10)


def joined_spans(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that touch or overlap, made one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return min(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def short(text: str | None, limit: int = LONGEST_LABEL_CHARS) -> str:
    """Foreign text made printable, short enough for a label, and kept from turning its neighbours round."""
    shown = printable(text or "", limit=1_000)
    shown = shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in shown):
        return f"\u2068{shown}\u2069"
    return shown


def sampled(count: int, most: int = MOST_POINTS) -> list[int]:
    """Which of so many rows are drawn: all, or `most` of them evenly spread, the first among them."""
    if count <= most:
        return list(range(count))
    return [index * count // most for index in range(most)]


def _number(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def _opacity(name: str, opacity: float) -> tuple[tuple[str, str], ...]:
    return () if opacity >= 1.0 else ((name, f"{opacity:.2f}".rstrip("0")),)
