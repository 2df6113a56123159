"""Under faults: TTFT and outcomes over time, before, during and after each fault, breaks, and the evidence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sseproof.reports.charts.back import Backs, back_within
from sseproof.reports.charts.connected import Holders, Subscriber, connected_over_time
from sseproof.reports.charts.lanes import Episode, episodes
from sseproof.reports.charts.overtime import (
    Ended,
    Point,
    Series,
    busiest,
    compact,
    outcomes_over_time,
    ttft_over_time,
)
from sseproof.reports.charts.svg import Table, short
from sseproof.reports.checks import LINK_DOWN, FaultWindow
from sseproof.reports.facts import ttft_ns
from sseproof.reports.findings import Spans
from sseproof.reports.phases import quantile_ns
from sseproof.reports.summary import phase_ttft_text
from sseproof.reports.view.model import Block, Figure, Grid, Paragraph, Section, Subheading
from sseproof.reports.view.record import (
    Record,
    limits,
    of_text,
    quantile_text,
    ttft_reading,
    variant_text,
    window_name,
)
from sseproof.reports.view.streams import lifelines_chart
from sseproof.reports.words import NOT_MEASURED, duration_text
from sseproof.rundir.rows import BreakRow, StreamRecord
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.facts import Facts

_NS_PER_MS: Final = 1e6
RECONNECT_LINE_MS: Final = 1_000.0
"""The line of the question that everybody asks; a claim with another limit moves it."""
_MOST_ROWS: Final = 60
_FEWEST_FOR_FINDING: Final = 20


def faults_section(record: Record) -> Section | None:
    """Absent without streams, faults and marks."""
    if not record.facts and not record.windows and not record.verdict.marks:
        return None
    blocks: list[Block] = []
    bands = record.bands()
    chart = ttft_over_time(
        _series(record), bands, record.length_s, limits(record, "ttft"), ttft_reading(record)
    )
    if chart is not None:
        blocks.append(Figure(chart=chart))
    blocks += _outcomes(record)
    blocks += _connected(record)
    lives = lifelines_chart(record)
    if lives is not None:
        blocks.append(Figure(chart=lives))
    if record.windows:
        blocks += [Subheading(text="Before, during and after each fault"), _phases(record)]
    if any(variant.phases for variant in record.verdict.variants):
        blocks += [Subheading(text=_named_heading(record)), _named_phases(record)]
    blocks += _episodes(record)
    blocks += _evidence(record)
    blocks += _marks(record)
    return Section(
        key="faults",
        name="Under faults" if record.windows else "Over time",
        heading=_heading(record),
        blocks=blocks,
    )


def _series(record: Record) -> list[Series]:
    series = []
    for name in record.variants:
        points = []
        for each in record.of(name):
            start = each.record.intended or each.record.dispatched
            points.append(Point(max(record.seconds(start.ns), 0.0), ttft_ns(each.record)))
        series.append(Series(name=variant_text(name), points=points))
    return [each for each in series if each.points]


def _outcomes(record: Record) -> list[Block]:
    """One chart a variant, all on one scale."""
    ended = {
        name: [
            Ended(
                record.seconds(each.record.ended.ns),
                None if each.outcome == "unfinished" else each.good,
                each.outcome,
            )
            for each in record.of(name)
        ]
        for name in record.variants
    }
    most = max((busiest(streams, record.length_s) for streams in ended.values()), default=0)
    blocks: list[Block] = []
    for index, (name, streams) in enumerate(ended.items()):
        chart = outcomes_over_time(
            f"outcomes-{index}",
            variant_text(name),
            streams,
            bands=compact(record.bands(name), record.length_s),
            length_s=record.length_s,
            most=most,
        )
        if chart is not None:
            blocks.append(Figure(chart=chart))
    return blocks


def _connected(record: Record) -> list[Block]:
    """The share of subscriptions that were connected; nothing in a run of answers."""
    holders = [
        Holders(
            name=variant_text(name),
            subscribers=[
                subscriber
                for each in record.of(name)
                if each.record.kind == "subscription"
                and (subscriber := _subscriber(record, each.record)) is not None
            ],
            colour=index,
        )
        for index, name in enumerate(record.variants)
    ]
    chart = connected_over_time(holders, compact(record.bands(), record.length_s), record.length_s)
    return [] if chart is None else [Figure(chart=chart)]


def _subscriber(record: Record, row: StreamRecord) -> Subscriber | None:
    """None for one that was never connected."""
    connected = tuple(
        (record.seconds(attempt.headers.ns), record.seconds(attempt.ended.ns))
        for attempt in row.attempts
        if attempt.headers is not None
        and attempt.status in {None, 200}
        and attempt.ended.ns > attempt.headers.ns
    )
    if not connected:
        return None
    return Subscriber(connected[0][0], max(record.seconds(row.ended.ns), connected[-1][1]), connected)


# --- the finding --------------------------------------------------------------------------------------------------------


def _heading(record: Record) -> str:
    if not record.windows:
        lost = bool(record.verdict.faults) and "faults" in record.history.missing
        what = (
            "faults.jsonl is missing or not whole: when faults acted is not known"
            if lost
            else "No fault was injected"
        )
        return f"{what}; {_quiet_finding(record)}"
    streams = record.of(record.judged)
    hit = [ttft_ns(each.record) for each in streams if record.active(each.record)]
    rest = [ttft_ns(each.record) for each in streams if not record.active(each.record)]
    which = f" ({variant_text(record.judged)})" if record.several else ""
    if min(len(hit), len(rest)) >= _FEWEST_FOR_FINDING:
        during, without = quantile_ns(hit, 0.95), quantile_ns(rest, 0.95)
        return (
            f"TTFT p95 is {duration_text(during)} in {len(hit):,} streams under a fault "
            f"and {duration_text(without)} in {len(rest):,} without one{which}"
        )
    good = sum(1 for each in streams if record.active(each.record) and each.good)
    if not hit:
        return f"No stream met a fault{which}"
    return f"Under faults {of_text(good, len(hit))} streams ended well{which}"


def _quiet_finding(record: Record) -> str:
    values = [ttft_ns(each.record) for each in record.facts]
    if len(values) < _FEWEST_FOR_FINDING:
        return "too few streams to say how steady TTFT is"
    middle = len(values) // 2
    first, second = quantile_text(values[:middle], 0.5), quantile_text(values[middle:], 0.5)
    return f"median TTFT is {first} in the first half of the streams and {second} in the second"


# --- before, during, after ----------------------------------------------------------------------------------------------


def _phases(record: Record) -> Grid:
    groups: dict[tuple[str, str | None, str | None], list[FaultWindow]] = {}
    for window in record.windows:
        groups.setdefault((window.kind, window.group, window.variant), []).append(window)
    rows = []
    for windows in list(groups.values())[: _MOST_ROWS // 3]:
        rows += _phase_rows(record, windows)
    hidden = max(len(groups) - _MOST_ROWS // 3, 0)
    note = f"{hidden} more faults are in faults.jsonl." if hidden else ""
    return Grid(
        caption="Streams on the path of each fault; between two windows of one fault counts as after.",
        table=Table(
            columns=["fault", "when", "streams", "ended well", "TTFT p50", "TTFT p95"],
            rows=rows,
            text_columns=2,
            note=note,
        ),
    )


def _phase_rows(record: Record, windows: Sequence[FaultWindow]) -> list[list[str]]:
    window = windows[0]
    spans, first_ns = Spans(windows), min(each.since_ns for each in windows)
    split: dict[str, list[Facts]] = {"before": [], "during": [], "after": []}
    for facts in record.facts:
        row = facts.record
        if window.group not in {None, row.group} or window.variant not in {None, row.variant}:
            continue
        if spans.met(row):
            split["during"].append(facts)
        elif row.ended.ns < first_ns:
            split["before"].append(facts)
        else:
            split["after"].append(facts)
    name = window_name(window, several=record.several)
    rows = []
    for when, streams in split.items():
        if not streams and when != "during":
            continue
        values = [ttft_ns(each.record) for each in streams]
        good = sum(1 for each in streams if each.good)
        rows.append(
            [
                name,
                when,
                f"{len(streams):,}",
                of_text(good, len(streams)),
                quantile_text(values, 0.5),
                quantile_text(values, 0.95),
            ]
        )
    return rows


def _named_heading(record: Record) -> str:
    judged = next((each for each in record.verdict.variants if each.judged), record.verdict.variants[-1])
    parts = [f"{printable(phase.name)} {of_text(phase.k, phase.n)}" for phase in judged.phases]
    return f"Streams that ended well, by phase: {'; '.join(parts)}"


def _named_phases(record: Record) -> Grid:
    """The parts of the load that claims may name (`in phase`)."""
    rows = [
        [
            *([variant_text(variant.name) or NOT_MEASURED] if record.several else []),
            printable(phase.name),
            f"{phase.start_ms / 1e3:g} s",
            "the end of load" if phase.end_ms is None else f"{phase.end_ms / 1e3:g} s",
            f"{phase.n:,}",
            of_text(phase.k, phase.n),
            f"{phase.unfinished:,}",
            phase_ttft_text(phase, 0.5),
            phase_ttft_text(phase, 0.95),
        ]
        for variant in record.verdict.variants
        for phase in variant.phases
    ]
    columns = [
        *(["variant"] if record.several else []),
        "phase",
        "from",
        "to",
        "streams",
        "ended well",
        "open",
    ]
    return Grid(
        caption="From and to are the plan's. A phase with faults lasts from the first call that broke something to the answer "
        "of the last that healed, and has every stream that was open in that time; of the other phases each has those that "
        "began in it. Open: streams without an end that can have been in it.",
        table=Table(
            columns=[*columns, "TTFT p50", "TTFT p95"],
            rows=rows,
            text_columns=len(columns) - 5,
        ),
    )


# --- breaks -------------------------------------------------------------------------------------------------------------


def _episodes(record: Record) -> list[Block]:
    if not record.history.breaks:
        return []
    claimed = limits(record, "reconnect")
    limit_ms = claimed[0] / _NS_PER_MS if claimed else RECONNECT_LINE_MS
    down = [window for window in record.windows if window.kind in LINK_DOWN]
    stopped = {
        (each.record.variant, each.record.stream): each.record.ended.ns
        for each in record.facts
        if each.record.end == "stopped"
    }
    by_variant = {
        name: [_episode(row, down, stopped) for row in record.history.breaks if row.variant == name]
        for name in record.variants
    }
    longest = max(
        (each.back_ms or each.gave_up_ms or 0.0 for breaks in by_variant.values() for each in breaks),
        default=limit_ms,
    )
    blocks: list[Block] = [Subheading(text=_episodes_heading(record, by_variant, limit_ms))]
    curve = back_within(
        [
            _backs(variant_text(name), breaks, index)
            for index, (name, breaks) in enumerate(by_variant.items())
        ],
        limit_ms,
        claimed=bool(claimed),
    )
    if curve is not None:
        blocks.append(Figure(chart=curve))
    for index, (name, breaks) in enumerate(by_variant.items()):
        title = f"Reconnection{f', {variant_text(name)}' if name else ''}"
        if breaks and all(each.back_ms is None for each in breaks):
            blocks.append(
                Paragraph(text=f"{title}: after none of {len(breaks):,} breaks did a new event come.")
            )
            continue
        chart = episodes(f"breaks-{index}", title, breaks, limit_ms, longest, claimed=bool(claimed))
        if chart is not None:
            blocks.append(Figure(chart=chart))
    return blocks


def _episodes_heading(record: Record, by_variant: dict[str | None, list[Episode]], limit_ms: float) -> str:
    parts = []
    for name, breaks in by_variant.items():
        if not breaks:
            continue
        within = sum(1 for each in breaks if each.back_ms is not None and each.back_ms <= limit_ms)
        lead = f"{variant_text(name)}: " if record.several else ""
        parts.append(f"{lead}{of_text(within, len(breaks))}")
    return f"Breaks with a new event within {duration_text(limit_ms * _NS_PER_MS)}: {'; '.join(parts)}"


def _backs(name: str, breaks: Sequence[Episode], index: int) -> Backs:
    return Backs(
        name=name,
        over_ms=sorted(each.back_ms for each in breaks if each.back_ms is not None),
        censored_ms=sorted(each.gave_up_ms or 0.0 for each in breaks if each.censored),
        never=sum(1 for each in breaks if each.back_ms is None and not each.censored),
        colour=index,
    )


def _episode(
    row: BreakRow, down: Sequence[FaultWindow], stopped: dict[tuple[str | None, int], int]
) -> Episode:
    start = row.seen.ns
    for window in down:  # as the claim counts it: a link that is kept down is no fault of the service
        if window.healed_ns is not None and window.covers(row.group, row.variant, row.seen.hi_ns):
            start = max(start, window.healed_ns)
    ended = stopped.get((row.variant, row.stream)) if row.first_new is None else None
    gave_up_ms = sum(row.waits_ns) / _NS_PER_MS if row.first_new is None and row.waits_ns else None
    return Episode(
        label=f"stream {row.stream}, break {row.number}",
        connected_ms=None if row.connected is None else max((row.connected.ns - start) / _NS_PER_MS, 0.0),
        back_ms=None if row.first_new is None else max((row.first_new.ns - start) / _NS_PER_MS, 0.0),
        gave_up_ms=gave_up_ms if ended is None else max((ended - start) / _NS_PER_MS, 0.0),
        censored=ended is not None,
    )


# --- evidence -----------------------------------------------------------------------------------------------------------


def _marks(record: Record) -> list[Block]:
    """Outside events, with the streams that they found open: what follows can then be looked for in the charts above."""
    marks = record.verdict.marks
    if not marks:
        return []
    rows = [
        [
            f"{record.seconds(each.at_ns):.1f} s",
            printable(each.text, limit=2_000),
            printable(each.source) or NOT_MEASURED,
            f"{_open_at(record, each.at_ns):,}",
        ]
        for each in marks[:_MOST_ROWS]
    ]
    return [
        Subheading(text="Marked, from outside"),
        Grid(
            caption="Somebody told the run of these; they change no verdict. Open: streams that lived in that moment.",
            table=Table(columns=["time", "what happened", "who says so", "open"], rows=rows, text_columns=3),
        ),
    ]


def _open_at(record: Record, at_ns: int) -> int:
    return sum(each.record.dispatched.ns <= at_ns <= each.record.ended.ns for each in record.facts)


def _evidence(record: Record) -> list[Block]:
    if not record.verdict.faults:
        return []
    acted = sum(1 for each in record.verdict.faults if each.acted)
    words = {
        True: "✓\N{NO-BREAK SPACE}acted",
        False: "✕\N{NO-BREAK SPACE}no effect",
        None: "?\N{NO-BREAK SPACE}not known",
    }
    several = record.several
    rows = [
        [
            short(each.kind),
            short(each.group),
            *([variant_text(each.variant) or NOT_MEASURED] if several else []),
            "!\N{NO-BREAK SPACE}our failure" if each.failed else words[each.acted],
            printable(each.sentence),
        ]
        for each in record.verdict.faults[:200]
    ]
    columns = ["fault", "group", *(["variant"] if several else []), "acted", "what shows it"]
    return [
        Subheading(text=f"{acted} of {len(record.verdict.faults)} faults are known to have acted"),
        Grid(
            caption="A claim about a fault that did not act is unknown, never a pass.",
            table=Table(columns=columns, rows=rows, text_columns=len(columns)),
        ),
    ]
