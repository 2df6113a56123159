"""A run as OpenMetrics text: what its streams measured, how they ended, which faults acted, what was decided.

There are two of them: the file of a run that is over, and what a run answers while it lasts. The same fold counts both, so a
name means the same in either. While it lasts there is no verdict yet, nobody has asked a witness, and nobody has looked whose
streams our own healing ended: outcomes are there what the client saw.

Rules (measurement.md 6):
- Base units, the unit last in the name, counters in `_total`; no stream ids among the labels.
- Buckets include 0.5 and 1 s. What never came is an observation above every bucket (design.md decision 10), and adds
  nothing to the sum.
- Every sample of the file carries the time of the run, so that the file can be taken into a Prometheus as what happened then
  (`promtool tsdb create-blocks-from openmetrics`); faults have a sample at each of their changes.
- Latencies are the nominal ones, between the middles of their brackets: verdicts are decided from the rows at both ends,
  never from these.
"""

import itertools
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sseproof.reports.checks import fault_windows
from sseproof.reports.facts import Facts, History
from sseproof.rundir.rows import (
    SUCCESSES,
    BreakRow,
    BrowserRow,
    FaultRow,
    GeneratorRow,
    Instant,
    Outcome,
    Plan,
    StartRow,
    StreamRecord,
)
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.judge import RigRow, RunVerdict

BUCKETS_S: Final = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    3.0,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
)
ANSWERS: Final = ("pass", "fail", "unknown")
GENERATOR_ROWS_KEPT: Final = 3_600
"""Seconds of all workers together that a run which lasts is judged by: a scrape must not take longer the longer it lasts."""
_BUCKETS_NS: Final = [round(seconds * 1e9) for seconds in BUCKETS_S]
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000

_UNITS: Final = ("seconds", "bytes", "ratio")
_FAULT_ACTIVE: Final = "How many faults of the kind act on the group."

_Labels = tuple[tuple[str, str], ...]


class _Histogram:
    """Counts in buckets with upper edges in ns; the last one has none."""

    def __init__(self, edges_ns: Sequence[int]) -> None:
        self.edges_ns = edges_ns
        self.counts = [0] * (len(edges_ns) + 1)
        self.sum_ns = 0

    def add(self, ns: int | None) -> None:
        """One value; None never came."""
        if ns is None:
            self.counts[-1] += 1
            return
        self.counts[bisect_left(self.edges_ns, ns)] += 1
        self.sum_ns += max(ns, 0)

    def add_counts(self, counts: Sequence[int], sum_ns: int) -> None:
        for at, count in enumerate(counts[: len(self.counts)]):
            self.counts[at] += count
        self.sum_ns += sum_ns


class _Writer:
    """Lines of families, all at the run's end unless they say another time; without one whoever scrapes knows the time."""

    def __init__(self, ended_ns: int | None, began_ns: int) -> None:
        self.lines: list[str] = []
        self._at = "" if ended_ns is None else f" {_seconds(ended_ns)}"
        self._created = f" {_seconds(began_ns)}"

    def family(self, name: str, kind: str, text: str) -> None:
        self.lines.append(f"# TYPE {name} {kind}")
        if (unit := name.rpartition("_")[2]) in _UNITS:
            self.lines.append(f"# UNIT {name} {unit}")
        self.lines.append(f"# HELP {name} {_escaped(text)}")

    def sample(self, name: str, labels: _Labels, value: object, at_ns: int | None = None) -> None:
        at = self._at if at_ns is None else f" {_seconds(at_ns)}"
        self.lines.append(f"{name}{_labels_text(labels)} {value}{at}")

    def counters(self, name: str, text: str, counts: Mapping[_Labels, int]) -> None:
        if counts:
            self.family(name, "counter", text)
        for labels, count in sorted(counts.items()):
            self.sample(f"{name}_total", labels, count)
            self.sample(f"{name}_created", labels, self._created.strip())

    def gauges(self, name: str, text: str, values: Iterable[tuple[_Labels, object]]) -> None:
        told = list(values)
        if told:
            self.family(name, "gauge", text)
        for labels, value in told:
            self.sample(name, labels, value)

    def histograms(self, name: str, text: str, found: Mapping[_Labels, _Histogram]) -> None:
        if found:
            self.family(name, "histogram", text)
        for labels, histogram in sorted(found.items(), key=lambda item: item[0]):
            edges = [*(repr(ns / _NS_PER_S) for ns in histogram.edges_ns), "+Inf"]
            for edge, reached in zip(edges, itertools.accumulate(histogram.counts), strict=True):
                self.sample(f"{name}_bucket", (*labels, ("le", edge)), reached)
            self.sample(f"{name}_count", labels, sum(histogram.counts))
            self.sample(f"{name}_sum", labels, histogram.sum_ns / _NS_PER_S)
            self.sample(f"{name}_created", labels, self._created.strip())

    def whole(self) -> bytes:
        """The text, as UTF-8; ends with `# EOF`."""
        return ("\n".join([*self.lines, "# EOF"]) + "\n").encode()


