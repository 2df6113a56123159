"""Distributions, the ruler, what the run does not show, and how to repeat it."""

import operator
import shlex
from collections.abc import Callable
from typing import Final

import msgspec

from sseproof.loadtests.settings import Load
from sseproof.reports.charts.health import Line, health_over_time
from sseproof.reports.charts.heat import heat_map
from sseproof.reports.charts.overtime import compact
from sseproof.reports.charts.spread import Counts, gap_histogram, gap_quantile_ns
from sseproof.reports.charts.svg import Table, short
from sseproof.reports.facts import ttft_ns
from sseproof.reports.judge import RigRow, rig_advice
from sseproof.reports.statistics import quantile_interval
from sseproof.reports.steadiness import Intervals
from sseproof.reports.summary import rig_text, steady_sentences
from sseproof.reports.view.claims import counting
from sseproof.reports.view.latency import ttft_figure
from sseproof.reports.view.model import Block, Bullets, Code, Figure, Folded, Grid, Paragraph, Section
from sseproof.reports.view.record import (
    Record,
    limits,
    moment_text,
    quantile_text,
    variant_text,
)
from sseproof.reports.words import NOT_MEASURED, count_of, duration_text, joined, share_text
from sseproof.rundir.rows import GeneratorRow
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw

_NS_PER_MS: Final = 1e6
_MOST_PAIRS: Final = 60
_LONGEST_PLAN_CHARS: Final = 20_000
_PERCENTILES: Final = ((0.999, "p99.9"), (0.99, "p99"), (0.95, "p95"), (0.9, "p90"), (0.5, "p50"))


# --- distributions ------------------------------------------------------------------------------------------------------


def spread_section(record: Record) -> Section | None:
    """Absent when not one first token and not one gap was seen."""
    blocks: list[Block] = []
    figure = None if record.several else ttft_figure(record)  # beside each other where there are several
    if figure is not None:
        blocks.append(figure)
    edges = record.history.plan.gap_edges_ns
    counts = _gap_counts(record)
    histogram = gap_histogram(counts, edges, limits(record, "gap"))
    if histogram is not None:
        blocks.append(Figure(chart=histogram))
    for index, heat in enumerate(record.heats):
        chart = heat_map(
            f"heat-{index}",
            heat,
            compact(record.bands(record.variants[index]), record.length_s),
            record.length_s,
            limits(record, "gap"),
        )
        if chart is not None:
            blocks.append(Figure(chart=chart))
    if record.heat_problem:
        blocks.append(Paragraph(text=record.heat_problem))
    if not blocks:
        return None
    parts = []
    if figure is not None:
        values = [ttft_ns(each.record) for each in record.facts]
        tail = quantile_text(values, 0.95)
        parts.append(
            f"TTFT p50 {quantile_text(values, 0.5)}" + (f", p95 {tail}" if tail != NOT_MEASURED else "")
        )
    for each in counts:
        if sum(each.counts):
            lead = f"{each.name}: " if record.several else ""
            parts.append(
                f"{lead}99 % of gaps are at most {duration_text(gap_quantile_ns(each, edges, 0.99))}"
            )
    return Section(key="spread", name="Distributions", heading="; ".join(parts), blocks=blocks)


def _gap_counts(record: Record) -> list[Counts]:
    edges = len(record.history.plan.gap_edges_ns)
    result = []
    for index, name in enumerate(record.variants):
        total = Counts(
            name=variant_text(name), counts=[0] * (edges + 1), streams=0, longest_ns=0, colour=index
        )
        for each in record.of(name):
            gaps = each.record.gaps
            if gaps is None or not gaps.count:
                continue
            total.streams += 1
            total.longest_ns = max(total.longest_ns, gaps.longest_hi_ns)
            for bucket, count in enumerate(gaps.hi[: edges + 1]):
                total.counts[bucket] += count
        result.append(total)
    return result


# --- how steady they were ---------------------------------------------------------------------------------------------


