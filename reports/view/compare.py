"""The page of a comparison: the decision, what changed with its intervals, the runs one by one, and what differs beside it."""

import math
import shlex
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.changes import Change, Lane, Way, differences, strip
from sseproof.reports.charts.spread import Sample, spectrum
from sseproof.reports.charts.svg import Chart, Table, short
from sseproof.reports.compare import (
    CALLS,
    Call,
    Comparison,
    Row,
    change_text,
    points_text,
    ratio_text,
    side_text,
    value_text,
)
from sseproof.reports.differences import FEWEST_KEPT
from sseproof.reports.figures import RunFigures
from sseproof.reports.view.model import Block, Bullets, Code, Figure, Grid, Paragraph, Section, Subheading
from sseproof.reports.view.record import moment_text, of_text
from sseproof.reports.words import NOT_MEASURED, count_of, digits, joined, share_text
from sseproof.rundir.text import printable

MARKS: Final[dict[Call, str]] = {"worse": "✕", "better": "✓", "none shown": "=", "undecided": "?"}
_CLASSES: Final[dict[Call, str]] = {
    "worse": "fail",
    "better": "pass",
    "none shown": "none",
    "undecided": "unknown",
}
_STRIPS: Final = ("success", "ttft p50", "ttft p95")
_MOST_ROWS: Final = 60
_MOST_SHOWN: Final = 200


class CallChip(Struct, kw_only=True):
    """A figure that may be called, in one glance."""

    style: str
    mark: str
    word: str
    name: str


class ComparePage(Struct, kw_only=True):
    """The whole page."""

    title: str
    decision: str
    answer: str
    about: list[tuple[str, str]]
    chips: list[CallChip]
    problems: list[str]
    sections: list[Section]


def build_comparison(
    comparison: Comparison,
    before: Sequence[RunFigures],
    after: Sequence[RunFigures],
    left_out: Sequence[str],
    command: Sequence[str],
) -> ComparePage:
    """Everything the template needs."""
    sections = [
        _changes(comparison),
        _runs_section(comparison),
        _spread(comparison, before, after),
        _ends(comparison, before, after),
        _inputs(comparison),
        _limits(comparison),
        _repeat(comparison, command),
    ]
    calling = [row for row in comparison.rows if row.may_call]
    answer = (
        "fail"
        if any(row.call == "worse" for row in calling)
        else ("unknown" if comparison.exit_code else "none")
    )
    return ComparePage(
        title=f"Comparison: {comparison.decision}",
        decision=comparison.decision,
        answer=answer,
        about=_about(comparison),
        chips=[
            CallChip(style=_CLASSES[row.call], mark=MARKS[row.call], word=CALLS[row.call], name=row.name)
            for row in calling
        ],
        problems=[printable(each, 1_000) for each in (*comparison.warnings, *left_out)][:_MOST_SHOWN],
        sections=[section for section in sections if section is not None],
    )


def names(comparison: Comparison) -> tuple[str, str]:
    """What the two sides are called."""
    if comparison.mode == "baseline":
        return "kept runs", "this run"
    return "before", "after"


def _about(comparison: Comparison) -> list[tuple[str, str]]:
    scenarios = sorted({printable(head.scenario) for head in (*comparison.before, *comparison.after)})
    about = [("Scenario" if len(scenarios) == 1 else "Scenarios", joined(scenarios))]
    for name, heads in zip(names(comparison), (comparison.before, comparison.after), strict=True):
        starts = [head.started_ns for head in heads if head.started_ns is not None]
        streams = count_of(sum(head.streams for head in heads), "stream")
        variants = sorted({printable(head.variant) for head in heads if head.variant})
        whose = f" [{joined(variants)}]" if variants else ""
        when = moment_text(min(starts)) if starts else NOT_MEASURED
        if len(starts) > 1:
            when += f" to {moment_text(max(starts))}"
        lead = printable(heads[0].run) if len(heads) == 1 else count_of(len(heads), "run")
        about.append((name[0].upper() + name[1:], f"{lead}{whose}, {streams}, {when}"))
    return about


# --- what changed -------------------------------------------------------------------------------------------------------


