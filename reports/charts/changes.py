"""What changed between two sides: differences with their intervals around "no change", and the values of single runs.

Differences of shares stand on a linear scale of points, ratios of times on a logarithmic one, so that twice and half are
equally far from no change. A strip has a dot a run and a bar at each side's median (measurement.md 5.3, "Before/after").
"""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, Literal

from msgspec import Struct

from sseproof.reports.charts.svg import (
    BAND,
    DATA,
    FAIL,
    FOOT,
    OTHER,
    PASS,
    QUIET,
    Anchor,
    Chart,
    Key,
    Scale,
    Table,
    linear_ticks,
    short,
)
from sseproof.reports.words import (
    NEVER,
    NOT_MEASURED,
    count_of,
    duration_text,
    share_text,
    signed,
    times_text,
)

Kind = Literal["share", "time"]
Way = Literal["worse", "better", ""]

_ROW: Final = 46.0
_LANE: Final = 34.0
_START: Final = 20.0
_END: Final = 980.0
_NICE_RATIOS: Final = (1.1, 1.25, 1.5, 2.0, 4.0, 10.0, 100.0)
_NICE_POINTS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_COLOURS: Final = {"worse": FAIL, "better": PASS, "": DATA}


class Change(Struct, kw_only=True):
    """One figure: after minus before as a share of 1, or the ratio after to before."""

    name: str
    size: float | None
    low: float | None = None
    high: float | None = None
    """Ends of the interval; None where there is none."""
    way: Way = ""
    word: str
    """The call, in words."""


def differences(
    key: str, kind: Kind, changes: Sequence[Change], matters: float | None, interval: str
) -> Chart | None:
    """A row a figure, with no change in the middle; None without any that has a size."""
    drawn = [change for change in changes if change.size is not None]
    if not drawn:
        return None
    scale = _around_none(kind, drawn, matters)
    top = 34.0
    bottom = top + _ROW * len(drawn)
    what = "shares, in points" if kind == "share" else "times, as a ratio"
    chart = Chart(
        key=key,
        title=f"Change of {what}",
        description="For each figure how far after is from before, with its interval; the middle is no change.",
        height=bottom + FOOT,
    )
    middle = 0.0 if kind == "share" else 1.0
    ticks = _ticks(kind, scale)
    for value, label in ticks:
        x = scale(value)
        chart.line([(x, top - 8), (x, bottom)], QUIET, width=1, opacity=0.7 if value == middle else 0.3)
        anchor: Anchor = "start" if x < 60 else "end" if x > 940 else "middle"
        chart.text(x, bottom + 16, label, anchor)
    if matters:
        for end in (-matters, matters) if kind == "share" else (1 / (1 + matters), 1 + matters):
            chart.line(
                [(scale(end), top - 8), (scale(end), bottom)],
                "currentColor",
                width=1,
                dash="2 3",
                opacity=0.6,
            )
    good, bad = ("more ▶", "◀ fewer") if kind == "share" else ("slower ▶", "◀ faster")
    chart.text(0, 14, bad)
    chart.text(1000, 14, good, "end")
    chart.text(1000, bottom + 33, "points" if kind == "share" else "ratio, log scale", "end")
    for index, change in enumerate(drawn):
        _change(chart, change, scale, top + _ROW * index)
    if matters:
        chart.keys.append(
            Key("currentColor", f"less than {_size_text(kind, middle + matters)} is of no matter", dash=True)
        )
    text = _size_text
    chart.table = Table(
        columns=["figure", "call", "change", "from", "to"],
        rows=[
            [short(each.name, 60), each.word]
            + [
                NOT_MEASURED if value is None else text(kind, value)
                for value in (each.size, each.low, each.high)
            ]
            for each in drawn
        ],
        text_columns=2,
    )
    chart.sentence = " ".join(_said(kind, each) for each in drawn if each.way) or (
        f"None of {count_of(len(drawn), 'figure')} is called worse or better."
    )
    chart.sentence += f" Bars are {interval}." if interval else ""
    return chart


def _said(kind: Kind, change: Change) -> str:
    span = ""
    if change.low is not None and change.high is not None:
        span = f" ({_size_text(kind, change.low)} to {_size_text(kind, change.high)})"
    assert change.size is not None
    return f"{short(change.name, 60)}: {change.word}, {_size_text(kind, change.size)}{span}."


def _around_none(kind: Kind, changes: Sequence[Change], matters: float | None) -> Scale:
    values = [value for each in changes for value in (each.size, each.low, each.high) if value is not None]
    if kind == "share":
        widest = max(abs(value) for value in [*values, (matters or 0.0) * 1.5])
        end = next((nice for nice in _NICE_POINTS if nice >= widest), 1.0)
        return Scale(-end, end, _START, _END)
    away = [max(value, 1 / value) for value in values if 0 < value < math.inf]
    widest = max([*away, 1.0 + (matters or 0.0) * 1.5])
    end = next((nice for nice in _NICE_RATIOS if nice >= widest), _NICE_RATIOS[-1])
    return Scale(1 / end, end, _START, _END, log=True)