def steady_section(record: Record) -> Section | None:
    """Freshness, heartbeats and fan-out; absent where nothing of it was measured."""
    found = [
        (variant.name, variant.steadiness)
        for variant in record.verdict.variants
        if variant.steadiness is not None and steady_sentences(variant.steadiness)
    ]
    if not found:
        return None
    leads = [f"{variant_text(name)}: " if record.several else "" for name, _ in found]
    rows = [
        [variant_text(name), what, *_interval_cells(intervals)]
        for name, steady in found
        for what, intervals in (
            ("silence before a heartbeat", steady.heartbeat_gaps),
            ("from the send time inside an event to its arrival", steady.ages),
            ("behind the first subscriber of the same worker", steady.behind),
        )
        if intervals is not None
    ]
    blocks: list[Block] = [
        Bullets(
            items=[
                f"{lead}{sentence}"
                for lead, (_, steady) in zip(leads, found, strict=True)
                for sentence in steady_sentences(steady)
            ]
        ),
        Paragraph(
            text="Time is weighed, not events: of a silence of 5 s, 4.5 s are stale, from a stream's first token to its end "
            "and breaks included. Send times are the service's own clock."
        ),
    ]
    if rows:
        columns = [
            "variant",
            "interval",
            "n",
            "streams",
            "p50 at most",
            "p95 at most",
            "p99 at most",
            "longest",
        ]
        table = Table(columns=columns, rows=rows, text_columns=2)
        if not record.several:
            table = Table(columns=columns[1:], rows=[row[1:] for row in rows], text_columns=1)
        blocks.append(Grid(caption="Heartbeats and fan-out.", table=table))
    shares = [
        f"{lead.removesuffix(': ')} {share_text(steady.stale_share)}".strip()
        for lead, (_, steady) in zip(leads, found, strict=True)
        if steady.stale_share is not None
    ]
    heading = "Heartbeats and fan-out"
    if shares and record.several:
        heading = f"Share of the time in which the newest event was older than 500 ms: {joined(shares)}"
    elif shares:
        heading = f"The newest event was older than 500 ms in {shares[0]} of the time"
    return Section(key="steady", name="Freshness", heading=heading, blocks=blocks)


def _interval_cells(intervals: Intervals) -> list[str]:
    return [
        f"{intervals.count:,}",
        f"{intervals.streams:,}",
        *(duration_text(value) for value in (intervals.p50_ns, intervals.p95_ns, intervals.p99_ns)),
        duration_text(intervals.longest_ns),
    ]


# --- the ruler ----------------------------------------------------------------------------------------------------------


def ruler_section(record: Record) -> Section:
    """The generator's own indicators; they veto nothing, because what they bend is in the brackets already."""
    rig = record.verdict.rig
    if not rig:
        return Section(
            key="ruler",
            name="The ruler",
            heading="The generator left no measure of itself",
            blocks=[Paragraph(text="generator.jsonl has no rows: how well it kept up is not known.")],
        )
    judged = [row for row in rig if row.within is not None]
    late = [row for row in judged if row.within is False]
    heading = (
        f"The generator kept up: {len(judged)} of {len(judged)} indicators are within their usual limits"
        if not late
        else f"{len(late)} of {len(judged)} indicators of the generator are outside their usual limits"
    )
    blocks: list[Block] = [
        Paragraph(
            text="Every instant carries its own error, and the verdicts are judged at both ends of it: an indicator "
            "outside its limit makes brackets wider, and only claims that they could flip are unknown."
        ),
        Grid(
            caption="How well the generator kept up.",
            table=Table(
                columns=["indicator", "", "what it means", "measured", "usual"],
                rows=[_rig_row(row, record.verdict.load_began_ns) for row in rig],
                text_columns=3,
            ),
        ),
    ]
    chart = health_over_time(
        _health_lines(record), compact(record.bands(), record.length_s), record.length_s, _dropped_s(record)
    )
    if chart is not None:
        blocks.append(Figure(chart=chart))
    return Section(key="ruler", name="The ruler", heading=heading, blocks=blocks)