def _changes(comparison: Comparison) -> Section:
    called = [row for row in comparison.rows if row.may_call]
    blocks: list[Block] = [Paragraph(text=_how(comparison))]
    if called:
        blocks.append(
            Grid(
                caption="The figures that are called; they share the error.", table=_table(comparison, called)
            )
        )
    telling = [row for row in comparison.rows if row.sentence and (row.may_call or row.leans)]
    if telling:
        blocks.append(Bullets(items=[f"{row.name}: {row.sentence}" for row in telling]))
    for kind in ("share", "time"):
        chart = _difference_chart(comparison, kind)
        if chart is not None:
            blocks.append(Figure(chart=chart))
    beside = [row for row in comparison.rows if not row.may_call]
    if beside:
        blocks += [
            Subheading(text="Shown beside, and never called here"),
            Grid(caption="Further figures.", table=_table(comparison, beside)),
        ]
    return Section(key="changes", name="What changed", heading=_heading(called), blocks=blocks)


def _heading(called: Sequence[Row]) -> str:
    parts = []
    for call in ("worse", "better", "none shown", "undecided"):
        count = sum(row.call == call for row in called)
        if count:
            parts.append(f"{count} {CALLS[call]}")
    return (
        f"Of {count_of(len(called), 'figure')} that may be called: {joined(parts)}"
        if called
        else "Nothing to call"
    )


def _how(comparison: Comparison) -> str:
    called = sum(row.may_call for row in comparison.rows)
    share = share_text(comparison.error)
    if comparison.mode == "pair":
        return (
            f"Shares are called by Newcombe's interval and Fisher's exact test together, and {count_of(called, 'figure')} "
            f"share an error of {share}. Times of one pair of runs are shown with their order-statistic intervals and never "
            "called: the unit is the run."
        )
    if comparison.mode == "sets":
        return (
            f"The unit is the run. A figure is called where an exact Mann-Whitney test of the runs' values and a change that "
            f"matters (times {digits(comparison.ratio * 100)} %, shares {digits(comparison.points * 100)} points, "
            f"Hodges-Lehmann) agree; {count_of(called, 'figure')} share an error of {share}."
        )
    return (
        f"The run is called where it is odder than the kept ones in all figures together (error at most {share} each way), "
        "lies outside the range of that figure, and by as much as matters."
        if len(comparison.before) >= FEWEST_KEPT
        else f"With {count_of(len(comparison.before), 'kept run')} there are counts only; a range takes {FEWEST_KEPT}."
    )


def _table(comparison: Comparison, rows: Sequence[Row]) -> Table:
    one, other = names(comparison)
    kept = comparison.mode == "baseline"
    return Table(
        columns=["figure", "call", one, other, "change", "holds the next" if kept else "interval"],
        rows=[
            [
                row.name,
                f"{MARKS[row.call]}\N{NO-BREAK SPACE}{_word(row)}",
                side_text(row, row.before),
                side_text(row, row.after),
                change_text(row),
                _range(row) if kept else _interval(row),
            ]
            for row in rows[:_MOST_ROWS]
        ],
        text_columns=2,
    )


def _word(row: Row) -> str:
    """The call, or where a figure points that is not called."""
    if row.may_call or row.call == "none shown":
        return CALLS[row.call]
    return f"{row.leans}, not called" if row.leans else "shown only"


def _range(row: Row) -> str:
    low, high = row.before.low, row.before.high
    if low is None or high is None:
        return NOT_MEASURED
    return f"{value_text(row.kind, low)} to {value_text(row.kind, high)}"


def _interval(row: Row) -> str:
    if row.interval is None:
        return NOT_MEASURED
    text = points_text if row.kind == "share" else ratio_text
    return f"{text(row.interval[0])} to {text(row.interval[1])}"