class StreamFigures:
    """What streams came to, folded row by row; those of the warm-up are left out."""

    def __init__(self, plan: Plan) -> None:
        self._started: Counter[_Labels] = Counter()
        self._outcomes: Counter[_Labels] = Counter()
        self._ends: Counter[_Labels] = Counter()
        self._events: Counter[_Labels] = Counter()
        self._defects: Counter[_Labels] = Counter()
        self._breaks: Counter[_Labels] = Counter()
        self._reconnections: Counter[_Labels] = Counter()
        self._first_event, self._first_token, self._planned, self._lag, self._whole, self._back = (
            _by_place() for _ in range(6)
        )
        self._gaps: dict[_Labels, _Histogram] = defaultdict(lambda: _Histogram(plan.gap_edges_ns))

    def start(self, row: StartRow) -> None:
        """A stream that was started, or that should have been and was not."""
        if row.warmup:
            return
        if row.dropped:
            self.without_end(row, "dropped")
        else:
            self._started[_place(row)] += 1

    def without_end(self, row: StartRow, outcome: Outcome) -> None:
        """A start that no stream came of, or whose stream has no end."""
        self._outcomes[*_place(row), ("outcome", outcome)] += 1

    def end(self, record: StreamRecord, outcome: Outcome) -> None:
        """A stream that ended."""
        if record.warmup:
            return
        place = _place(record)
        self._outcomes[(*place, ("outcome", outcome))] += 1
        self._events[place] += record.events
        for attempt in record.attempts:
            self._ends[(*place, ("end", attempt.end))] += 1
        for kind, count in record.defects.items():
            self._defects[(("defect", kind), *place)] += count
        self._first_event[place].add(_between(record.sent, record.first_event))
        self._first_token[place].add(_between(record.sent, record.first_token))
        if outcome != "held":  # an open subscription has no end to be timed
            self._whole[place].add(_between(record.sent, record.last_event if outcome in SUCCESSES else None))
        if record.intended is not None:
            self._planned[place].add(_between(record.intended, record.first_token))
            self._lag[place].add(_between(record.intended, record.dispatched))
        if record.gaps is not None and record.gaps.count:
            self._gaps[place].add_counts(record.gaps.hi, record.gaps.sum_ns)

    def broke(self, row: BreakRow) -> None:
        """A break that is over; one of the warm-up is the caller's to leave out."""
        place = _place(row)
        self._breaks[(*place, ("end", row.end))] += 1
        self._reconnections[place] += row.attempts
        self._back[place].add(_between(row.seen, row.first_new))

    def write(self, writer: _Writer) -> None:
        """All families that have a sample."""
        for name, text, counts in (
            ("sse_streams_started", "Logical streams started, warm-up left out.", self._started),
            ("sse_streams", "Logical streams by how they ended, warm-up left out.", self._outcomes),
            ("sse_attempts", "Connections by how they ended.", self._ends),
            ("sse_breaks", "Disconnects by what the client saw.", self._breaks),
            ("sse_reconnections", "Further connections made after a break.", self._reconnections),
            ("sse_events", "Events received, doubled ones and heartbeats included.", self._events),
            ("sse_defects", "Places with wrong bytes, by their kind.", self._defects),
        ):
            writer.counters(name, text, counts)
        never = "What never came counts above every bucket and adds nothing to the sum."
        for name, text, found in (
            ("sse_time_to_first_event_seconds", f"From sending the request. {never}", self._first_event),
            ("sse_time_to_first_token_seconds", f"From sending the request. {never}", self._first_token),
            (
                "sse_time_to_first_token_from_plan_seconds",
                f"From the planned start of an open loop. {never}",
                self._planned,
            ),
            (
                "sse_end_to_end_seconds",
                f"From sending the request to the last event of a good stream. {never}",
                self._whole,
            ),
            ("sse_inter_event_gap_seconds", "At the unfavourable end of each gap's bracket.", self._gaps),
            ("sse_reconnect_seconds", f"From a break to the first new event. {never}", self._back),
            (
                "sse_generator_dispatch_lag_seconds",
                "How late the streams of an open loop were started.",
                self._lag,
            ),
        ):
            writer.histograms(name, text, found)

    def open_streams(self) -> Iterable[tuple[_Labels, object]]:
        """Started and not ended, of each place that has started any."""
        ended: Counter[_Labels] = Counter()
        for labels, count in self._outcomes.items():
            if labels[-1] != ("outcome", "dropped"):
                ended[labels[:-1]] += count
        return [(place, count - ended[place]) for place, count in sorted(self._started.items())]


