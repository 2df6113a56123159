"""Distributions: the percentile spectrum of a latency, and how long the silences between events were.

The spectrum's axis is 1/(1-p), so that each step of ten is one more nine (measurement.md 5.3). Bands are distribution-free
order statistics, 95 % two-sided; a curve ends where so few streams are left that such an interval no longer exists, and
where the streams that never came begin: no percentile is told without its interval (3.4).
"""

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports import statistics
from sseproof.reports.charts.svg import (
    DASHES,
    FOOT,
    LEFT,
    RIGHT,
    SERIES,
    SIGNS,
    TOP,
    Chart,
    Key,
    Scale,
    Sign,
    Table,
    linear_ticks,
    log_ends,
    log_ticks,
    short,
)
from sseproof.reports.words import NEVER, NOT_MEASURED, duration_text, share_text

_PLOT: Final = 210.0
_MARKED: Final = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
_STEPS: Final = 60


class Sample(Struct, kw_only=True):
    """The values of one curve; None is +infinity."""

    name: str
    values_ns: list[int | None]
    colour: int = 0
    """Which of the series' colours: one a variant."""
    dash: str = ""
    band: bool = True

    def __post_init__(self) -> None:
        """In the order of their ranks, those that never came last."""
        self.values_ns = sorted(self.values_ns, key=lambda value: math.inf if value is None else value)


