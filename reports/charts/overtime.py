"""What happened when: TTFT and outcomes over the time of the run, behind them the faults.

Time axes start at 0 s of the run. A fault's band reaches from the call that applied it to the answer of the call that
healed it (measurement.md 5.3), each call's bracket as a dark edge; each has a lane of its own with its name, so that overlapping
ones stay apart. What stands the whole run shades nothing: it tells no moment from another.
"""

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports import statistics
from sseproof.reports.charts.svg import (
    BAND,
    FAIL,
    FOOT,
    LEFT,
    PASS,
    QUIET,
    RIGHT,
    SERIES,
    SIGNS,
    TOP,
    UNKNOWN,
    Chart,
    Key,
    Scale,
    Sign,
    Table,
    joined_spans,
    linear_ticks,
    log_ends,
    log_ticks,
    sampled,
    short,
)
from sseproof.reports.words import NEVER, NOT_MEASURED, digits, duration_text

LANE: Final = 18.0
"""Height of a fault's lane, in px."""
MOST_LANES: Final = 8
_NEVER: Final = 22.0
_PLOT: Final = 210.0
_FEWEST_IN_BIN: Final = 72
"""Streams in a bin, below which a p95 says nothing (measurement.md 5.3)."""
_MOST_BINS: Final = 40
_CHAR: Final = 20.0
"""A character in thousandths, on a page of 400 px."""
_WHOLE: Final = 0.9
"""A fault that acts for so much of the run stands."""


class Band(Struct, kw_only=True, frozen=True):
    """A fault while it acted, in seconds of the run; `until_s` None is to the end."""

    name: str
    since_s: float
    until_s: float | None
    several: bool = False
    """Stands for faults of several names."""
    brackets: tuple[tuple[float, float], ...] = ()
    """From each call sent to its answer, in seconds: applied and healed somewhere in there."""
    mark: bool = False
    """No fault but a moment that somebody marked."""
    phase: bool = False
    """No fault but a part of the run as planned; all of them share the first lane."""


class Point(Struct, frozen=True):
    """One stream: when it was to start, and its TTFT; None never came."""

    at_s: float
    ns: int | None


class Series(Struct, kw_only=True):
    """The streams of one variant."""

    name: str
    points: list[Point]


def lanes(bands: Sequence[Band]) -> list[list[Band]]:
    """Bands of one name share a lane; beyond the most lanes, the rest share the last."""
    named: dict[str, list[Band]] = {}
    for band in sorted(bands, key=lambda each: (each.since_s, each.name)):
        named.setdefault(band.name, []).append(band)
    marks = [row for row in named.values() if row[0].mark]
    phases = [band for band in bands if band.phase]
    first = [phases] if phases else []
    rows = [row for row in named.values() if not row[0].mark and not row[0].phase]
    if len(rows) <= MOST_LANES:
        return first + rows + marks
    rest = rows[MOST_LANES - 1 :]
    kinds = f"{len(rest)} more faults"
    spans = joined_spans(
        (band.since_s, math.inf if band.until_s is None else band.until_s) for row in rest for band in row
    )
    merged = [
        Band(name=kinds, since_s=since, until_s=None if until == math.inf else until, several=True)
        for since, until in spans
    ]
    return [*first, *rows[: MOST_LANES - 1], merged, *marks]


def compact(bands: Sequence[Band], length_s: float) -> list[Band]:
    """The same with one lane for all faults that stand the whole run: enough where their names stood before."""
    time = Scale(0.0, max(length_s, 1e-3), 0.0, 1.0)
    standing = [band for band in bands if not band.mark and not band.phase and _stands(band, time)]
    names = {band.name for band in standing}
    if len(names) < 2:
        return list(bands)
    one = Band(
        name=f"{len(names)} faults, the whole run",
        since_s=min(band.since_s for band in standing),
        until_s=None,
        several=True,
    )
    return [one, *(band for band in bands if band not in standing)]


def draw_bands(chart: Chart, bands: Sequence[Band], time: Scale, top: float, bottom: float) -> float:
    """The lanes from `top` on, each band down to `bottom`; gives where the lanes end."""
    rows = lanes(bands)
    behind = top + LANE * len(rows)
    passing = [band for band in bands if not band.mark and not band.phase and not _stands(band, time)]
    spans = [(band.since_s, time.high if band.until_s is None else band.until_s) for band in passing]
    for since, until_s in joined_spans(spans):
        chart.bar(time(since), time(until_s), behind, bottom, BAND, opacity=0.12)
    for row in rows:
        if row[0].phase:
            _phases(chart, row, time, top, bottom)
            top += LANE
            continue
        for band in row:
            _band(chart, band, time, top, bottom)
        _calls(chart, row, time, top, bottom)
        times = f", {len(row)} times" if len(row) > 1 and not row[0].several else ""
        _lane_label(chart, short(row[0].name) + times, time(row[0].since_s), top)
        top += LANE
    chart.span = time
    return top