def openmetrics_text(history: History, facts: Sequence[Facts], verdict: "RunVerdict") -> bytes:
    """The file, as UTF-8; ends with `# EOF`."""
    began_ns = verdict.load_began_ns if verdict.started_ns is None else verdict.started_ns
    last_ns = max((record.ended.ns for record in history.streams), default=began_ns)
    writer = _Writer(max(last_ns, verdict.ended_ns or 0), began_ns)
    _run(writer, how=verdict.how, run=verdict.run, scenario=verdict.scenario, seed=verdict.seed)
    _verdicts(writer, verdict)
    _file_figures(history, facts).write(writer)
    _faults(writer, history, began_ns)
    _generator(writer, verdict.rig)
    _browsers(writer, history.plan, history.browsers)
    return writer.whole()


def _file_figures(history: History, facts: Sequence[Facts]) -> StreamFigures:
    figures = StreamFigures(history.plan)
    for each in facts:
        record = each.record
        figures.start(StartRow(stream=record.stream, group=record.group, variant=record.variant))
        figures.end(record, each.outcome)
    for start in history.unfinished:
        if start.dispatched is not None:
            figures.start(start)
        figures.without_end(start, "unfinished")
    for start in history.dropped:
        figures.without_end(start, "dropped")
    for row in history.breaks:
        figures.broke(row)
    return figures


_OF_A_SECOND: Final[tuple[tuple[str, str, Callable[[GeneratorRow], float | None]], ...]] = (
    (
        "sse_generator_open_streams",
        "Streams that a worker has open, warm-up included.",
        lambda row: row.open_streams,
    ),
    ("sse_generator_cpu_ratio", "Of one core, in the newest second.", lambda row: row.cpu_share),
    (
        "sse_generator_run_queue_ratio",
        "Part of the newest second in which a worker was ready to run and had no core.",
        lambda row: row.run_queue_share,
    ),
    (
        "sse_generator_read_lag_seconds",
        "From a byte's arrival in the kernel until it was read: the 99th percentile of the newest second.",
        lambda row: _in_seconds(row.read_lag_p99_ns),
    ),
    (
        "sse_generator_loop_lag_seconds",
        "How late a timer of 10 ms fired, at most, in the newest second.",
        lambda row: _in_seconds(row.loop_lag_max_ns),
    ),
    ("sse_generator_resident_memory_bytes", "Memory of a worker.", lambda row: row.rss_bytes),
)
"""What one row of a worker says, under which name."""