def _rig_row(row: RigRow, load_began_ns: int) -> list[str]:
    mark = {True: "✓\N{NO-BREAK SPACE}within", False: "!\N{NO-BREAK SPACE}outside", None: NOT_MEASURED}[
        row.within
    ]
    limit = NOT_MEASURED if row.limit is None else f"≤ {rig_text(row, row.limit)}"
    meaning = " ".join(part for part in (row.meaning, rig_advice(row, load_began_ns)) if part)
    return [row.indicator, mark, meaning, rig_text(row, row.value), limit]


def _health_lines(record: Record) -> list[Line]:
    """The worst worker of each second; open streams are those of all."""
    worst: tuple[tuple[str, str, Callable[[GeneratorRow], float | None]], ...] = (
        ("read lag p99", "ms", lambda row: _ms(row.read_lag_p99_ns)),
        ("dispatch lag p99", "ms", lambda row: _ms(row.dispatch_lag_p99_ns)),
        ("loop lag, longest", "ms", lambda row: _ms(row.loop_lag_max_ns)),
        ("CPU of a worker", "%", lambda row: _percent(row.cpu_share)),
        ("waiting for a core", "%", lambda row: _percent(row.run_queue_share)),
    )
    lines = [Line(name=name, unit=unit, points=_by_second(record, value, max)) for name, unit, value in worst]
    lines.append(
        Line(
            name="open streams",
            unit="streams",
            points=_by_second(record, lambda row: float(row.open_streams), operator.add),
        )
    )
    return lines


def _by_second(
    record: Record, value: Callable[[GeneratorRow], float | None], joined: Callable[[float, float], float]
) -> list[tuple[float, float]]:
    seconds: dict[int, float] = {}
    for row in record.history.generator:
        own, second = value(row), int(record.seconds(row.at_ns))
        if own is not None and second >= 0:
            seconds[second] = joined(seconds[second], own) if second in seconds else own
    return [(float(at), own) for at, own in sorted(seconds.items())]


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_MS


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _dropped_s(record: Record) -> list[float]:
    """The seconds in which streams could not be started."""
    return [max(record.seconds(row.at_ns), 0.0) for row in record.history.generator if row.dropped]


# --- what it does not show ----------------------------------------------------------------------------------------------


def limits_section(record: Record) -> Section:
    """The honest list: what a reader must not conclude from this run."""
    items = [*_unknowns(record), *_blind(record), *_sample(record), *_conditions(record)]
    return Section(
        key="limits",
        name="Not shown",
        heading=f"What this run does not show: {len(items)} things to know before you rely on it",
        blocks=[Bullets(items=items)],
    )


def _unknowns(record: Record) -> list[str]:
    verdicts = counting(record)
    if not verdicts:
        return ["No claim was given: nothing here is a pass, these are measurements only."]
    return [
        f"Whether “{printable(verdict.claim)}” holds: {verdict.code or 'unknown'}. {printable(verdict.next, 500)}"
        for verdict in verdicts
        if verdict.verdict == "unknown"
    ]


_BLIND: Final = {
    "lost": "whether events were lost",
    "doubled": "whether events came twice",
    "order": "whether events came out of order",
    "text": "whether the text is byte for byte what was meant",
    "truncation": "whether the end was missing",
}


def _blind(record: Record) -> list[str]:
    blind = {what for verdict in counting(record) if verdict.n for what in verdict.blind}
    words = [_BLIND[what] for what in _BLIND if what in blind]
    return [f"In some or all streams nobody could see {joined(words)}."] if words else []


