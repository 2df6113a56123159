"""Single streams and single breaks as lanes: what one user saw, step by step.

A lane's bars lie on one axis of time since its own start (measurement.md 5.3 "Stream waterfall", "Reconnection
timeline"). Every kind of step has its own height as well as its own colour, so that it is told without colour.
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from sseproof.reports.charts.overtime import LANE, Band, draw_bands
from sseproof.reports.charts.overtime import lanes as bands_lanes
from sseproof.reports.charts.svg import (
    BAND,
    DATA,
    FAIL,
    FOOT,
    PASS,
    QUIET,
    UNKNOWN,
    Chart,
    Key,
    Scale,
    Table,
    linear_ticks,
    sampled,
    short,
)
from sseproof.reports.words import NEVER, digits, duration_text

Step = Literal["late", "connect", "waiting", "streaming", "silent", "broken", "resumed"]

_COLOURS: Final[dict[Step, str]] = {
    "late": UNKNOWN,
    "connect": QUIET,
    "waiting": BAND,
    "streaming": DATA,
    "silent": UNKNOWN,
    "broken": FAIL,
    "resumed": PASS,
}
_HALF: Final[dict[Step, float]] = {
    "late": 1.5,
    "connect": 2,
    "waiting": 4,
    "streaming": 8,
    "silent": 3,
    "broken": 1,
    "resumed": 8,
}
"""Half the height of a step's bar, in px."""
WORDS: Final[dict[Step, str]] = {
    "late": "planned, not yet started by us (line)",
    "connect": "connecting (thin)",
    "waiting": "waiting for the first event",
    "streaming": "streaming (tall)",
    "silent": "silent until the end",
    "broken": "no connection (line)",
    "resumed": "streaming again (tall)",
}

_ROW: Final = 44.0
_LONGEST_LABEL_CHARS: Final = 50
"""Of a lane, which fits a page of 400 px in wide letters (DejaVu Sans) too; the table has the whole."""
_START: Final = 4.0
_END: Final = 990.0
MOST_EPISODES: Final = 60


class Segment(Struct, frozen=True):
    """A step of a stream, in ms since its start."""

    step: Step
    since_ms: float
    until_ms: float


class Lane(Struct, kw_only=True):
    """One stream: its label, its steps and its end."""

    label: str
    segments: list[Segment]
    good: bool
    retries_ms: list[float] = []
    """When each further attempt began."""


def waterfall(key: str, title: str, streams: Sequence[Lane]) -> Chart | None:
    """A lane a stream, all on one axis."""
    if not streams:
        return None
    longest = max((segment.until_ms for lane in streams for segment in lane.segments), default=0.0) or 1.0
    bottom = len(streams) * _ROW + 4
    chart = Chart(
        key=key,
        title=title,
        description="Single streams step by step, by the time since each was started.",
        height=bottom + FOOT,
    )
    scale = Scale(0.0, longest, _START, _END)
    rows = []
    used: set[Step] = set()
    for index, lane in enumerate(streams):
        top = index * _ROW
        chart.text(0, top + 14, short(lane.label, _LONGEST_LABEL_CHARS))
        middle = top + 30
        if not lane.segments:
            rows.append([lane.label, "none: it ended at once", "0", "0"])
        for segment in lane.segments:
            rows.append([lane.label, segment.step, digits(segment.since_ms), digits(segment.until_ms)])
            if segment.until_ms - segment.since_ms < longest / 1_000:
                continue  # less than a pixel: in the table only
            used.add(segment.step)
            half = _HALF[segment.step]
            words = f"{WORDS[segment.step]}: {duration_text((segment.until_ms - segment.since_ms) * 1e6)}"
            chart.bar(
                scale(segment.since_ms),
                scale(segment.until_ms),
                middle - half,
                middle + half,
                _COLOURS[segment.step],
                opacity=0.9,
                title=words,
            )
        chart.ticks(((scale(at), middle - 7) for at in lane.retries_ms), "currentColor", length=14, width=1)
        last = max((segment.until_ms for segment in lane.segments), default=0.0)
        _glyph(chart, scale(last), middle, good=lane.good)
    unit, size = (
        ("s", 1e3) if longest >= 1e3 else ("ms", 1.0)
    )  # a refused connection lasts less than a millisecond
    ticks = [(value, f"{value / size:g}") for value in linear_ticks(0, longest, 6)]
    chart.line([(_START, bottom), (_END, bottom)], QUIET, width=1)
    for value, label in ticks:
        x = scale(value)
        chart.line([(x, 2), (x, bottom + 5)], QUIET, width=1, opacity=0.35)
        chart.text(x, bottom + 18, label, "end" if x > 960 else "start" if x < 40 else "middle")
    chart.text(1000, bottom + 35, f"time since the stream's start, {unit}", "end")
    chart.keys = [Key(_COLOURS[step], WORDS[step]) for step in WORDS if step in used]
    if any(lane.retries_ms for lane in streams):
        chart.keys.append(Key("currentColor", "a further attempt (tick)"))
    chart.table = Table(columns=["stream", "step", "from, ms", "to, ms"], rows=rows[:200], text_columns=2)
    return chart