def _difference_chart(comparison: Comparison, kind: str) -> Chart | None:
    rows = [row for row in comparison.rows if row.kind == kind and row.before.runs and row.after.runs]
    if comparison.mode != "pair":
        rows = [row for row in rows if row.may_call or row.difference is not None]
    confidences = sorted(
        {row.confidence for row in rows if row.confidence is not None and row.interval is not None}
    )
    interval = f"{joined([share_text(each) for each in confidences])} intervals" if confidences else ""
    matters = None
    if comparison.mode != "pair":
        matters = comparison.points if kind == "share" else comparison.ratio
    changes = []
    for row in rows:
        way: Way = row.call if row.call == "worse" or row.call == "better" else ""  # noqa: PLR1714  # narrows
        low, high = row.interval or (None, None)
        changes.append(
            Change(name=row.name, size=row.difference, low=low, high=high, way=way, word=_word(row))
        )
    return differences(f"change-{kind}", "share" if kind == "share" else "time", changes, matters, interval)


# --- run by run ---------------------------------------------------------------------------------------------------------


def _runs_section(comparison: Comparison) -> Section | None:
    if comparison.mode == "pair":
        return None
    one, other = names(comparison)
    blocks: list[Block] = []
    wanted = [row for row in comparison.rows if row.key in _STRIPS or row.may_call]
    for index, row in enumerate(wanted):
        lanes = [
            Lane(name=name, values=[value for value in side.each if value is not None])
            for name, side in ((one, row.before), (other, row.after))
        ]
        if comparison.mode == "baseline":
            lanes[0].low, lanes[0].high = row.before.low, row.before.high
        chart = strip(f"strip-{index}", row.name, row.kind, lanes)
        if chart is not None:
            if comparison.mode == "baseline" and row.before.low is not None:
                chart.sentence += f" The band holds the next run in {share_text(row.confidence)} of cases."
            blocks.append(Figure(chart=chart))
    columns = ["run", "side", "began", "seed", "ended", "streams", *(row.key for row in wanted)]
    rows = []
    for name, heads, side in ((one, comparison.before, "before"), (other, comparison.after, "after")):
        for index, head in enumerate(heads):
            values = [getattr(row, side).each for row in wanted]
            cells = [
                _cell(row, each[index]) if each else NOT_MEASURED
                for row, each in zip(wanted, values, strict=True)
            ]
            began = moment_text(head.started_ns)
            rows.append(
                [printable(head.run), name, began, str(head.seed), head.how, f"{head.streams:,}", *cells]
            )
    note = "" if len(rows) <= _MOST_SHOWN else f"The first {_MOST_SHOWN} of {len(rows):,} runs."
    table = Table(columns=columns, rows=rows[:_MOST_SHOWN], text_columns=3, note=note)
    blocks.append(Grid(caption="Every run and its figures.", table=table))
    heading = f"{count_of(len(comparison.before), 'run')} against {len(comparison.after)}, one by one"
    return Section(key="runs", name="Run by run", heading=heading, blocks=blocks)


def _cell(row: Row, value: float | None) -> str:
    return NOT_MEASURED if value is None else value_text(row.kind, value)


# --- distributions and ends ---------------------------------------------------------------------------------------------


def _spread(
    comparison: Comparison, before: Sequence[RunFigures], after: Sequence[RunFigures]
) -> Section | None:
    blocks: list[Block] = []
    one, other = names(comparison)
    whole = comparison.mode == "pair"
    for metric, title in (("ttft", "TTFT"), ("silence", "longest silence of a stream")):
        samples = []
        for colour, (name, runs) in enumerate(((one, before), (other, after))):
            values = [value for run in runs if metric in run.times for value in run.times[metric].seen]
            if values:
                samples.append(
                    Sample(
                        name=name,
                        values_ns=[None if math.isinf(value) else int(value) for value in values],
                        colour=colour,
                        dash="5 3" if colour else "",
                        band=whole or len(runs) == 1,
                    )
                )
        chart = spectrum(f"spectrum-{metric}", title, samples, [])
        if chart is not None:
            if not whole:
                chart.sentence += " Runs of one side are pooled: for reading, not for judging."
            blocks.append(Figure(chart=chart))
    if not blocks:
        return None
    rows = {row.key: row for row in comparison.rows}
    tail = rows.get("ttft p95") or rows.get("ttft p50")
    heading = "Both distributions, one over the other"
    if tail is not None:
        heading = f"{tail.name}: {one} {side_text(tail, tail.before)}, {other} {side_text(tail, tail.after)}"
    return Section(key="spread", name="Distributions", heading=heading, blocks=blocks)