def _ticks(kind: Kind, scale: Scale) -> list[tuple[float, str]]:
    if kind == "share":
        return [(value, _size_text(kind, value)) for value in linear_ticks(scale.low, scale.high, 5)]
    ends = [1 / scale.high, 1.0, scale.high]
    halves = [math.sqrt(scale.high)] if scale.high > 3 else []
    values = sorted({*ends, *halves, *(1 / half for half in halves)})
    return [(value, _size_text(kind, value)) for value in values]


def _size_text(kind: Kind, size: float) -> str:
    if kind == "time":
        return times_text(size)
    return signed(size * 100)


def _change(chart: Chart, change: Change, scale: Scale, top: float) -> None:
    colour = _COLOURS[change.way]
    y = top + 26
    chart.text(0, top + 12, short(change.name, 60))
    mark = {"worse": "✕ ", "better": "✓ ", "": ""}[change.way]
    chart.text(1000, top + 12, f"{mark}{change.word}", "end", strong=bool(change.way))
    assert change.size is not None
    if change.low is not None and change.high is not None:
        start, end = scale(change.low), scale(change.high)
        chart.bar(start, end, y - 5, y + 5, colour, opacity=0.7)
        for place, value in ((start, change.low), (end, change.high)):
            if scale.holds(value):
                chart.line([(place, y - 8), (place, y + 8)], colour, width=2)
    chart.dots([(scale(change.size), y)], "currentColor", size=8)


# --- a dot a run --------------------------------------------------------------------------------------------------------


class Lane(Struct, kw_only=True):
    """One side's runs: shares from 0 to 1 or ns; infinity is never."""

    name: str
    values: list[float]
    low: float | None = None
    high: float | None = None
    """Where the next run is to be expected; None without such a range."""


def strip(key: str, what: str, kind: Kind, lanes: Sequence[Lane]) -> Chart | None:
    """The values of single runs, side over side; None when no run has one."""
    lanes = [lane for lane in lanes if lane.values]
    finite = [value for lane in lanes for value in lane.values if math.isfinite(value)]
    if not finite:
        return None
    ends = [end for lane in lanes for end in (lane.low, lane.high) if end is not None and math.isfinite(end)]
    low, high = min([*finite, *ends]), max([*finite, *ends])
    room = (high - low) * 0.08 or max(high * 0.1, 1e-3)
    low, high = max(low - room, 0.0), high + room
    if kind == "share":
        high = min(high, 1.0)
        low = min(low, high - 0.01)
    text = share_text if kind == "share" else duration_text
    top = 30.0
    bottom = top + (_LANE + 12) * len(lanes)
    chart = Chart(
        key=key,
        title=f"{what}, run by run",
        description=f"A dot for each run's {what}, a bar at the median of each side.",
        height=bottom + FOOT,
    )
    never = any(not math.isfinite(value) for lane in lanes for value in lane.values)
    scale = Scale(low, high, _START, _END - (80.0 if never else 0.0))
    for value in linear_ticks(low, high, 5):
        x = scale(value)
        chart.line([(x, top - 6), (x, bottom)], QUIET, width=1, opacity=0.3)
        anchor: Anchor = "start" if x < 60 else "end" if x > 940 else "middle"
        chart.text(x, bottom + 16, text(value), anchor)
    chart.text(1000, bottom + 33, f"{what}{', %' if kind == 'share' else ''}", "end")
    for index, lane in enumerate(lanes):
        _lane(chart, lane, scale, (top + (_LANE + 12) * index, (DATA, OTHER)[index % 2]), text)
    parts = []
    for lane in lanes:
        middle = median(lane.values)
        shown = NEVER if math.isinf(middle) else text(middle)
        parts.append(
            f"{lane.name}: {shown}"
            + (f" in the middle of {count_of(len(lane.values), 'run')}" if len(lane.values) > 1 else "")
        )
    chart.sentence = f"{'; '.join(parts)}."
    chart.table = Table(
        columns=["side", "run", what],
        rows=[
            [lane.name, str(number), NEVER if math.isinf(value) else text(value)]
            for lane in lanes
            for number, value in enumerate(lane.values, start=1)
        ][:200],
        text_columns=1,
        note="Runs are numbered in the order in which they were named.",
    )
    return chart


def _lane(
    chart: Chart, lane: Lane, scale: Scale, look: tuple[float, str], text: Callable[[float], str]
) -> None:
    top, colour = look
    y = top + 30
    chart.text(0, top + 12, f"{lane.name}, {count_of(len(lane.values), 'run')}")
    if lane.low is not None and lane.high is not None:
        end = scale.high if math.isinf(lane.high) else lane.high
        chart.bar(scale(lane.low), scale(end), y - 9, y + 9, BAND, opacity=0.25)
    chart.dots(
        [(scale(value), y) for value in lane.values if math.isfinite(value)], colour, size=9, opacity=0.75
    )
    never = sum(not math.isfinite(value) for value in lane.values)
    if never:
        chart.text(1000, y + 4, f"{never} {NEVER} ▶", "end", strong=True)
    middle = median(lane.values)
    if math.isfinite(middle) and len(lane.values) > 1:
        x = scale(middle)
        chart.line([(x, y - 12), (x, y + 12)], "currentColor", width=2)
        chart.text(1000, top + 12, f"median {text(middle)}", "end", strong=True)