def _glyph(chart: Chart, x: float, y: float, *, good: bool) -> None:
    """How the lane ends: a dot for well, a cross for not well."""
    if good:
        chart.dots([(x, y)], "currentColor", size=7)
        return
    chart.text(x, y + 5, "✕", "end" if x > 960 else "start" if x < 40 else "middle", strong=True)


# --- lives --------------------------------------------------------------------------------------------------------------

_LIFE: Final = 17.0
_THINNER: Final = 0.6
_CHAR: Final = 21.0
"""A character beside a lane in thousandths, on a page of 400 px."""


class Life(Struct, kw_only=True):
    """One stream on the run's own time: its steps in ms since it was planned, and when that was."""

    number: str
    variant: str
    since_s: float
    segments: list[Segment]
    good: bool | None
    """None is not finished."""
    words: str
    """What happened, in a sentence."""
    why: str
    """Why it is shown."""


def lifelines(lives: Sequence[Life], bands: Sequence[Band], length_s: float, of: int) -> Chart | None:
    """Single streams by their start, behind them the faults; `of` is how many there were in all."""
    if not lives:
        return None
    lives = sorted(lives, key=lambda each: (each.since_s, each.variant, each.number))
    top = len(bands_lanes(bands)) * LANE + 8
    bottom = top + len(lives) * _LIFE + 4
    chart = Chart(
        key="lifelines",
        title="Single streams over the time of the run",
        description="Streams by their start, step by step; the faults above and behind them.",
        height=bottom + FOOT,
    )
    time = Scale(0.0, max(length_s, 1e-3), _START, _END)
    draw_bands(chart, bands, time, 2, bottom)
    used: set[Step] = set()
    for index, each in enumerate(lives):
        used |= _life(chart, each, time, top + index * _LIFE + _LIFE / 2)
    chart.line([(_START, bottom), (_END, bottom)], QUIET, width=1)
    for value in linear_ticks(0, time.high):
        x = time(value)
        chart.line([(x, bottom), (x, bottom + 5)], QUIET, width=1)
        chart.text(x, bottom + 18, f"{value:g}", "end" if x > 960 else "start" if x < 40 else "middle")
    chart.text(1000, bottom + 35, "time since the start of the run, s", "end")
    chart.keys = [Key(_COLOURS[step], WORDS[step]) for step in WORDS if step in used]
    chart.table = Table(
        columns=["stream", "shown as", "start, s", "what happened"],
        rows=[[_name(each), each.why, digits(max(each.since_s, 0.0)), each.words] for each in lives[:200]],
        text_columns=4,
    )
    kinds = dict.fromkeys(each.why for each in lives)
    told = [f"{sum(each.why == why for each in lives):,} {why}" for why in kinds]
    chart.sentence = (
        f"Showing {len(lives):,} of {of:,} streams: {', '.join(told)}. Each ends in its sign (✓ well, ✕ not well, ? not "
        "finished) and its number; the table says of each what happened."
    )
    return chart


def _life(chart: Chart, each: Life, time: Scale, middle: float) -> set[Step]:
    used: set[Step] = set()
    begin, end = time(each.since_s), time(each.since_s)
    for segment in each.segments:
        start = time(each.since_s + segment.since_ms / 1e3)
        end = time(each.since_s + segment.until_ms / 1e3)
        if end - start < 0.7:
            continue  # less than a pixel
        used.add(segment.step)
        half = max(_HALF[segment.step] * _THINNER, 0.8)
        chart.bar(start, end, middle - half, middle + half, _COLOURS[segment.step], opacity=0.9)
    sign = {True: "✓", False: "✕", None: "?"}[each.good]
    label = f"{sign} {_name(each)}"
    room = _CHAR * len(label)
    if end < _END - room:
        chart.text(end + 6, middle + 4, label)
    elif begin > room:
        chart.text(begin - 6, middle + 4, label, "end")
    else:
        chart.text(_END, middle + 4, label, "end")
    return used


def _name(each: Life) -> str:
    return each.number + (f" {short(each.variant, 10)}" if each.variant else "")


# --- breaks -------------------------------------------------------------------------------------------------------------


class Episode(Struct, kw_only=True, frozen=True):
    """One break: ms from where reconnection counts until connected and until the first new event; None never."""

    label: str
    connected_ms: float | None
    back_ms: float | None
    gave_up_ms: float | None = None
    """How long the client tried, where nothing new ever came and that is known."""
    censored: bool = False
    """We ended it while it was open: nobody knows when something new would have come."""


