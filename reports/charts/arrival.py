"""How an answer came: its bytes over time, a point a burst, by whether the burst ended between events or inside one."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.svg import (
    DATA,
    FAIL,
    FOOT,
    LEFT,
    MOST_TABLE_ROWS,
    RIGHT,
    TOP,
    Chart,
    Key,
    Scale,
    Table,
    linear_ticks,
    sampled,
)
from sseproof.reports.words import count_of, digits, duration_text

_PLOT: Final = 200.0
_KIB: Final = 1_024.0
_MOST_DRAWN: Final = 1_000


class Arrived(Struct, frozen=True):
    """One burst."""

    at_ms: float
    """Since the request was sent."""
    size_bytes: int
    events: int
    between: bool
    """It ended between events."""


def arrival_chart(key: str, bursts: Sequence[Arrived], total_ms: float) -> Chart | None:
    """A staircase of bytes over the time since the request; None without any burst."""
    if not bursts:
        return None
    sums = []
    sum_bytes = 0
    for burst in bursts:
        sum_bytes += burst.size_bytes
        sums.append(sum_bytes)
    top, bottom = TOP + 8, TOP + 8 + _PLOT
    end_ms = max(total_ms, bursts[-1].at_ms, 1.0)
    chart = Chart(
        key=key,
        title="How the answer came",
        description="Bytes of the body that had come, over the time since the request; a point for each burst.",
        height=bottom + FOOT,
    )
    across = Scale(0.0, end_ms, LEFT, RIGHT)
    kib = sum_bytes >= _KIB
    unit = _KIB if kib else 1.0
    up = Scale(0.0, sum_bytes / unit, bottom, top)
    ticks = [(tick, digits(tick)) for tick in linear_ticks(0.0, up.high, 5)]
    chart.y_axis(up, "KiB of the body" if kib else "bytes of the body", ticks)
    chart.x_axis(
        across,
        "time since the request",
        [(tick, duration_text(tick * 1e6) if tick else "0") for tick in linear_ticks(0.0, end_ms, 6)],
        bottom,
    )
    steps = [(across(0.0), bottom)]
    drawn = sampled(len(bursts), _MOST_DRAWN)
    for number in drawn:
        x, y = across(bursts[number].at_ms), up(sums[number] / unit)
        steps += [(x, steps[-1][1]), (x, y)]
    steps.append((across(end_ms), steps[-1][1]))
    chart.line(steps, DATA, width=1.5)
    whole = [number for number in drawn if bursts[number].between]
    inside = [number for number in drawn if not bursts[number].between]
    for numbers, colour, sign in ((whole, DATA, "dot"), (inside, FAIL, "square")):
        places = [(across(bursts[number].at_ms), up(sums[number] / unit)) for number in numbers]
        chart.points(places, colour, "dot" if sign == "dot" else "square", size=5)
    chart.keys = [Key(DATA, "burst that ends between events", sign="dot")]
    if inside:
        chart.keys.append(Key(FAIL, "burst that ends inside an event", sign="square"))
    events = sum(burst.events for burst in bursts)
    cut = sum(not burst.between for burst in bursts)
    chart.sentence = (
        f"{count_of(events, 'event')} and {sum_bytes:,} bytes in {count_of(len(bursts), 'burst')}, "
        f"from {duration_text(bursts[0].at_ms * 1e6)} to {duration_text(bursts[-1].at_ms * 1e6)} after the request; "
        f"{cut} of them end inside an event."
    )
    rows = [
        [
            f"{burst.at_ms:,.1f}",
            f"{burst.size_bytes:,}",
            f"{burst.events:,}",
            "between events" if burst.between else "inside",
        ]
        for burst in bursts[:MOST_TABLE_ROWS]
    ]
    note = f"The first {MOST_TABLE_ROWS} of {len(bursts):,}." if len(bursts) > MOST_TABLE_ROWS else ""
    chart.table = Table(columns=["ms", "bytes", "events", "ends"], rows=rows, text_columns=0, note=note)
    return chart
