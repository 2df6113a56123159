"""The claims with their interval bars, the chips above them, and the variants side by side."""

from collections.abc import Sequence
from typing import Final

from sseproof.reports import statistics
from sseproof.reports.charts.bars import (
    Bar,
    Difference,
    difference_chart,
    interval_bar,
    share_scale,
    time_scale,
)
from sseproof.reports.charts.svg import FAIL, PASS, UNKNOWN, Scale, Table, short
from sseproof.reports.checks import SETTLED, CheckFailedError, Measured, Scoped, measure
from sseproof.reports.claims import ClaimError, parse_claim
from sseproof.reports.facts import ttft_ns
from sseproof.reports.summary import bound_text, count_text, fault_splits_text, observed_text
from sseproof.reports.verdicts import Answer, Verdict
from sseproof.reports.view.latency import ttft_figure
from sseproof.reports.view.model import MARKS, Block, Chip, ClaimRow, Claims, Figure, Grid, Paragraph, Section
from sseproof.reports.view.record import Record, of_text, quantile_text, variant_text
from sseproof.reports.words import NOT_MEASURED, count_of, digits, duration_text, joined, plural, signed
from sseproof.rundir.text import printable

_COLOURS: Final[dict[Answer, str]] = {"pass": PASS, "fail": FAIL, "unknown": UNKNOWN}
_MOST_GROUPS: Final = 12


def counting(record: Record) -> list[Verdict]:
    """The verdicts that set the exit code."""
    return [verdict for verdict in record.verdict.verdicts if verdict.counts]


def chips(record: Record) -> list[Chip]:
    """One a verdict."""
    return [
        Chip(
            anchor=f"claim-{index}",
            answer=verdict.verdict,
            mark=MARKS[verdict.verdict],
            claim=_name(verdict, record),
        )
        for index, verdict in enumerate(counting(record), start=1)
    ]


def claims_section(record: Record) -> Section | None:
    """A row a claim; absent in a run without claims."""
    verdicts = counting(record)
    if not verdicts:
        return None
    bars = [_bar(verdict, record) for verdict in verdicts]
    shares = share_scale([bar for bar, time in bars if bar is not None and not time])
    times = time_scale([bar for bar, time in bars if bar is not None and time])
    rows = [
        _row(index, verdict, record, bar, times if time else shares)
        for index, (verdict, (bar, time)) in enumerate(zip(verdicts, bars, strict=True), start=1)
    ]
    blocks: list[Block] = [Paragraph(text=_legend(bars)), Claims(rows=rows)]
    return Section(key="claims", name="Claims", heading=_heading(verdicts), blocks=blocks)


def _heading(verdicts: Sequence[Verdict]) -> str:
    words: dict[Answer, tuple[str, str]] = {
        "fail": ("fails", "fail"),
        "unknown": ("is unknown", "are unknown"),
        "pass": ("holds", "hold"),
    }
    parts = []
    for answer, (one, many) in words.items():
        count = sum(1 for verdict in verdicts if verdict.verdict == answer)
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
    return f"Of {count_of(len(verdicts), 'claim')}, {joined(parts)}"


def _legend(bars: Sequence[tuple[Bar | None, bool]]) -> str:
    if all(bar is None for bar, _ in bars):
        return "No claim could be measured; each says what is missing."
    parts = [
        "The dot is what was observed, the bar what the count shows at least and at most (exact, one-sided)."
    ]
    parts.append("A bar that lies whole on the good side of the dashed line passes.")
    if any(bar is not None and not time and bar.asked >= 1.0 for bar, time in bars):
        parts.append(
            "Where 100 % is asked, one violation fails, and the bar says how many could still be hidden."
        )
    kinds = {time for bar, time in bars if bar is not None}
    if len(kinds) > 1:
        parts.append(
            "All shares have one scale, and all times another: more is better for shares, less for times."
        )
    elif kinds == {True}:
        parts.append("All times have one scale; less is better.")
    elif kinds == {False}:
        parts.append("All shares have one scale; more is better.")
    return " ".join(parts)


def _name(verdict: Verdict, record: Record) -> str:
    text = printable(verdict.claim)
    several = len({each.variant for each in counting(record)}) > 1
    return f"{text} [{variant_text(verdict.variant)}]" if several and verdict.variant else text


