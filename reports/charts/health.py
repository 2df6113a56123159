"""How well the generator kept up, second by second: lag, processor, open streams and drops on one axis of time.

Each panel has an axis of its own; the time is shared, so that a late second is seen in all of them.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports import statistics
from sseproof.reports.charts.overtime import LANE, Band, draw_bands, lanes, time_axis
from sseproof.reports.charts.svg import (
    DASHES,
    FAIL,
    FOOT,
    LEFT,
    RIGHT,
    SERIES,
    TOP,
    Chart,
    Key,
    Scale,
    Table,
    linear_ticks,
    log_ends,
    log_ticks,
    sampled,
)
from sseproof.reports.words import digits, duration_text

_GAP: Final = 30.0
"""Room above a panel for the title of its axis."""
_HEIGHTS: Final = {"ms": 150.0, "%": 80.0, "streams": 80.0}
_TITLES: Final = {"ms": "lag, log scale", "%": "share of one core, %", "streams": "streams that were open"}
MOST_POINTS: Final = 600


class Line(Struct, kw_only=True):
    """One indicator of the generator, by seconds of the run."""

    name: str
    unit: str
    """ms, % or streams: the panel it belongs to."""
    points: list[tuple[float, float]]
    """Seconds of the run and value."""


def health_over_time(
    lines: Sequence[Line], bands: Sequence[Band], length_s: float, dropped_s: Sequence[float] = ()
) -> Chart | None:
    """A panel a unit; `dropped_s` are the seconds in which streams could not be started. None where nothing was measured."""
    lines = [line for line in lines if any(value > 0 for _, value in line.points)]
    if not lines:
        return None
    units = [unit for unit in _HEIGHTS if any(line.unit == unit for line in lines)]
    top = TOP + len(lanes(bands)) * LANE + 6
    bottom = top + sum(_HEIGHTS[unit] for unit in units) + _GAP * (len(units) - 1)
    chart = Chart(
        key="health",
        title="The generator, second by second",
        description="The worst worker's lag and processor share and the streams open, in each second of the run.",
        height=bottom + FOOT,
    )
    time = Scale(0.0, max(length_s, 1e-3), LEFT, RIGHT)
    draw_bands(chart, bands, time, TOP, bottom)
    rows = []
    for unit in units:
        panel = [line for line in lines if line.unit == unit]
        end = top + _HEIGHTS[unit]
        scale = _panel(chart, unit, panel, top, end, first=unit == units[0])
        for index, line in enumerate(panel):
            rows.append(_line(chart, line, time, scale, index))
        if unit == "streams" and dropped_s:
            chart.ticks(((time(at), top) for at in dropped_s[:MOST_POINTS]), FAIL, length=10)
            chart.keys.append(Key(FAIL, "streams that could not be started (tick)", sign="tick"))
        top = end + _GAP
    time_axis(chart, time, bottom)
    chart.table = Table(columns=["indicator", "seconds", "median", "worst", "worst at, s"], rows=rows)
    chart.sentence = " ".join(
        f"{row[0][0].upper()}{row[0][1:]}: median {row[2]}, highest {row[3]} at {row[4]} s." for row in rows
    )
    return chart


def _panel(
    chart: Chart, unit: str, lines: Sequence[Line], top: float, bottom: float, *, first: bool
) -> Scale:
    """Draws the panel's axis, its title in the place of the chart's own where it is the first."""
    values = [value for line in lines for _, value in line.points if value > 0]
    if unit == "ms":
        low, high = log_ends(values, 0.1, 100.0)
        scale = Scale(low, high, bottom, top, log=True)
        ticks = [(tick, duration_text(tick * 1e6)) for tick in log_ticks(low, high, 6)]
    else:
        high = max(values)
        high = max(high, 100.0) if unit == "%" else high
        scale = Scale(0.0, high, bottom, top)
        ticks = [(tick, f"{tick:,g}") for tick in linear_ticks(0, high, 4)]
    if first:
        chart.y_axis(scale, _TITLES[unit], ticks)
    else:
        chart.y_axis(scale, _TITLES[unit], ticks, title_y=top - 12)
    return scale


def _line(chart: Chart, line: Line, time: Scale, scale: Scale, index: int) -> list[str]:
    colour, dash = SERIES[index % len(SERIES)], DASHES[index % len(DASHES)]
    kept = [line.points[at] for at in sampled(len(line.points), MOST_POINTS)]
    places = [(time(at), scale(max(value, scale.low))) for at, value in kept]
    chart.line(places, colour, dash=dash)
    if len(places) == 1:
        chart.dots(places, colour, size=6)
    chart.keys.append(Key(colour, line.name, dash=bool(dash)))
    ranked = sorted(value for _, value in line.points)
    at, worst = max(line.points, key=lambda point: point[1])
    median = ranked[statistics.quantile_rank(len(ranked), 0.5) - 1]
    return [line.name, f"{len(ranked):,}", _text(line, median), _text(line, worst), digits(max(at, 0.0))]


def _text(line: Line, value: float) -> str:
    if line.unit == "ms":
        return duration_text(value * 1e6)
    return f"{digits(value)} %" if line.unit == "%" else digits(value)