def _stands(band: Band, time: Scale) -> bool:
    """Whether a fault acts for practically the whole run."""
    until = time.high if band.until_s is None else min(band.until_s, time.high)
    return until - max(band.since_s, time.low) >= _WHOLE * (time.high - time.low)


def _band(chart: Chart, band: Band, time: Scale, top: float, bottom: float) -> None:
    start, end = time(band.since_s), time(time.high if band.until_s is None else band.until_s)
    if band.mark:
        chart.line([(start, top + 1), (start, bottom)], "currentColor", width=1, dash="1 3", title=band.name)
        return
    until = "the end" if band.until_s is None else f"{digits(band.until_s)} s"
    title = f"{short(band.name, 60)}: {digits(band.since_s)} s to {until}"
    chart.bar(start, end, top + 1, top + LANE - 1, BAND, opacity=0.4, title=title)


def _phases(chart: Chart, row: Sequence[Band], time: Scale, top: float, bottom: float) -> None:
    """The names of the phases, where there is room, and a line where one follows another."""
    for band in row:
        start, end = time(band.since_s), time(time.high if band.until_s is None else band.until_s)
        title = f"phase {short(band.name, 60)}, from {digits(band.since_s)} s as planned"
        chart.bar(start + 1, end - 1, top + 1, top + LANE - 1, QUIET, opacity=0.15, title=title)
        label = short(band.name)
        if len(label) * _CHAR < end - start:
            chart.text((start + end) / 2, top + 13, label, "middle", halo=False)
    starts = [time(band.since_s) for band in row if band.since_s > time.low]
    chart.ticks(((x, top) for x in starts), QUIET, length=bottom - top, width=1, opacity=0.7)


def _calls(chart: Chart, row: Sequence[Band], time: Scale, top: float, bottom: float) -> None:
    """Where a fault was applied and healed: each call's bracket as an edge of its band, its answer as a line below."""
    brackets = [(time(sent), time(answered)) for band in row for sent, answered in band.brackets]
    chart.rectangles(
        [(sent, max(answered, sent + 1.5), top + 1, top + 4) for sent, answered in brackets], BAND
    )
    answers = [time(answered) for band in row if not _stands(band, time) for _, answered in band.brackets]
    chart.ticks(((x, top + LANE) for x in answers), BAND, length=bottom - top - LANE, width=1, opacity=0.5)


def _lane_label(chart: Chart, label: str, first: float, top: float) -> None:
    if first < 600:
        chart.text(first + 6, top + 13, label, halo=False)
    else:
        chart.text(first - 6, top + 13, label, "end")


def time_axis(chart: Chart, time: Scale, bottom: float) -> None:
    """Round seconds of the run below a plot."""
    ticks = [(value, f"{value:g}") for value in linear_ticks(time.low, time.high)]
    chart.x_axis(time, "time since the start of the run, s", ticks, bottom)


