"""How long reconnection took, as the share of breaks that were over within a time.

The curve is that of Kaplan and Meier: a break that we ended ourselves while it was open is censored then (an arrow) and
counts as open until then, and one that its client gave up stays open for ever, so that the curve ends below 100 %.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.lanes import limit_text
from sseproof.reports.charts.svg import (
    DASHES,
    FOOT,
    LEFT,
    RIGHT,
    SERIES,
    TOP,
    Anchor,
    Chart,
    Key,
    Scale,
    Table,
    linear_ticks,
    short,
)
from sseproof.reports.words import duration_text, share_text

_PLOT: Final = 200.0
_TOLD: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds of the table's rows; the limit is added."""


class Backs(Struct, kw_only=True):
    """The breaks of one variant, in ms."""

    name: str
    over_ms: list[float]
    """When something new came."""
    censored_ms: list[float] = []
    """When we ended those that were still open."""
    never: int = 0
    """Given up by the client."""
    colour: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.over_ms) + len(self.censored_ms) + self.never


def steps(backs: Backs) -> list[tuple[float, float]]:
    """The curve: at each time in ms the share from then on; it begins at (0, 0)."""
    found = [(0.0, 0.0)]
    open_, left = backs.count, 1.0
    events = sorted([(ms, 0) for ms in backs.over_ms] + [(ms, 1) for ms in backs.censored_ms])
    for ms, censored in events:
        if not censored:
            left *= 1.0 - 1.0 / open_
            share = 1.0 - left if left > 1e-12 else 1.0
            if found[-1][0] == ms:
                found[-1] = (ms, share)
            else:
                found.append((ms, share))
        open_ -= 1
    return found


def back_within(samples: Sequence[Backs], limit_ms: float, *, claimed: bool = False) -> Chart | None:
    """One curve a variant against the limit, which may be a claim's; None where none was over."""
    samples = [each for each in samples if each.count]
    if not any(each.over_ms for each in samples):
        return None
    longest = max((ms for each in samples for ms in (*each.over_ms, *each.censored_ms)), default=limit_ms)
    top, bottom = TOP + 18, TOP + 18 + _PLOT
    chart = Chart(
        key="back-within",
        title="Share of breaks that were over within a time",
        description="For each time since the break, the share of breaks after which something new had come.",
        height=bottom + FOOT,
    )
    across = Scale(0.0, max(longest, limit_ms * 1.2), LEFT, RIGHT)
    scale = Scale(0.0, 100.0, bottom, top)
    chart.y_axis(scale, "breaks that were over, %", [(tick, f"{tick:g}") for tick in (0, 25, 50, 75, 100)])
    ticks = [(tick, f"{tick / 1e3:g}") for tick in linear_ticks(0, across.high, 6)]
    chart.x_axis(across, "time since the break, s", ticks, bottom)
    x = across(limit_ms)
    chart.line([(x, top - 6), (x, bottom)], "currentColor", width=1.5, dash="6 3")
    anchor: Anchor = "end" if x > 700 else "start"
    chart.text(x, top - 8, limit_text(limit_ms, claimed=claimed), anchor)
    curves = [steps(each) for each in samples]
    for each, curve in zip(samples, curves, strict=True):
        _curve(chart, each, curve, (across, scale))
    at = sorted({*(told * 1e3 for told in _TOLD if told * 1e3 <= across.high), limit_ms})
    chart.table = Table(
        columns=["over within", *(short(each.name) or "breaks" for each in samples)],
        rows=[[duration_text(ms * 1e6), *(share_text(_share(curve, ms)) for curve in curves)] for ms in at],
    )
    chart.sentence = " ".join(_said(each, limit_ms) for each in samples)
    return chart


def _curve(
    chart: Chart, each: Backs, curve: Sequence[tuple[float, float]], scales: tuple[Scale, Scale]
) -> None:
    across, scale = scales
    colour, dash = SERIES[each.colour % len(SERIES)], DASHES[each.colour % len(DASHES)]
    points: list[tuple[float, float]] = []
    for ms, share in curve:
        if points:
            points.append((across(ms), points[-1][1]))
        points.append((across(ms), scale(share * 100)))
    points.append((across(across.high), points[-1][1]))
    chart.line(points, colour, dash=dash, width=2.5)
    if each.censored_ms:
        arrows = ((across(ms), scale(_share(curve, ms) * 100) - 5) for ms in each.censored_ms)
        chart.ticks(arrows, colour, length=10, width=1.5)
    chart.keys.append(Key(colour, short(each.name) or "all breaks", dash=bool(dash)))
    if each.censored_ms:
        chart.keys.append(Key(colour, "ended by us while open (tick)", sign="tick"))


def _share(curve: Sequence[tuple[float, float]], ms: float) -> float:
    """Of a curve that ascends in both."""
    at = bisect_right(curve, ms, key=itemgetter(0))
    return curve[at - 1][1] if at else 0.0


def _said(each: Backs, limit_ms: float) -> str:
    name = f"{short(each.name)}: " if each.name else ""
    within = sum(1 for ms in each.over_ms if ms <= limit_ms)
    text = f"{name}{within:,} of {each.count:,} breaks were over within {duration_text(limit_ms * 1e6)}"
    if each.over_ms:
        text += f", the slowest after {duration_text(max(each.over_ms) * 1e6)}"
    if each.never:
        text += f"; {each.never:,} {'was' if each.never == 1 else 'were'} given up"
    if each.censored_ms:
        text += f"; {len(each.censored_ms):,} ended with the run while open"
    return f"{text}."