def _row(index: int, verdict: Verdict, record: Record, bar: Bar | None, scale: Scale) -> ClaimRow:
    more = []
    if verdict.beside is not None:
        value = duration_text(verdict.beside.value_ns)
        more.append(f"From send instead of from plan: p{digits(verdict.beside.q * 100)} {value}.")
    elif verdict.metric == "ttft" and verdict.reading == "from send":
        more.append(f"From send; from plan: {NOT_MEASURED}, since a closed loop plans no start.")
    if len(verdict.groups) > 1:
        shown = [
            f"{short(split.group)} {split.k:,} of {split.n:,}"
            + (f" and {split.unfinished:,} open" if split.unfinished else "")
            for split in verdict.groups[:_MOST_GROUPS]
        ]
        rest = len(verdict.groups) - _MOST_GROUPS
        more.append(f"By group: {', '.join(shown)}{f', and {rest} more groups' if rest > 0 else ''}.")
    if len(verdict.faults) > 1:
        more.append(f"By fault: {fault_splits_text(verdict)}.")
    chart = None
    if bar is not None:
        sentence = (
            f"Observed {observed_text(verdict)}, good {count_text(verdict)}, bound {bound_text(verdict)}."
        )
        chart = interval_bar(f"bar-{index}", bar, scale, _COLOURS[verdict.verdict], sentence)
    return ClaimRow(
        anchor=f"claim-{index}",
        claim=printable(verdict.claim),
        variant=variant_text(verdict.variant) if record.several else "",
        answer=verdict.verdict,
        mark=MARKS[verdict.verdict],
        code=verdict.code or "",
        count=count_text(verdict) if verdict.n else "",
        observed=observed_text(verdict),
        bound=bound_text(verdict),
        unit=plural(verdict.unit),
        bar=chart,
        sentence=printable(verdict.sentence, limit=2_000),
        more=more,
        next=printable(verdict.next, limit=2_000),
    )


# --- bars ---------------------------------------------------------------------------------------------------------------


def _bar(verdict: Verdict, record: Record) -> tuple[Bar | None, bool]:
    """The bar, and whether it is one of times."""
    if verdict.form == "quantile" and verdict.figure is None:
        return _time_bar(verdict, record), True
    if verdict.lower is None or verdict.upper is None:
        return None, False
    return Bar(low=verdict.lower, high=verdict.upper, seen=verdict.observed, asked=verdict.p0), False


def _time_bar(verdict: Verdict, record: Record) -> Bar | None:
    """The quantile with the order statistics that are the dual of the verdict's bounds.

    A pass needs at most `allowed_failures` late ones, so the value of that rank is the upper end; a fail needs at least
    `refuting_failures`, which gives the lower end.
    """
    if verdict.quantile is None or verdict.limit_ns is None:
        return None
    try:
        claim = parse_claim(verdict.claim)
        measured = measure(Scoped(claim, verdict.variant, record.history, record.facts))
    except (ClaimError, CheckFailedError):
        return None
    open_ = verdict.unfinished + verdict.dropped
    total = verdict.n + open_
    allowed = statistics.allowed_failures(total, verdict.p0, verdict.confidence)
    refuting = statistics.refuting_failures(total, verdict.p0, verdict.confidence)
    low = 0.0 if refuting is None else _at_rank(measured, record, total - refuting + 1 - open_)
    high = None if allowed is None else _at_rank(measured, record, total - allowed)
    return Bar(
        low=low,
        high=high,
        seen=verdict.quantile.value_ns,
        asked=verdict.limit_ns,
        interval=allowed is not None or refuting is not None,
    )


def _at_rank(measured: Measured, record: Record, rank: int) -> float | None:
    """The value of this rank (from 1) among those that ended; None is +infinity, 0 below the first."""
    if rank < 1:
        return 0.0
    if measured.gap_counts:
        edges = record.history.plan.gap_edges_ns
        if rank > sum(measured.gap_counts) - measured.never:
            return None
        return statistics.edge_at_rank(measured.gap_counts, edges, measured.longest_gap_ns, rank)
    ranked = sorted(
        unit.value_ns for unit in measured.units if unit.cause in SETTLED and unit.value_ns is not None
    )
    return ranked[rank - 1] if rank <= len(ranked) else None