def ttft_over_time(
    series: Sequence[Series], bands: Sequence[Band], length_s: float, limits_ns: Sequence[int], reading: str
) -> Chart | None:
    """One point a stream by its start, p50 and p95 where there are enough, those that never came in a row on top."""
    values = [point.ns / 1e6 for each in series for point in each.points if point.ns]
    if not values:
        return None
    never = any(point.ns is None for each in series for point in each.points)
    top = TOP + len(lanes(bands)) * LANE + (_NEVER if never else 6)
    bottom = top + _PLOT
    chart = Chart(
        key="ttft-time",
        title="TTFT over time",
        description=f"Time to first token of each stream, {reading}, against the time of the run, on a log axis.",
        height=bottom + FOOT,
    )
    time = Scale(0.0, max(length_s, 1e-3), LEFT, RIGHT)
    low, high = log_ends([*values, *(limit / 1e6 for limit in limits_ns)], 10.0, 1000.0)
    scale = Scale(low, high, bottom, top + 4, log=True)
    lane_end = draw_bands(chart, bands, time, TOP, bottom)
    chart.y_axis(
        scale,
        f"TTFT {reading}, log scale",
        [(tick, duration_text(tick * 1e6)) for tick in log_ticks(low, high, 6)],
    )
    for limit in limits_ns:
        y = scale(limit / 1e6)
        chart.line([(LEFT, y), (RIGHT, y)], "currentColor", width=1.5, dash="6 3")
        chart.text(RIGHT, y - 4, f"claimed: {duration_text(limit)}", "end")
    if never:
        chart.text(0, lane_end + 15, NEVER)
    time_axis(chart, time, bottom)
    rows = []
    notes = []
    for index, each in enumerate(series):
        colour, sign = SERIES[index % len(SERIES)], SIGNS[index % len(SIGNS)]
        notes.append(_scatter(chart, each, (time, scale), (colour, sign), lane_end))
        rows += _running(chart, each, time, scale, colour)
        if len(series) > 1:
            chart.keys.append(Key(colour, short(each.name), sign=sign))
    if rows:
        chart.keys.append(Key("currentColor", "p95 of a bin (p50 in dashes)"))
    chart.table = Table(
        columns=["variant", "from, s", "to, s", "streams", "first token came", "p50", "p95"],
        rows=rows or _point_rows(series),
        note="" if rows else "Too few streams for bins: the first streams, one a row.",
    )
    if not rows:
        chart.table.columns = ["variant", "start, s", "TTFT"]
    chart.sentence = _sentence(series, reading) + "".join(notes)
    return chart


def _scatter(
    chart: Chart, each: Series, axes: tuple[Scale, Scale], look: tuple[str, Sign], never_y: float
) -> str:
    """Draws the points, and says so when some are left out."""
    time, scale = axes
    colour, sign = look
    note = ""
    came = [point for point in each.points if point.ns is not None]
    shown = [came[index] for index in sampled(len(came))]
    if len(shown) < len(came):
        note = f" Showing {len(shown):,} of {len(came):,} points{_of(each)}."
    few = len(shown) < 500
    chart.points(
        [(time(point.at_s), scale(max((point.ns or 0) / 1e6, scale.low))) for point in shown],
        colour,
        sign,
        size=5 if few else 3,
        opacity=0.7 if few else 0.4,
    )
    never = [point for point in each.points if point.ns is None]
    lost = [never[index] for index in sampled(len(never), 1_000)]
    chart.ticks(((time(point.at_s), never_y + 5) for point in lost), FAIL, length=12, opacity=0.8)
    return note