class Generators:
    """What the generators said of themselves: the newest second of each, and the indicators over those kept."""

    def __init__(self, kept: int = GENERATOR_ROWS_KEPT) -> None:
        self.rows: deque[GeneratorRow] = deque(maxlen=kept)
        self._newest: dict[_Labels, GeneratorRow] = {}
        self._events: Counter[_Labels] = Counter()

    def add(self, row: GeneratorRow) -> None:
        """One second of one worker."""
        labels = _some(variant=row.variant, worker=str(row.worker))
        self.rows.append(row)
        self._newest[labels] = row
        self._events[labels] += row.events

    def write(self, writer: _Writer) -> None:
        """The families of single workers."""
        newest = sorted(self._newest.items())
        for name, text, of_row in _OF_A_SECOND:
            told = [(labels, value) for labels, row in newest if (value := of_row(row)) is not None]
            writer.gauges(name, text, told)
        writer.counters(
            "sse_generator_events", "Events as they are received, warm-up included.", self._events
        )


def _browsers(writer: _Writer, plan: Plan, rows: Iterable[BrowserRow]) -> None:
    """How browsers drew their pages; what a browser does not tell has no sample."""
    clients = {each.name: each.browser for each in plan.variants if each.browser is not None}
    told = [
        (_some(browser=client.name, client=client.client, variant=row.variant), row)
        for row in rows
        if (client := clients.get(row.variant)) is not None
    ]
    if told:
        writer.family("sse_browser_frame_gap_seconds", "summary", "Between two frames of a page.")
    for labels, row in told:
        for quantile, gap_ns in (
            ("0.5", row.frame_gap_p50_ns),
            ("0.95", row.frame_gap_p95_ns),
            ("1.0", row.frame_gap_max_ns),
        ):
            if gap_ns is not None:
                writer.sample(
                    "sse_browser_frame_gap_seconds", (*labels, ("quantile", quantile)), gap_ns / _NS_PER_S
                )
        writer.sample("sse_browser_frame_gap_seconds_count", labels, row.frames)
        writer.sample("sse_browser_frame_gap_seconds_sum", labels, row.length_ns / _NS_PER_S)
    for name, text, values in (
        (
            "sse_browser_long_tasks",
            "Times that a page's code kept it busy for more than 50 ms.",
            [(labels, row.long_tasks) for labels, row in told],
        ),
        (
            "sse_browser_long_task_seconds",
            "Their length together.",
            [(labels, _in_seconds(row.long_tasks_ns)) for labels, row in told],
        ),
        (
            "sse_browser_timer_lag_seconds",
            "How late a timer of 10 ms fired, at most: as long the page's code could not run.",
            [(labels, row.timer_lag_max_ns / _NS_PER_S) for labels, row in told],
        ),
        (
            "sse_browser_hidden",
            "Whether the page was out of sight at some time, so that its drawing says nothing.",
            [(labels, int(row.hidden)) for labels, row in told],
        ),
    ):
        writer.gauges(name, text, [(labels, value) for labels, value in values if value is not None])


def live_text(
    plan: Plan,
    figures: StreamFigures,
    faults: Sequence[FaultRow],
    *,
    how: str,
    planned_faults: Iterable[tuple[str, str, str | None]] = (),
    generators: Generators | None = None,
    browsers: Iterable[BrowserRow] = (),
    rig: "Sequence[RigRow]" = (),
) -> bytes:
    """What a run answers now; `planned_faults` are group, kind and variant of all that will come or came.

    The samples have no time: whoever scrapes knows it.
    """
    writer = _Writer(None, plan.created_ns)
    _run(writer, how=how, run=plan.run, scenario=plan.scenario, seed=plan.seed)
    writer.gauges("sse_streams_open", "Logical streams started and not ended.", figures.open_streams())
    figures.write(writer)
    active: Counter[_Labels] = Counter()
    for group, kind, variant in planned_faults:
        active[_some(group=group, toxic=kind, variant=variant)] = 0
    for window in fault_windows(faults):
        labels = _some(group=window.group, toxic=window.kind, variant=window.variant)
        active[labels] += window.healed_ns is None
    writer.gauges("sse_fault_active", _FAULT_ACTIVE, sorted(active.items()))
    if generators is not None:
        generators.write(writer)
    _generator(writer, rig)
    _browsers(writer, plan, browsers)
    return writer.whole()


