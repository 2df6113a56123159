"""Interval bars: what a count shows at least and at most, against what the claim asks for.

All bars of one unit share one scale (report-style.md "Claims"), so that rows can be compared. The interval of a share is
the verdict's own pair of one-sided exact bounds, and that of a quantile its dual in order statistics: a bar that stands
whole on the right side of its line is a pass, whole on the wrong side a fail, across it undecided.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.svg import DATA, FOOT, QUIET, Anchor, Chart, Scale, Table, linear_ticks, log_ends
from sseproof.reports.words import NEVER, duration_text, share_text, signed

_HEIGHT: Final = 58.0
_MIDDLE: Final = 27.0
_START: Final = 10.0
_END: Final = 990.0
_CHAR: Final = 18.0
"""A character of a label in thousandths, on a bar of about 400 px."""
_DIFFERENCE: Final = 44.0
_FLOORS: Final = (0.99, 0.95, 0.9, 0.8, 0.5, 0.0)


class Bar(Struct, kw_only=True, frozen=True):
    """One row: shares from 0 to 1, or times in ns; None is +infinity for times."""

    low: float | None
    high: float | None
    """Ends of the interval."""
    seen: float | None
    """What was observed."""
    asked: float
    """The claim's own value."""
    interval: bool = True
    """False where n is too small for an interval to exist: only the observed value is drawn."""


def share_scale(bars: Sequence[Bar]) -> Scale:
    """One scale for all shares: from the first round floor with room below every threshold, to 100 %."""
    asked = [bar.asked for bar in bars if bar.asked < 1.0]
    wanted = 1.0 - 4.0 * (1.0 - min(asked)) if asked else 0.95
    lows = [bar.low for bar in bars if bar.low is not None and bar.low >= 0.5]
    wanted = min([wanted, *lows])
    low = next((floor for floor in _FLOORS if floor <= wanted), 0.0)
    return Scale(low, 1.0, _START, _END)


def time_scale(bars: Sequence[Bar]) -> Scale:
    """One logarithmic scale for all times, in ns."""
    values = [
        value
        for bar in bars
        for value in (bar.low, bar.high, bar.seen, bar.asked)
        if value is not None and value > 0
    ]
    # Room on both sides, so that no line stands on the edge.
    low, high = log_ends([end for value in values for end in (value / 1.3, value * 1.3)], 1e6, 1e9)
    return Scale(low, high, _START, _END, log=True)


def interval_bar(key: str, bar: Bar, scale: Scale, colour: str, sentence: str) -> Chart:
    """The bar of one claim; `sentence` says in words what it shows."""
    text = duration_text if scale.log else share_text
    chart = Chart(key=key, title="Interval against the claim", description=sentence, height=_HEIGHT)
    chart.line([(_START, _MIDDLE), (_END, _MIDDLE)], QUIET, width=1, opacity=0.6)
    if bar.interval:
        _interval(chart, bar, scale, colour, text)
    else:
        chart.text(500, 50, "too few for an interval", "middle")
    if bar.seen is not None:
        if scale.holds(bar.seen):
            chart.dots([(scale(bar.seen), _MIDDLE)], "currentColor", size=8)
    elif scale.log:
        chart.text(_END, _MIDDLE + 4, f"{NEVER} ▶", "end", strong=True)
    asked = scale(bar.asked)
    chart.line([(asked, 16), (asked, 38)], "currentColor", width=2, dash="4 2")
    label = f"asked: {text(bar.asked)}"
    anchor: Anchor = "end" if asked > _END - len(label) * _CHAR / 2 else "start" if asked < 200 else "middle"
    chart.text(asked, 11, label, anchor)
    chart.text(0, 50, text(scale.low) + (" (log scale)" if scale.log else ""))
    chart.text(1000, 50, text(scale.high), "end")
    return chart


class Difference(Struct, kw_only=True, frozen=True):
    """By how much one share exceeds another, in percentage points, with the ends of its interval."""

    name: str
    seen: float
    low: float
    high: float


def difference_chart(differences: Sequence[Difference], sentence: str) -> Chart | None:
    """Intervals of differences against none, a row each; None without any."""
    if not differences:
        return None
    bottom = 18.0 + len(differences) * _DIFFERENCE
    chart = Chart(
        key="difference",
        title="Difference of the shares of streams that succeeded",
        description="Each bar is the interval of one difference, its dot what was observed; 0 is no difference.",
        height=bottom + FOOT,
    )
    ends = [end for each in differences for end in (each.low, each.high, 0.0)]
    scale = Scale(
        max(-100.0, 10 * math.floor(min(ends) / 10 - 0.5)),
        min(100.0, 10 * math.ceil(max(ends) / 10 + 0.5)),
        _START,
        _END,
    )
    zero = scale(0.0)
    chart.line([(_START, bottom), (_END, bottom)], QUIET, width=1)
    for value in linear_ticks(scale.low, scale.high, 6):
        x = scale(value)
        chart.line([(x, bottom), (x, bottom + 5)], QUIET, width=1)
        chart.text(x, bottom + 18, signed(value), "end" if x > 940 else "start" if x < 60 else "middle")
    chart.text(1000, bottom + 35, "difference, percentage points", "end")
    chart.line([(zero, 16), (zero, bottom)], "currentColor", width=2, dash="4 2")
    anchor: Anchor = "start" if zero < 200 else "end" if zero > 800 else "middle"
    chart.text(zero, 12, "no difference", anchor)
    for index, each in enumerate(differences):
        middle = 18 + index * _DIFFERENCE + 28
        chart.text(0, middle - 12, each.name)
        chart.bar(scale(each.low), scale(each.high), middle - 5, middle + 5, DATA, opacity=0.75)
        for end in (each.low, each.high):
            chart.line([(scale(end), middle - 8), (scale(end), middle + 8)], DATA, width=2)
        chart.dots([(scale(each.seen), middle)], "currentColor", size=8)
    chart.table = Table(
        columns=["difference", "observed, points", "from, points", "to, points"],
        rows=[
            [each.name, *(signed(value) for value in (each.seen, each.low, each.high))]
            for each in differences
        ],
    )
    chart.sentence = sentence
    return chart


def _interval(chart: Chart, bar: Bar, scale: Scale, colour: str, text: Callable[[float], str]) -> None:
    low = scale.low if bar.low is None else bar.low
    high = scale.high if bar.high is None else bar.high
    start, end = scale(low), scale(high)
    if bar.low is None:  # times: so many never came that even the lower end is +infinity
        start = end = _END
    chart.bar(start, end, _MIDDLE - 5, _MIDDLE + 5, colour, opacity=0.75)
    for place, value in ((start, bar.low), (end, bar.high)):
        if value is not None and scale.holds(value):
            chart.line([(place, _MIDDLE - 8), (place, _MIDDLE + 8)], colour, width=2)
    if low < scale.low:
        chart.text(0, _MIDDLE - 10, f"◀ from {text(low)}")
    if bar.high is None:
        chart.line([(_END - 12, _MIDDLE - 6), (_END, _MIDDLE), (_END - 12, _MIDDLE + 6)], colour, width=2)
