"""How streams ended: a bar a class, the largest first within good and not good; zero is on the axis.

Every class begins with its sign (✓ ended well, ✕ did not, ? not finished), so that it is told without its colour. Where
variants stand side by side, each has its own bar, in the order of the plan and of the counts above it.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.svg import (
    FAIL,
    FOOT,
    PASS,
    QUIET,
    UNKNOWN,
    Anchor,
    Chart,
    Key,
    Scale,
    Table,
    linear_ticks,
    short,
)
from sseproof.reports.words import share_text

_LABEL: Final = 20.0
_BAR: Final = 11.0
_START: Final = 2.0
_END: Final = 990.0
_LONGEST_LABEL_CHARS: Final = 48
MOST_BARS: Final = 60


class EndClass(Struct, kw_only=True, frozen=True):
    """Streams that ended in the same way."""

    label: str
    good: bool | None
    """None is not finished."""
    counts: tuple[int, ...]
    """One a variant."""


def ends_chart(classes: Sequence[EndClass], variants: Sequence[str]) -> Chart | None:
    """Bars on one axis of streams; None without a stream."""
    total = sum(sum(each.counts) for each in classes)
    if not total:
        return None
    shown = classes[: max(1, MOST_BARS // max(len(variants), 1))]
    several = len(variants) > 1
    most = max(count for each in classes for count in each.counts)
    scale = Scale(0.0, float(most), _START, _END)
    bottom = sum(_LABEL + _BAR * len(each.counts) + 6 for each in shown) + 4
    chart = Chart(
        key="ends",
        title="How streams ended",
        description="Streams by outcome and by how their first connection ended, one bar a class.",
        height=bottom + FOOT,
    )
    for value in (tick for tick in linear_ticks(0, most, 6) if tick == int(tick)):
        x = scale(value)
        chart.line([(x, 2), (x, bottom + 5)], QUIET, width=1, opacity=0.35)
        anchor: Anchor = "end" if x > 940 else "start" if x < 40 else "middle"
        chart.text(x, bottom + 18, f"{value:,.0f}", anchor)
    chart.line([(_START, bottom), (_END, bottom)], QUIET, width=1)
    chart.text(1000, bottom + 35, "number of streams", "end")
    top = 0.0
    for each in shown:
        top = _class(chart, each, variants if several else (), scale, top)
    signs = {each.good for each in shown}
    for good, colour, word in (
        (True, PASS, "✓ ended well"),
        (False, FAIL, "✕ did not"),
        (None, UNKNOWN, "? not finished"),
    ):
        if good in signs:
            chart.keys.append(Key(colour, word))
    chart.table = Table(
        columns=["ended", *(short(name) or "streams" for name in variants), "share of all"],
        rows=[
            [each.label, *(f"{count:,}" for count in each.counts), share_text(sum(each.counts) / total)]
            for each in classes[:200]
        ],
    )
    well = sum(sum(each.counts) for each in classes if each.good)
    chart.sentence = f"{well:,} of {total:,} streams ended well ({share_text(well / total)})." + (
        f" Showing {len(shown)} of {len(classes)} classes." if len(shown) < len(classes) else ""
    )
    return chart


def _class(chart: Chart, each: EndClass, variants: Sequence[str], scale: Scale, top: float) -> float:
    sign, colour = {True: ("✓", PASS), False: ("✕", FAIL), None: ("?", UNKNOWN)}[each.good]
    counts = ", ".join(
        f"{short(variants[index], 12)} {count:,}" if variants else f"{count:,}"
        for index, count in enumerate(each.counts)
    )
    chart.text(0, top + 14, f"{sign} {short(each.label, _LONGEST_LABEL_CHARS - len(counts))}: {counts}")
    top += _LABEL
    for count in each.counts:
        if count:
            chart.bar(_START, scale(count), top + 1, top + _BAR - 1, colour, opacity=0.8)
        else:
            chart.line([(_START, top + 2), (_START, top + _BAR - 2)], colour, width=2)
        top += _BAR
    return top + 6