def _sample(record: Record) -> list[str]:
    items = []
    streams = len(record.facts)
    for name in record.variants:
        n = len(record.of(name))
        supported = next((text for q, text in _PERCENTILES if quantile_interval(n, q) is not None), None)
        which = f" of {variant_text(name)}" if record.several else ""
        if supported is None:
            items.append(
                f"{count_of(n, 'stream')}{which} {'shows' if n == 1 else 'show'} no percentile with an interval."
            )
        elif supported != "p99.9":
            items.append(
                f"{n:,} streams{which} show percentiles with an interval up to {supported}, not beyond."
            )
    if not record.history.breaks and streams:
        items.append("No connection broke: reconnection and resuming were not put to the test.")
    if not record.windows and streams:
        items.append("No fault acted: it says nothing about bad networks.")
    unfinished, dropped = len(record.history.unfinished), len(record.history.dropped)
    if unfinished:
        items.append(f"How {count_of(unfinished, 'unfinished stream')} would have ended.")
    if dropped:
        items.append(f"What {count_of(dropped, 'stream')} would have met that we could not start in time.")
    if record.history.warmup:
        items.append(f"The warm-up: its {count_of(record.history.warmup, 'stream')} are left out everywhere.")
    return items


def _conditions(record: Record) -> list[str]:
    items = []
    if any(from_raw(variant.load, Load).model == "closed" for variant in record.history.plan.variants):
        items.append(
            "What independent arrivals would meet: in closed load each user waits for the answer, so that a slow "
            "service was asked less often, and TTFT counts from sending."
        )
    items.append(
        f"Another day, place or load: it is one run of {duration_text(record.length_s * 1e9)} from one place, and the "
        "intervals cover chance within it, not what changes from day to day."
    )
    unstamped = sum(row.unstamped_reads for row in record.history.generator)
    reads = sum(row.reads for row in record.history.generator)
    if unstamped:
        items.append(
            f"Arrival to the microsecond in {share_text(unstamped / reads)} of {reads:,} reads, which have no kernel stamp."
        )
    return items


# --- how to repeat it ---------------------------------------------------------------------------------------------------


def repeat_section(record: Record) -> Section:
    """Command, seed, versions and plan."""
    verdict = record.verdict
    command = " ".join(shlex.quote(printable(word, 2_000)) for word in verdict.command[:200])
    blocks: list[Block] = []
    if command:
        blocks.append(Code(text=command))
    else:
        blocks.append(Paragraph(text="The command is not on record (run.json is missing or has none)."))
    blocks.append(
        Paragraph(
            text="“sseproof judge” on the run directory gives these verdicts and this page again, without load."
        )
    )
    pairs = [("run", verdict.run), ("scenario", verdict.scenario), ("seed", str(verdict.seed))]
    pairs += [("started", moment_text(verdict.started_ns)), ("ended", moment_text(verdict.ended_ns))]
    for what, mapping in (("label", verdict.labels), ("version", verdict.versions), ("host", verdict.host)):
        pairs += [(f"{what} {key}", value) for key, value in list(mapping.items())[:_MOST_PAIRS]]
    blocks.append(
        Grid(
            caption="What ran where.",
            table=Table(
                columns=["", "on record"],
                rows=[[printable(key, 80), printable(value)] for key, value in pairs],
                text_columns=2,
            ),
        )
    )
    blocks += _plan(record)
    return Section(
        key="repeat",
        name="Repeat it",
        heading=f"How to repeat it: seed {verdict.seed}, scenario {short(verdict.scenario, 60)}",
        blocks=blocks,
    )


def _plan(record: Record) -> list[Block]:
    plan = record.history.plan
    blocks: list[Block] = []
    for variant in plan.variants:
        name = f" of {variant_text(variant.name)}" if variant.name else ""
        for what, raw in (("target", variant.target), ("load", variant.load), ("client", variant.client)):
            blocks.append(Folded(summary=f"Plan: {what}{name}", text=_pretty(raw)))
    for what, raw in (("faults", plan.faults), ("groups", plan.groups)):
        if bytes(raw) not in {b"[]", b"null"}:
            blocks.append(Folded(summary=f"Plan: {what}", text=_pretty(raw)))
    return blocks


def _pretty(raw: msgspec.Raw) -> str:
    lines = msgspec.json.format(bytes(raw), indent=2).decode("utf-8", "replace").splitlines()
    text = "\n".join(printable(line, 1_000) for line in lines)
    if len(text) <= _LONGEST_PLAN_CHARS:
        return text
    return f"{text[:_LONGEST_PLAN_CHARS]}\n… (cut; the whole is in plan.json)"