# --- variants -----------------------------------------------------------------------------------------------------------


def sides_section(record: Record) -> Section | None:
    """Every claim in every variant; absent in a run without variants."""
    if not record.several:
        return None
    by_claim: dict[str, dict[str | None, Verdict]] = {}
    for verdict in record.verdict.verdicts:
        by_claim.setdefault(verdict.claim, {})[verdict.variant] = verdict
    columns = ["", *(_head(record, name) for name in record.variants)]
    rows = [
        [printable(claim), *(_side(verdicts.get(name)) for name in record.variants)]
        for claim, verdicts in by_claim.items()
    ]
    summaries = {variant.name: variant.summary for variant in record.verdict.variants}
    rows.append(
        ["streams that succeeded"]
        + [of_text(summaries[name].good, summaries[name].streams) for name in record.variants]
    )
    for q in (0.5, 0.95):
        cells = [
            quantile_text([ttft_ns(each.record) for each in record.of(name)], q) for name in record.variants
        ]
        rows.append([f"TTFT p{digits(q * 100)}", *cells])
    rows.append(["breaks", *(f"{summaries[name].breaks:,}" for name in record.variants)])
    table = Table(columns=columns, rows=rows, text_columns=len(columns))
    goods = [
        f"{variant_text(name)} {of_text(summaries[name].good, summaries[name].streams)}"
        for name in record.variants
    ]
    blocks: list[Block] = [
        Grid(caption="Every claim and the main figures, variant beside variant.", table=table),
        Paragraph(text=_judged(record)),
        *_differences(record),
        *(Paragraph(text=each.note) for each in record.verdict.variants if each.note),
    ]
    figure = ttft_figure(record)
    if figure is not None:
        blocks.append(figure)
    return Section(
        key="sides", name="Side by side", heading=f"Streams that succeeded: {'; '.join(goods)}", blocks=blocks
    )


def _differences(record: Record) -> list[Block]:
    """How much more of the judged variant's streams succeeded than of each other's, with Newcombe's interval."""
    summaries = {variant.name: variant.summary for variant in record.verdict.variants}
    judged = summaries[record.judged]
    found = []
    sentences = []
    for name in record.variants:
        other = summaries[name]
        if name == record.judged or not other.streams or not judged.streams:
            continue
        low, high = statistics.newcombe((other.good, other.streams), (judged.good, judged.streams))
        seen = judged.good / judged.streams - other.good / other.streams
        found.append(
            Difference(
                name=f"{short(record.judged, 12)} less {short(name, 12)}",
                seen=seen * 100,
                low=low * 100,
                high=high * 100,
            )
        )
        sentences.append(
            f"{variant_text(record.judged)} less {variant_text(name)}: {signed(seen * 100)} percentage points, at 95 % "
            f"between {signed(low * 100)} and {signed(high * 100)} (Newcombe, {judged.streams:,} and "
            f"{other.streams:,} streams): "
            + ("chance alone could make it." if low <= 0.0 <= high else "more than chance makes.")
        )
    chart = difference_chart(found, " ".join(sentences))
    return [] if chart is None else [Figure(chart=chart)]


def _head(record: Record, name: str | None) -> str:
    judged = any(variant.name == name and variant.judged for variant in record.verdict.variants)
    return variant_text(name) + (" (judged)" if judged else "")


def _judged(record: Record) -> str:
    shown = [variant_text(each.name) for each in record.verdict.variants if not each.judged]
    if not shown:
        return "All variants ran at the same time, under the same planned faults."
    return (
        "The variants ran under one plan. "
        f"{joined(shown)} {'is' if len(shown) == 1 else 'are'} shown beside and does not set the exit code."
    )


def _side(verdict: Verdict | None) -> str:
    if verdict is None:
        return NOT_MEASURED
    lead = f"{MARKS[verdict.verdict]} {verdict.verdict}"
    if verdict.n == 0:
        return lead
    return f"{lead}: {count_text(verdict)}, {observed_text(verdict)}"
