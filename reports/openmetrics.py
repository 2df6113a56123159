"""A run as OpenMetrics text: what its streams measured, how they ended, which faults acted, what was decided.

Rules (measurement.md 6):
- Base units, the unit last in the name, counters in `_total`; no stream ids among the labels.
- Buckets include 0.5 and 1 s. What never came is an observation above every bucket (design.md decision 10), and adds
  nothing to the sum.
- Every sample carries the time of the run, so that the file can be taken into a Prometheus as what happened then
  (`promtool tsdb create-blocks-from openmetrics`); faults have a sample at each of their changes.
- Latencies are the nominal ones, between the middles of their brackets: verdicts are decided from the rows at both ends,
  never from these.
"""

import itertools
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sseproof.reports.checks import fault_windows
from sseproof.reports.facts import Facts, History
from sseproof.rundir.rows import BreakRow, Instant, StreamRecord
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.judge import RunVerdict

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
_BUCKETS_NS: Final = [round(seconds * 1e9) for seconds in BUCKETS_S]
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000

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
    """Lines of families, all at the run's end unless they say another time."""

    def __init__(self, ended_ns: int, began_ns: int) -> None:
        self.lines: list[str] = []
        self._at = f" {_seconds(ended_ns)}"
        self._created = f" {_seconds(began_ns)}"

    def family(self, name: str, kind: str, text: str) -> None:
        self.lines.append(f"# TYPE {name} {kind}")
        if name.endswith("_seconds"):
            self.lines.append(f"# UNIT {name} seconds")
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


def openmetrics_text(history: History, facts: Sequence[Facts], verdict: "RunVerdict") -> bytes:
    """The file, as UTF-8; ends with `# EOF`."""
    began_ns = verdict.load_began_ns if verdict.started_ns is None else verdict.started_ns
    last_ns = max((record.ended.ns for record in history.streams), default=began_ns)
    writer = _Writer(max(last_ns, verdict.ended_ns or 0), began_ns)
    _run(writer, verdict)
    _verdicts(writer, verdict)
    _counts(writer, history, facts)
    _latencies(writer, history, facts)
    _faults(writer, history, began_ns)
    _generator(writer, verdict)
    return ("\n".join([*writer.lines, "# EOF"]) + "\n").encode()


def _run(writer: _Writer, verdict: "RunVerdict") -> None:
    writer.family("sse_run", "info", "The run that all of this was measured in.")
    labels = (
        ("how", verdict.how),
        ("run", verdict.run),
        ("scenario", verdict.scenario),
        ("seed", str(verdict.seed)),
    )
    writer.sample("sse_run_info", labels, 1)
    writer.gauges(
        "sse_run_exit_code",
        "That of the verdicts: 0 all hold, 1 one fails, 2 none fails and one is unknown.",
        [((), verdict.exit_code)],
    )


def _verdicts(writer: _Writer, verdict: "RunVerdict") -> None:
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


def _counts(writer: _Writer, history: History, facts: Sequence[Facts]) -> None:
    streams: Counter[_Labels] = Counter()
    ends: Counter[_Labels] = Counter()
    events: Counter[_Labels] = Counter()
    breaks: Counter[_Labels] = Counter()
    for each in facts:
        record = each.record
        place = _place(record)
        streams[(*place, ("outcome", each.outcome))] += 1
        events[place] += record.events
        for attempt in record.attempts:
            ends[(*place, ("end", attempt.end))] += 1
    for outcome, starts in (("unfinished", history.unfinished), ("dropped", history.dropped)):
        for start in starts:
            streams[*_some(group=start.group, variant=start.variant), ("outcome", outcome)] += 1
    for row in history.breaks:
        breaks[(*_place(row), ("end", row.end))] += 1
    writer.counters("sse_streams", "Logical streams by how they ended, warm-up left out.", streams)
    writer.counters("sse_attempts", "Connections by how they ended.", ends)
    writer.counters("sse_breaks", "Disconnects by what the client saw.", breaks)
    writer.counters("sse_events", "Events received, doubled ones and heartbeats included.", events)


def _latencies(writer: _Writer, history: History, facts: Sequence[Facts]) -> None:
    first_event, first_token, planned, lag, whole, back = (_by_place() for _ in range(6))
    gaps: dict[_Labels, _Histogram] = defaultdict(lambda: _Histogram(history.plan.gap_edges_ns))
    for each in facts:
        record = each.record
        place = _place(record)
        first_event[place].add(_between(record.sent, record.first_event))
        first_token[place].add(_between(record.sent, record.first_token))
        if each.outcome != "held":  # an open subscription has no end to be timed
            whole[place].add(_between(record.sent, record.last_event if each.good else None))
        if record.intended is not None:
            planned[place].add(_between(record.intended, record.first_token))
            lag[place].add(_between(record.intended, record.dispatched))
        if record.gaps is not None and record.gaps.count:
            gaps[place].add_counts(record.gaps.hi, record.gaps.sum_ns)
    for row in history.breaks:
        back[_place(row)].add(_between(row.seen, row.first_new))
    never = "What never came counts above every bucket and adds nothing to the sum."
    for name, text, found in (
        ("sse_time_to_first_event_seconds", f"From sending the request. {never}", first_event),
        ("sse_time_to_first_token_seconds", f"From sending the request. {never}", first_token),
        (
            "sse_time_to_first_token_from_plan_seconds",
            f"From the planned start of an open loop. {never}",
            planned,
        ),
        (
            "sse_end_to_end_seconds",
            f"From sending the request to the last event of a good stream. {never}",
            whole,
        ),
        ("sse_inter_event_gap_seconds", "At the unfavourable end of each gap's bracket.", gaps),
        ("sse_reconnect_seconds", f"From a break to the first new event. {never}", back),
        ("sse_generator_dispatch_lag_seconds", "How late the streams of an open loop were started.", lag),
    ):
        writer.histograms(name, text, found)


def _faults(writer: _Writer, history: History, began_ns: int) -> None:
    changes: dict[_Labels, list[tuple[int, int]]] = defaultdict(list)
    for window in fault_windows(history.faults):
        labels = _some(group=window.group, toxic=window.kind, variant=window.variant)
        changes[labels].append((window.since_ns, 1))
        if window.healed_ns is not None:
            changes[labels].append((window.healed_ns, -1))
    if changes:
        writer.family("sse_fault_active", "gauge", "How many faults of the kind act, at each change.")
    for labels, steps in sorted(changes.items()):
        active: dict[int, int] = {}
        level = 0
        for at_ns, step in sorted(steps):
            level += step
            active[max(at_ns, began_ns) // _NS_PER_MS] = level  # a reader wants times that rise
        for at_ms, value in active.items():
            writer.sample("sse_fault_active", labels, value, at_ms * _NS_PER_MS)


def _generator(writer: _Writer, verdict: "RunVerdict") -> None:
    held = [row for row in verdict.rig if row.within is not None]
    writer.gauges(
        "sse_generator_within_limit",
        "Whether an indicator of the load generator stayed within its usual limit.",
        [((("indicator", row.indicator),), int(row.within is True)) for row in held],
    )


def _by_place() -> dict[_Labels, _Histogram]:
    return defaultdict(lambda: _Histogram(_BUCKETS_NS))


def _between(start: Instant | None, end: Instant | None) -> int | None:
    return None if start is None or end is None else max(end.ns - start.ns, 0)


def _place(row: StreamRecord | BreakRow) -> _Labels:
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