def _run(writer: _Writer, *, how: str, run: str, scenario: str, seed: int) -> None:
    writer.family("sse_run", "info", "The run that all of this was measured in.")
    labels = (("how", how), ("run", run), ("scenario", scenario), ("seed", str(seed)))
    writer.sample("sse_run_info", labels, 1)


def _verdicts(writer: _Writer, verdict: "RunVerdict") -> None:
    writer.gauges(
        "sse_run_exit_code",
        "That of the verdicts: 0 all hold, 1 one fails, 2 none fails and one is unknown.",
        [((), verdict.exit_code)],
    )
    named: dict[_Labels, int] = {}
    told = []
    for each in verdict.verdicts:
        labels = _some(claim=each.claim, variant=each.variant)
        number = named[labels] = named.get(labels, 0) + 1
        again = (("number", str(number)),) if number > 1 else ()
        told.append((each, (*labels, ("counts", "yes" if each.counts else "no"), *again)))
    if told:
        writer.family("sse_claim_verdict", "stateset", "What each claim came to.")
    for each, labels in told:
        for answer in ANSWERS:
            state = (*labels, ("sse_claim_verdict", answer))
            writer.sample("sse_claim_verdict", state, int(each.verdict == answer))
    writer.gauges(
        "sse_claim_units", "Units that a claim counted.", [(labels, each.n) for each, labels in told]
    )
    writer.gauges(
        "sse_claim_good_units",
        "Good ones among them, at the unfavourable end of every bracket.",
        [(labels, each.k) for each, labels in told],
    )


def _faults(writer: _Writer, history: History, began_ns: int) -> None:
    changes: dict[_Labels, list[tuple[int, int]]] = defaultdict(list)
    for window in fault_windows(history.faults):
        labels = _some(group=window.group, toxic=window.kind, variant=window.variant)
        changes[labels].append((window.since_ns, 1))
        if window.healed_ns is not None:
            changes[labels].append((window.healed_ns, -1))
    if changes:
        writer.family("sse_fault_active", "gauge", _FAULT_ACTIVE)
    for labels, steps in sorted(changes.items()):
        active: dict[int, int] = {}
        level = 0
        for at_ns, step in sorted(steps):
            level += step
            active[max(at_ns, began_ns) // _NS_PER_MS] = level  # a reader wants times that rise
        for at_ms, value in active.items():
            writer.sample("sse_fault_active", labels, value, at_ms * _NS_PER_MS)


def _generator(writer: _Writer, rig: "Sequence[RigRow]") -> None:
    held = [row for row in rig if row.within is not None]
    writer.gauges(
        "sse_generator_within_limit",
        "Whether an indicator of the load generator stayed within its usual limit.",
        [((("indicator", row.indicator),), int(row.within is True)) for row in held],
    )


def _by_place() -> dict[_Labels, _Histogram]:
    return defaultdict(lambda: _Histogram(_BUCKETS_NS))


def _between(start: Instant | None, end: Instant | None) -> int | None:
    return None if start is None or end is None else max(end.ns - start.ns, 0)


def _in_seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_S


def _place(row: StreamRecord | BreakRow | StartRow) -> _Labels:
    return _some(group=row.group, variant=row.variant)


def _some(**labels: str | None) -> _Labels:
    """The labels that have a value, in the order of their names."""
    return tuple((name, value) for name, value in sorted(labels.items()) if value is not None)


def _labels_text(labels: _Labels) -> str:
    told = (f'{name}="{_escaped(printable(value), quote=True)}"' for name, value in labels)
    return f"{{{','.join(told)}}}" if labels else ""


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text


def _seconds(ns: int) -> str:
    return f"{ns // _NS_PER_S}.{ns // _NS_PER_MS % 1_000:03d}"