def episodes(
    key: str,
    title: str,
    breaks: Sequence[Episode],
    limit_ms: float,
    longest_ms: float,
    *,
    claimed: bool = False,
) -> Chart | None:
    """A lane a break, the fastest first: the edge of the bars is the distribution of the reconnection time.

    `claimed` is whether the limit is a claim's.
    """
    if not breaks:
        return None
    ranked = sorted(breaks, key=lambda each: (each.back_ms is None, each.back_ms or 0.0, each.label))
    shown = _spread(ranked)
    height = 12.0 if len(shown) <= 12 else 6.0 if len(shown) <= 30 else 4.0
    top = 22.0
    bottom = top + len(shown) * height + 4
    chart = Chart(
        key=key,
        title=title,
        description="Each lane is one break: from the break to the first new event, the fastest on top.",
        height=bottom + FOOT,
    )
    scale = Scale(0.0, max(longest_ms, limit_ms * 1.2), _START, _END)
    for index, each in enumerate(shown):
        _episode(chart, each, scale, top + index * height, height)
    x = scale(limit_ms)
    chart.line([(x, 16), (x, bottom)], "currentColor", width=2, dash="6 3")
    chart.text(
        x,
        12,
        limit_text(limit_ms, claimed=claimed),
        "middle" if 140 < x < 860 else "start" if x < 200 else "end",
    )
    chart.line([(_START, bottom), (_END, bottom)], QUIET, width=1)
    for value in linear_ticks(0, scale.high):
        place = scale(value)
        chart.line([(place, bottom), (place, bottom + 5)], QUIET, width=1)
        anchor: Literal["start", "middle", "end"] = (
            "end" if place > 960 else "start" if place < 40 else "middle"
        )
        chart.text(place, bottom + 18, f"{value / 1e3:g}", anchor)
    chart.text(1000, bottom + 35, "time since the break, s", "end")
    chart.keys = [Key(BAND, "until connected (thin)"), Key(DATA, "until the first new event (tall)")]
    if any(each.back_ms is None for each in shown):
        chart.keys.append(Key(FAIL, "no new event ever came (line; an arrow where we ended it)"))
    chart.table = Table(
        columns=["break", "connected, ms", "first new event, ms"],
        rows=[[each.label, _ms(each.connected_ms), _ms(each.back_ms)] for each in ranked[:200]],
        note=f"The fastest 200 of {len(ranked):,}." if len(ranked) > 200 else "",
    )
    within = sum(1 for each in breaks if each.back_ms is not None and each.back_ms <= limit_ms)
    never = sum(1 for each in breaks if each.back_ms is None)
    chart.sentence = (
        f"{within:,} of {len(breaks):,} breaks had a new event within {duration_text(limit_ms * 1e6)}"
        + (f"; after {never:,} none ever came" if never else "")
        + "."
        + (
            f" Showing {len(shown):,} of {len(breaks):,}, evenly from fastest to slowest."
            if len(shown) < len(breaks)
            else ""
        )
    )
    return chart


def limit_text(limit_ms: float, *, claimed: bool) -> str:
    """What stands at the line of a limit."""
    return f"{'claimed: ' if claimed else ''}{duration_text(limit_ms * 1e6)}"


def _spread(ranked: Sequence[Episode]) -> list[Episode]:
    """An even choice that always holds the slowest."""
    if len(ranked) <= MOST_EPISODES:
        return list(ranked)
    return [ranked[index] for index in sampled(len(ranked), MOST_EPISODES - 1)] + [ranked[-1]]


def _episode(chart: Chart, each: Episode, scale: Scale, top: float, height: float) -> None:
    middle = top + height / 2
    title = f"{each.label}: {duration_text(None if each.back_ms is None else each.back_ms * 1e6)}"
    if each.back_ms is None:
        until = scale(scale.high if each.gave_up_ms is None else each.gave_up_ms)
        chart.bar(_START, until, middle - 0.75, middle + 0.75, FAIL, title=title)
        if each.censored:
            chart.line([(until - 8, middle - 3), (until, middle), (until - 8, middle + 3)], FAIL, width=1.5)
        return
    connected = min(each.connected_ms if each.connected_ms is not None else each.back_ms, each.back_ms)
    if connected > 0:
        chart.bar(_START, scale(connected), middle - height * 0.15, middle + height * 0.15, BAND, title=title)
    chart.bar(
        scale(connected), scale(each.back_ms), middle - height * 0.4, middle + height * 0.4, DATA, title=title
    )


def _ms(value: float | None) -> str:
    return NEVER if value is None else digits(value)