def _ends(comparison: Comparison, before: Sequence[RunFigures], after: Sequence[RunFigures]) -> Section:
    one, other = names(comparison)
    tables: list[Block] = []
    goods = []
    for what, caption in (("outcomes", "How streams ended."), ("ends", "How attempts ended.")):
        sides: list[dict[str, int]] = []
        for runs in (before, after):
            total: dict[str, int] = {}
            for run in runs:
                for name, count in getattr(run, what).items():
                    total[name] = total.get(name, 0) + count
            sides.append(total)
        sums = [sum(side.values()) for side in sides]
        kinds = sorted(
            set(sides[0]) | set(sides[1]),
            key=lambda name: (-sides[0].get(name, 0) - sides[1].get(name, 0), name),
        )
        rows = [
            [name, *(of_text(side.get(name, 0), n) for side, n in zip(sides, sums, strict=True))]
            for name in kinds
        ]
        tables.append(Grid(caption=caption, table=Table(columns=["end", one, other], rows=rows)))
    for runs in (before, after):
        shares = [run.shares["success"] for run in runs if "success" in run.shares]
        goods.append(of_text(sum(share.worst for share in shares), sum(share.n for share in shares)))
    breaks = [sum(run.breaks for run in runs) for runs in (before, after)]
    tables.append(Paragraph(text=f"{count_of(breaks[0], 'break')} in {one}, {breaks[1]:,} in {other}."))
    return Section(
        key="ends", name="Ends", heading=f"Succeeded: {one} {goods[0]}, {other} {goods[1]}", blocks=tables
    )


# --- what stands beside it ----------------------------------------------------------------------------------------------


def _inputs(comparison: Comparison) -> Section:
    if not comparison.differing:
        text = (
            "Scenario, load, client, faults, seed, versions, machine and labels are the same on both sides."
        )
        return Section(
            key="inputs", name="Inputs", heading="The inputs are the same", blocks=[Paragraph(text=text)]
        )
    rows = [
        [each.name, _values(each.before), _values(each.after)] for each in comparison.differing[:_MOST_SHOWN]
    ]
    table = Table(columns=["input", *names(comparison)], rows=rows, text_columns=3)
    heading = (
        f"{count_of(len(comparison.differing), 'input')} {'is' if len(rows) == 1 else 'are'} not the same"
    )
    blocks: list[Block] = [Grid(caption="What differs between the sides, or within one.", table=table)]
    return Section(key="inputs", name="Inputs", heading=heading, blocks=blocks)


def _values(values: Sequence[str]) -> str:
    if not values:
        return NOT_MEASURED
    shown = ", ".join(short(value, 80) for value in values[:6])
    return f"{shown}, and {len(values) - 6} more" if len(values) > 6 else shown


def _limits(comparison: Comparison) -> Section:
    items = [
        "No difference shown is no proof of none: a smaller one may be there.",
        "What differs beside the service (inputs, machine, the hour) is not told apart from it.",
    ]
    if comparison.mode == "pair":
        items.append(
            "Streams of one run share its fate, so what moves from run to run looks like a change in a pair of runs."
        )
    if comparison.mode == "baseline":
        items.append(
            "The kept runs must be alike: if the service drifted while they were kept, the range holds the drift too."
        )
    if comparison.mode == "sets":
        items.append("The test assumes that either side could have come first: take turns, A B B A.")
    return Section(
        key="limits",
        name="Limits",
        heading="What this comparison does not show",
        blocks=[Bullets(items=items)],
    )


def _repeat(comparison: Comparison, command: Sequence[str]) -> Section:
    blocks: list[Block] = []
    if command:
        blocks.append(Code(text=printable(shlex.join(command), 4_000)))
    gate = f" Asked to decide: {joined(comparison.gate)}." if comparison.gate else ""
    blocks.append(Paragraph(text=f"The same runs give the same page.{gate}"))
    return Section(key="repeat", name="Repeat", heading="How to repeat it", blocks=blocks)
