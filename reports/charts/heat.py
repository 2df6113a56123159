"""When long and short gaps came: a stretch of the run by a class of length, the darker the more.

One path a class of counts, and no shape for an empty cell (measurement.md 5.3). The classes grow by powers, since one
long gap among ten thousand short ones is what the picture is for.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.overtime import LANE, Band, draw_bands, lanes, stretches, time_axis
from sseproof.reports.charts.svg import (
    DATA,
    FOOT,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Key,
    Scale,
    Table,
    log_ticks,
    short,
)
from sseproof.reports.words import digits, duration_text

_ROW: Final = 9.0
ROWS_A_DECADE: Final = 6
CLASSES: Final = 6
_FAINTEST: Final = 0.16
_LOWEST_NS: Final = 10_000
"""What is shorter counts in the lowest row."""
MOST_ROWS: Final = 36
FEWEST_ROWS: Final = 12


class Heat(Struct, kw_only=True):
    """Counts of one series of one variant: by second of the run and row."""

    name: str
    cells: dict[tuple[int, int], int]

    @property
    def total(self) -> int:
        """All values."""
        return sum(self.cells.values())


def row_of(value_ns: int) -> int:
    """The row of a length: so many to a decade, 0 from 10 µs down."""
    return max(0, math.floor(ROWS_A_DECADE * math.log10(max(value_ns, 1) / _LOWEST_NS)))


def add(cells: dict[tuple[int, int], int], second: int, counts: Mapping[int, int]) -> None:
    """Adds the histogram of an interval of the run to its second."""
    for value, count in counts.items():
        cell = (second, row_of(value))
        cells[cell] = cells.get(cell, 0) + count


def _edge_ns(row: int) -> float:
    return _LOWEST_NS * 10 ** (row / ROWS_A_DECADE)


def heat_map(
    key: str, heat: Heat, bands: Sequence[Band], length_s: float, limits_ns: Sequence[int]
) -> Chart | None:
    """The gaps of one variant; None without any."""
    if not heat.total:
        return None
    width, count = stretches(length_s, 1.0)  # an interval of the series lasts a second
    grid: dict[tuple[int, int], int] = {}
    for (second, row), number in heat.cells.items():
        cell = (min(int((second + 0.5) / width), count - 1), min(row, MOST_ROWS - 1))
        grid[cell] = grid.get(cell, 0) + number
    rows = [row for _, row in grid]
    first, last = max(min(rows) - 1, 0), max(rows) + 1
    last = max(last, min(first + FEWEST_ROWS, MOST_ROWS))
    for limit in limits_ns:
        first, last = min(first, row_of(limit)), max(last, min(row_of(limit) + 1, MOST_ROWS))
    top = TOP + len(lanes(bands)) * LANE + 16
    bottom = top + _ROW * (last - first + 1)
    chart = Chart(
        key=key,
        title=f"Gaps over time{f', {short(heat.name)}' if heat.name else ''}",
        description=f"How many there were in each {digits(width)} s of the run and each class of length; darker is more.",
        height=bottom + FOOT,
    )
    time = Scale(0.0, width * count, LEFT, RIGHT)
    scale = Scale(_edge_ns(first), _edge_ns(last + 1), bottom, top, log=True)
    draw_bands(chart, bands, time, TOP, bottom)
    ticks = [(tick, duration_text(tick)) for tick in log_ticks(scale.low, scale.high, 6)]
    chart.y_axis(scale, "length, log scale", ticks)
    most = max(grid.values())
    edges = class_edges(most)
    for index, (low, high) in enumerate(edges):
        opacity = _FAINTEST + (1 - _FAINTEST) * (index / max(len(edges) - 1, 1))
        cells = sorted(cell for cell, number in grid.items() if low <= number <= high)
        chart.rectangles(
            [
                (time(at * width), time((at + 1) * width), scale(_edge_ns(row + 1)), scale(_edge_ns(row)))
                for at, row in cells
            ],
            DATA,
            opacity=opacity,
        )
        if cells:
            chart.keys.append(
                Key(DATA, f"{low:,}" if low == high else f"{low:,} to {high:,}", opacity=opacity)
            )
    for limit in limits_ns:
        y = scale(limit)
        chart.line([(LEFT, y), (RIGHT, y)], "currentColor", width=1.5, dash="6 3")
        chart.text(RIGHT, y - 4, f"claimed: {duration_text(limit)}", "end")
    time_axis(chart, time, bottom)
    chart.table = _table(grid, width, count)
    chart.sentence = _said(grid, heat, limits_ns, width)
    return chart


def class_edges(most: int) -> list[tuple[int, int]]:
    """Classes of counts from 1 to the most, each a power wider than the one before."""
    edges: list[tuple[int, int]] = []
    low = 1
    for index in range(CLASSES):
        if low > most:
            break
        high = max(low, round(most ** ((index + 1) / CLASSES)))
        edges.append((low, most if index == CLASSES - 1 else high))
        low = high + 1
    return edges


def _table(grid: Mapping[tuple[int, int], int], width: float, count: int) -> Table:
    """A row a stretch: how many, the longest class, and where most are."""
    rows = []
    for at in range(count):
        column = {row: number for (place, row), number in grid.items() if place == at}
        if not column:
            continue
        most = max(column, key=lambda row: (column[row], row))
        rows.append(
            [
                digits(at * width),
                digits((at + 1) * width),
                f"{sum(column.values()):,}",
                f"{duration_text(_edge_ns(most))} to {duration_text(_edge_ns(most + 1))}",
                duration_text(_edge_ns(max(column) + 1)),
            ]
        )
    return Table(
        columns=["from, s", "to, s", "number", "most are", "none longer than"], rows=rows, text_columns=0
    )


def _said(grid: Mapping[tuple[int, int], int], heat: Heat, limits_ns: Sequence[int], width: float) -> str:
    longest = max(row for _, row in grid)
    at = min(place for place, row in grid if row == longest)
    name = f"{short(heat.name)}: " if heat.name else ""
    text = (
        f"{name}{heat.total:,} in all; the longest, between {duration_text(_edge_ns(longest))} and "
        f"{duration_text(_edge_ns(longest + 1))}, ended between {digits(at * width)} and {digits((at + 1) * width)} s."
    )
    if limits_ns:
        limit = limits_ns[0]
        beyond = sum(number for (_, row), number in grid.items() if row > row_of(limit))
        text += f" {beyond:,} lie in rows above that of {duration_text(limit)}."
    return text
