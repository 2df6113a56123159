"""Which share of the subscriptions was connected, over the time of the run, with the faults and marks behind it.

A subscription counts from its first response until its end; it is connected while one of its connections is open. The
line shows the least share of each stretch, so that no dip between two points is lost.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.overtime import LANE, Band, draw_bands, lanes, time_axis
from sseproof.reports.charts.svg import (
    DASHES,
    FOOT,
    LEFT,
    RIGHT,
    SERIES,
    TOP,
    Chart,
    Key,
    Scale,
    Table,
    short,
)
from sseproof.reports.words import digits, duration_text, share_text

_STRETCHES: Final = 240
_ALMOST_ALL: Final = 0.99
_MOST_DIPS: Final = 200


class Subscriber(Struct, frozen=True):
    """One subscription, in seconds of the run: while it was held, and while it was connected."""

    since_s: float
    until_s: float
    connected: tuple[tuple[float, float], ...]


class Share(Struct, frozen=True):
    """From `at_s` on."""

    at_s: float
    held: int
    connected: int

    @property
    def share(self) -> float:
        """Of those that are held."""
        return self.connected / self.held


class Holders(Struct, kw_only=True):
    """The subscriptions of one variant."""

    name: str
    subscribers: list[Subscriber]
    colour: int = 0


class Dip(Struct, frozen=True):
    """A time in which fewer than 99 % were connected."""

    since_s: float
    until_s: float | None
    """None is to the end."""
    lowest: Share


def shares(subscribers: Sequence[Subscriber]) -> list[Share]:
    """The share from each change on; nothing while nobody is held."""
    changes: dict[float, list[int]] = {}
    for each in subscribers:
        for at, held, connected in (
            (each.since_s, 1, 0),
            (each.until_s, -1, 0),
            *((since, 0, 1) for since, _ in each.connected),
            *((until, 0, -1) for _, until in each.connected),
        ):
            change = changes.setdefault(at, [0, 0])
            change[0] += held
            change[1] += connected
    found = []
    held = connected = 0
    for at in sorted(changes):
        held += changes[at][0]
        connected += changes[at][1]
        if held > 0:
            found.append(Share(at, held, connected))
    return found


def dips(line: Sequence[Share], until_s: float) -> list[Dip]:
    """When fewer than 99 % were connected, the first dip first."""
    found: list[Dip] = []
    since: float | None = None
    lowest: Share | None = None
    for each in line:
        if each.share < _ALMOST_ALL:
            since = each.at_s if since is None else since
            lowest = each if lowest is None or each.share < lowest.share else lowest
        elif since is not None and lowest is not None:
            found.append(Dip(since, each.at_s, lowest))
            since = lowest = None
    if since is not None and lowest is not None and since < until_s:
        found.append(Dip(since, None, lowest))
    return found


def connected_over_time(holders: Sequence[Holders], bands: Sequence[Band], length_s: float) -> Chart | None:
    """One line a variant; None without a subscription that was ever connected."""
    lines = [(each, shares(each.subscribers)) for each in holders]
    lines = [(each, line) for each, line in lines if line]
    if not lines:
        return None
    top = TOP + len(lanes(bands)) * LANE + 8
    bottom = top + 180
    chart = Chart(
        key="connected",
        title="Share of subscriptions that were connected",
        description="Of the subscriptions held at each moment, the share that had an open connection; the lowest of each stretch.",
        height=bottom + FOOT,
    )
    time = Scale(0.0, max(length_s, 1e-3), LEFT, RIGHT)
    scale = Scale(0.0, 100.0, bottom, top)
    draw_bands(chart, bands, time, TOP, bottom)
    chart.y_axis(scale, "connected, % of held", [(tick, f"{tick:g}") for tick in (0, 25, 50, 75, 100)])
    time_axis(chart, time, bottom)
    rows = []
    for each, line in lines:
        colour, dash = SERIES[each.colour % len(SERIES)], DASHES[each.colour % len(DASHES)]
        chart.line(_thinned(line, time, scale), colour, dash=dash)
        if len(lines) > 1:
            chart.keys.append(Key(colour, short(each.name), dash=bool(dash)))
        rows += [
            [
                short(each.name) or "all",
                digits(dip.since_s),
                "the end" if dip.until_s is None else digits(dip.until_s),
                share_text(dip.lowest.share),
                f"{dip.lowest.connected:,} of {dip.lowest.held:,}",
            ]
            for dip in dips(line, length_s)[:_MOST_DIPS]
        ]
    chart.table = Table(
        columns=["variant", "below 99 % from, s", "to, s", "lowest", "connected then"],
        rows=rows[:200],
        note="" if rows else "At no time were fewer than 99 % connected.",
    )
    chart.sentence = " ".join(_said(each, line, length_s) for each, line in lines)
    return chart


def _thinned(line: Sequence[Share], time: Scale, scale: Scale) -> list[tuple[float, float]]:
    """The line as steps, the least of each of so many stretches where it has more changes than that."""
    if len(line) > _STRETCHES:
        width = (time.high - time.low) / _STRETCHES
        least: dict[int, Share] = {}
        for each in line:
            at = int((each.at_s - time.low) / width)
            if at not in least or each.share < least[at].share:
                least[at] = each
        line = [least[at] for at in sorted(least)]
    points: list[tuple[float, float]] = []
    for each in line:
        place = (time(each.at_s), scale(each.share * 100))
        if points:
            points.append((place[0], points[-1][1]))
        points.append(place)
    return points


def _said(each: Holders, line: Sequence[Share], length_s: float) -> str:
    name = f"{short(each.name)}: " if each.name else ""
    most = max(share.held for share in line)
    found = dips(line, length_s)
    if not found:
        return f"{name}Of up to {most:,} subscriptions at least 99 % were connected all the time."
    worst = min(found, key=lambda dip: (dip.lowest.share, dip.since_s))
    back = (
        "and stayed so to the end"
        if worst.until_s is None
        else f"and {duration_text((worst.until_s - worst.since_s) * 1e9)} passed until 99 % were again"
    )
    times = "" if len(found) == 1 else f", the worst of {len(found):,} times below 99 %"
    return (
        f"{name}At {digits(worst.lowest.at_s)} s {worst.lowest.connected:,} of {worst.lowest.held:,} subscriptions were "
        f"connected ({share_text(worst.lowest.share)}), {back}{times}."
    )