def _running(chart: Chart, each: Series, time: Scale, scale: Scale, colour: str) -> list[list[str]]:
    points = sorted(each.points, key=lambda point: point.at_s)
    bins = min(len(points) // _FEWEST_IN_BIN, _MOST_BINS)
    if bins < 1:
        return []
    rows = []
    lines: dict[float, list[tuple[tuple[float, float], tuple[float, float]]]] = {0.5: [], 0.95: []}
    for index in range(bins):
        part = points[index * len(points) // bins : (index + 1) * len(points) // bins]
        ranked = sorted(point.ns if point.ns is not None else float("inf") for point in part)
        cells = []
        for q, line in lines.items():
            value = ranked[statistics.quantile_rank(len(ranked), q) - 1]
            cells.append(NEVER if value == float("inf") else duration_text(value))
            if value != float("inf"):
                y = scale(value / 1e6)
                line.append(((time(part[0].at_s), y), (time(part[-1].at_s) + 1.0, y)))
        came = sum(1 for point in part if point.ns is not None)
        rows.append(
            [
                short(each.name) or NOT_MEASURED,
                digits(part[0].at_s),
                digits(part[-1].at_s),
                f"{len(part):,}",
                f"{came:,}",
                *cells,
            ]
        )
    for q, line in lines.items():
        chart.strokes(line, colour, width=3.0 if q > 0.5 else 1.5, dash="" if q > 0.5 else "5 3")
    return rows


def _point_rows(series: Sequence[Series]) -> list[list[str]]:
    rows = [
        [short(each.name) or NOT_MEASURED, digits(point.at_s), duration_text(point.ns)]
        for each in series
        for point in each.points
    ]
    return rows[:200]


def _sentence(series: Sequence[Series], reading: str) -> str:
    parts = []
    for each in series:
        came = sum(1 for point in each.points if point.ns is not None)
        parts.append(f"{came:,} of {len(each.points):,} streams got a first token{_of(each)}")
    return f"Each point is one stream at its start, TTFT counts {reading}; {', '.join(parts)}."


def _of(each: Series) -> str:
    return f" ({short(each.name)})" if each.name else ""


# --- outcomes -----------------------------------------------------------------------------------------------------------


class Ended(Struct, frozen=True):
    """One stream: when it ended, and how."""

    at_s: float
    good: bool | None
    """None is not finished by us or for us."""
    outcome: str


def busiest(streams: Sequence[Ended], length_s: float) -> int:
    """The most streams that ended in one stretch of the run."""
    width, count = stretches(length_s)
    return max((len(part) for part in _bins(streams, width, count)), default=0)


def outcomes_over_time(
    key: str, name: str, streams: Sequence[Ended], *, bands: Sequence[Band], length_s: float, most: int
) -> Chart | None:
    """Streams that ended in each stretch of the run: good ones upward from the ground, the others on top of them.

    `most` is the end of the axis, the same for charts that are to be compared.
    """
    if not streams:
        return None
    width, count = stretches(length_s)
    bins = _bins(streams, width, count)
    top = TOP + len(lanes(bands)) * LANE + 6
    bottom = top + 150
    chart = Chart(
        key=key,
        title=f"Outcomes over time{f', {short(name)}' if name else ''}",
        description=f"Streams that ended in each {digits(width)} s of the run, good and not good.",
        height=bottom + FOOT,
    )
    time = Scale(0.0, width * count, LEFT, RIGHT)
    highest = max(most, *(len(part) for part in bins), 1)
    scale = Scale(0.0, float(highest), bottom, top)
    draw_bands(chart, bands, time, TOP, bottom)
    ticks = [(tick, f"{tick:,.0f}") for tick in linear_ticks(0, highest, 5) if tick == int(tick)]
    chart.y_axis(scale, f"streams that ended, per {digits(width)} s", ticks)
    rows = []
    for index, part in enumerate(bins):
        good = sum(1 for each in part if each.good)
        open_ = sum(1 for each in part if each.good is None)
        bad = len(part) - good - open_
        x0, x1 = time(index * width) + 1, time((index + 1) * width) - 1
        floor = 0
        for amount, colour, word in (
            (good, PASS, "good"),
            (open_, UNKNOWN, "not finished"),
            (bad, FAIL, "not good"),
        ):
            if amount:
                title = f"{digits(index * width)} s: {amount:,} {word}"
                chart.bar(x0, x1, scale(floor + amount), scale(floor), colour, opacity=0.8, title=title)
            floor += amount
        if open_:  # second signs beside the colours
            y = scale(good + open_ / 2)
            chart.line([(x0, y), (x1, y)], "currentColor", width=1)
        if bad:
            chart.ticks([((x0 + x1) / 2, scale(floor) - 7)], FAIL, length=5, width=2)
        if part:
            rows.append([digits(index * width), f"{good:,}", f"{bad:,}", f"{open_:,}", _kinds(part)])
    time_axis(chart, time, bottom)
    chart.keys = [Key(PASS, "good")]
    if any(each.good is False for each in streams):
        chart.keys.append(Key(FAIL, "not good (ticked on top)"))
    if any(each.good is None for each in streams):
        chart.keys.append(Key(UNKNOWN, "not finished (lined)"))
    chart.table = Table(columns=["from, s", "good", "not good", "not finished", "outcomes"], rows=rows)
    worst = max(bins, key=lambda part: sum(1 for each in part if each.good is False))
    bad = sum(1 for each in worst if each.good is False)
    total = sum(1 for each in streams if each.good)
    at = bins.index(worst)
    chart.sentence = f"{total:,} of {len(streams):,} streams ended well." + (
        f" The worst stretch is {digits(at * width)} to {digits((at + 1) * width)} s: "
        f"{bad:,} of {len(worst):,} did not."
        if bad
        else ""
    )
    return chart


def _bins(streams: Sequence[Ended], width: float, count: int) -> list[list[Ended]]:
    bins: list[list[Ended]] = [[] for _ in range(count)]
    for each in streams:
        bins[min(max(int(each.at_s / width), 0), count - 1)].append(each)
    return bins


def stretches(length_s: float, least_s: float = 0.1) -> tuple[float, int]:
    """Width in seconds and number of stretches: round, and at most 60 of them."""
    for width in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600):
        if width >= least_s and length_s / width <= 60:
            break
    else:
        width = length_s / 60
    return float(width), max(int(-(-length_s // width)), 1)


def _kinds(part: Sequence[Ended]) -> str:
    counts: dict[str, int] = {}
    for each in part:
        counts[each.outcome] = counts.get(each.outcome, 0) + 1
    return ", ".join(
        f"{count:,} {word}" for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