def spectrum(key: str, what: str, samples: Sequence[Sample], limits_ns: Sequence[int]) -> Chart | None:
    """Percentiles from p50 to the last one that the number of streams supports."""
    samples = [sample for sample in samples if any(value is not None for value in sample.values_ns)]
    if not samples:
        return None
    most = max(20.0, *(_last_rest(len(sample.values_ns)) for sample in samples))
    values = [value for sample in samples for value in sample.values_ns if value]
    upper = sorted(values)[len(values) // 4 :]  # below p50 nothing is drawn
    low, high = log_ends([value / 1e6 for value in [*upper, *limits_ns]], 10.0, 1000.0)
    top, bottom = TOP + 8, TOP + 8 + _PLOT
    chart = Chart(
        key=key,
        title=f"Percentiles of {what}",
        description=f"{what} at each percentile, both axes logarithmic: further right is one more nine.",
        height=bottom + FOOT,
    )
    across = Scale(2.0, most, LEFT, RIGHT, log=True)
    scale = Scale(low, high, bottom, top, log=True)
    chart.y_axis(
        scale, f"{what}, log scale", [(tick, duration_text(tick * 1e6)) for tick in log_ticks(low, high, 6)]
    )
    marked = [q for q in _MARKED if 1 / (1 - q) <= most * 1.0001]
    shown = [q for q in marked if q not in {0.75, 0.95}] if len(marked) > 6 else marked
    chart.x_axis(
        across, "percentile, log scale of the rest", [(1 / (1 - q), f"p{q * 100:g}") for q in shown], bottom
    )
    for limit in limits_ns:
        y = scale(limit / 1e6)
        chart.line([(LEFT, y), (RIGHT, y)], "currentColor", width=1.5, dash="6 3")
        chart.text(RIGHT, y - 4, f"claimed: {duration_text(limit)}", "end")
    rows = []
    for sample in samples:
        _curve(chart, sample, across, scale)
        sign: Sign = "bar" if sample.dash or len(samples) == 1 else SIGNS[sample.colour % len(SIGNS)]
        chart.keys.append(
            Key(
                SERIES[sample.colour % len(SERIES)], short(sample.name, 40), dash=bool(sample.dash), sign=sign
            )
        )
        rows.append(
            [short(sample.name, 40), f"{len(sample.values_ns):,}", *(_quantile(sample, q) for q in marked)]
        )
    chart.table = Table(columns=["", "streams", *(f"p{q * 100:g}" for q in marked)], rows=rows)
    chart.sentence = " ".join(_said(sample) for sample in samples)
    if any(sample.band for sample in samples):
        chart.sentence += " The bands are 95 % intervals of the percentiles; a line ends where there is none."
    return chart


def _last_rest(n: int) -> float:
    """1/(1-p) of the highest percentile with an interval; 2 where not even the median has one."""
    low, high = 2.0, max(float(n), 2.0)
    if n < 1 or statistics.quantile_interval(n, 0.5) is None:
        return low
    for _ in range(40):
        middle = math.sqrt(low * high)
        if statistics.quantile_interval(n, 1.0 - 1.0 / middle) is None:
            high = middle
        else:
            low = middle
    return low


def _curve(chart: Chart, sample: Sample, across: Scale, scale: Scale) -> None:
    ranked = [math.inf if value is None else value for value in sample.values_ns]
    n = len(ranked)
    colour = SERIES[sample.colour % len(SERIES)]
    line: list[tuple[float, float]] = []
    upper: list[tuple[float, float]] = []
    lower: list[tuple[float, float]] = []
    last = _last_rest(n)
    for rest in sorted({*(2.0 * (last / 2.0) ** (step / _STEPS) for step in range(_STEPS + 1))}):
        q = 1.0 - 1.0 / rest
        ranks = statistics.quantile_interval(n, q)
        value = ranked[statistics.quantile_rank(n, q) - 1]
        if ranks is None or value == math.inf:
            break
        x = across(rest)
        line.append((x, scale(value / 1e6)))
        if sample.band:
            ends = [ranked[rank - 1] for rank in ranks]
            lower.append((x, scale(ends[0] / 1e6)))
            upper.append((x, scale(scale.high if ends[1] == math.inf else ends[1] / 1e6)))
    chart.area(upper, lower, colour)
    chart.line(line, colour, dash=sample.dash)
    if line and not sample.dash:
        marked = [(across(1 / (1 - q)), scale(seen / 1e6)) for q in _MARKED
                  if 1 / (1 - q) <= last and (seen := _value(sample, q)) is not None]  # fmt: skip
        chart.points(marked, colour, SIGNS[sample.colour % len(SIGNS)], size=7)
    if not line:  # too few for any interval: the values themselves, each at its rank
        chart.dots(
            [
                (across(n / (n - rank)), scale(value / 1e6))
                for rank, value in enumerate(ranked)
                if value != math.inf and 2 * rank >= n
            ]
            or [(across(2.0), scale(value / 1e6)) for value in ranked[-1:] if value != math.inf],
            colour,
            size=6,
        )


def _value(sample: Sample, q: float) -> float | None:
    return sample.values_ns[statistics.quantile_rank(len(sample.values_ns), q) - 1]


def _quantile(sample: Sample, q: float) -> str:
    """The percentile with its interval; a dash where it has none."""
    n = len(sample.values_ns)
    ranks = statistics.quantile_interval(n, q)
    if ranks is None:
        return NOT_MEASURED
    low, high = (sample.values_ns[rank - 1] for rank in ranks)
    return f"{duration_text(_value(sample, q))} ({duration_text(low)} to {duration_text(high)})"


def _said(sample: Sample) -> str:
    n = len(sample.values_ns)
    parts = [f"p50 {duration_text(_value(sample, 0.5))}"]
    if statistics.quantile_interval(n, 0.95) is not None:
        parts.append(f"p95 {duration_text(_value(sample, 0.95))}")
    never = sum(1 for value in sample.values_ns if value is None)
    if never:
        parts.append(f"{never:,} {NEVER}")
    return f"{short(sample.name, 40)}: {', '.join(parts)} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n:,})."


# --- gaps ---------------------------------------------------------------------------------------------------------------


class Counts(Struct, kw_only=True):
    """The gaps of one variant, counted between the run's edges at the unfavourable end."""

    name: str
    counts: list[int]
    streams: int
    longest_ns: int
    colour: int = 0


def gap_histogram(
    counts: Sequence[Counts], edges_ns: Sequence[int], limits_ns: Sequence[int]
) -> Chart | None:
    """The share of the gaps in each bucket, from the shortest to the longest bucket that has any."""
    counts = [each for each in counts if sum(each.counts)]
    if not counts or not edges_ns:
        return None
    filled = [index for each in counts for index, count in enumerate(each.counts) if count]
    first, last = min(filled), max(filled)
    longest = max(each.longest_ns for each in counts)
    ends = [edges_ns[0] / 2, *edges_ns, max(longest, edges_ns[-1] * 2)]
    """Bucket i lies between ends[i] and ends[i + 1]."""
    low = ends[first]
    high = max(ends[last + 1], *limits_ns, low * 10) if limits_ns else max(ends[last + 1], low * 10)
    top, bottom = TOP + 18, TOP + 18 + 170
    chart = Chart(
        key="gaps",
        title="Gaps between events",
        description="Share of all gaps in each bucket of length; the buckets' edges grow, the axis is logarithmic.",
        height=bottom + FOOT,
    )
    across = Scale(low, high, LEFT, RIGHT, log=True)
    highest = max(max(each.counts) / sum(each.counts) for each in counts)
    scale = Scale(0.0, highest * 100, bottom, top)
    chart.y_axis(
        scale, "share of all gaps, %", [(tick, f"{tick:g}") for tick in linear_ticks(0, highest * 100, 5)]
    )
    chart.x_axis(
        across, "gap, log scale", [(tick, duration_text(tick)) for tick in log_ticks(low, high, 6)], bottom
    )
    for each in counts:
        _steps(chart, each, ends, (across, scale), (first, last))
        if len(counts) > 1:
            dashed = bool(DASHES[each.colour % len(DASHES)])
            chart.keys.append(Key(SERIES[each.colour % len(SERIES)], short(each.name), dash=dashed))
    for limit in limits_ns:
        x = across(limit)
        chart.line([(x, top - 4), (x, bottom)], "currentColor", width=1.5, dash="6 3")
        chart.text(x, top - 8, f"claimed: {duration_text(limit)}", "end" if x > 700 else "start")
    chart.table = Table(
        columns=["longer than", "up to", *(f"gaps {short(each.name)}".strip() for each in counts)],
        rows=[
            [duration_text(ends[index]) if index else "0 ms", duration_text(ends[index + 1])]
            + [f"{each.counts[index]:,}" if index < len(each.counts) else "0" for each in counts]
            for index in range(first, last + 1)
        ],
        text_columns=0,
    )
    chart.sentence = " ".join(_gap_sentence(each, edges_ns) for each in counts)
    return chart


def _steps(
    chart: Chart, each: Counts, ends: Sequence[float], axes: tuple[Scale, Scale], buckets: tuple[int, int]
) -> None:
    across, scale = axes
    total = sum(each.counts)
    colour = SERIES[each.colour % len(SERIES)]
    points = [(across(ends[buckets[0]]), scale(0))]
    for index in range(buckets[0], buckets[1] + 1):
        share = each.counts[index] / total * 100 if index < len(each.counts) else 0.0
        points += [(across(ends[index]), scale(share)), (across(ends[index + 1]), scale(share))]
    points.append((across(ends[buckets[1] + 1]), scale(0)))
    chart.area(points, [points[0]], colour)
    chart.line(points, colour, dash=DASHES[each.colour % len(DASHES)])


def gap_quantile_ns(each: Counts, edges_ns: Sequence[int], q: float) -> int:
    """The upper edge of the bucket that holds the quantile, or the longest gap where that is less."""
    rank = statistics.quantile_rank(sum(each.counts), q)
    return statistics.edge_at_rank(each.counts, edges_ns, each.longest_ns, rank)


def _gap_sentence(each: Counts, edges_ns: Sequence[int]) -> str:
    total = sum(each.counts)
    name = f"{short(each.name)}: " if each.name else ""
    p99 = duration_text(gap_quantile_ns(each, edges_ns, 0.99))
    return (
        f"{name}{share_text(0.99)} of {total:,} gaps in {each.streams:,} streams are at most {p99}, "
        f"the longest is {duration_text(each.longest_ns)}."
    )
