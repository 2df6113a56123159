"""The record of a run as the sections look at it: rows, facts and verdict, the run's own time, and its faults."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.heat import Heat
from sseproof.reports.charts.overtime import Band
from sseproof.reports.charts.svg import short
from sseproof.reports.checks import FaultWindow, fault_windows
from sseproof.reports.facts import Facts, History, load_began_ns
from sseproof.reports.judge import RunVerdict
from sseproof.reports.phases import has_quantile, quantile_ns
from sseproof.reports.words import NOT_MEASURED, duration_text, share_text
from sseproof.rundir.rows import BreakRow, StreamRecord
from sseproof.rundir.text import printable

_NS_PER_S: Final = 1e9
_APART_S: Final = 0.5
_APART: Final = 0.02
"""Of the run's length, where that is more."""
_MOST_MARKS: Final = 100
_MOST_LIMITS: Final = 3
"""Lines of claims in one chart."""


class Record(Struct, kw_only=True):
    """Everything the sections may look at."""

    history: History
    facts: list[Facts]
    verdict: RunVerdict
    origin_ns: int
    """0 s of the run: when its first stream started."""
    length_s: float
    windows: list[FaultWindow]
    paths: dict[tuple[str | None, str | None], list[FaultWindow]] = {}
    """The windows of a group and variant, by their begin, as they are asked for."""
    calls: dict[tuple[object, ...], list[int]] = {}
    """Of each call that applied or healed a fault, the other end: by its path, its step and the end that a window has."""

    breaks: dict[tuple[str | None, int], list[BreakRow]] = {}
    """By variant and stream, in their order."""
    heats: list[Heat] = []
    """Gaps by second and length, one a variant; empty where the series are not on record."""
    heat_problem: str = ""

    def breaks_of(self, row: StreamRecord) -> list[BreakRow]:
        """The breaks of one stream."""
        return self.breaks.get((row.variant, row.stream), [])

    @property
    def variants(self) -> list[str | None]:
        """Their names in the order of the plan; one None for a run without."""
        return [variant.name for variant in self.history.plan.variants] or [None]

    @property
    def judged(self) -> str | None:
        """The variant that the decision is about: the last one marked so."""
        judged = [variant.name for variant in self.history.plan.variants if variant.judged]
        return (judged or self.variants)[-1]

    @property
    def several(self) -> bool:
        """Whether variants stand side by side."""
        return len(self.variants) > 1

    def of(self, variant: str | None) -> list[Facts]:
        """The finished streams of one variant."""
        return [each for each in self.facts if each.record.variant == variant]

    def seconds(self, ns: int) -> float:
        """An instant as seconds of the run."""
        return (ns - self.origin_ns) / _NS_PER_S

    def bands(self, *variants: str | None) -> list[Band]:
        """The faults of these variants (of all without a name) as bands of a time axis.

        Where variants stand side by side, the same fault at the same time in several of them is one band.
        """
        bands: list[Band] = []
        for window in self.windows:
            if variants and window.variant is not None and window.variant not in variants:
                continue
            band = Band(
                name=window_name(window, several=False),
                since_s=max(self.seconds(window.since_ns), 0.0),
                until_s=None if window.healed_ns is None else max(self.seconds(window.healed_ns), 0.0),
                brackets=self._brackets(window),
            )
            if not any(_same(band, other, self.length_s) for other in bands):
                bands.append(band)
        marks = [
            Band(name="marked", since_s=at, until_s=at, mark=True)
            for each in self.verdict.marks[:_MOST_MARKS]
            if 0.0 <= (at := self.seconds(each.at_ns)) <= self.length_s
        ]
        return self._phases() + bands + marks

    def _phases(self) -> list[Band]:
        """The parts of the run as planned, which are the same in all variants."""
        planned = next((each.phases for each in self.verdict.variants if each.phases), [])
        return [
            Band(
                name=printable(phase.name, 60),
                since_s=phase.start_ms / 1e3,
                until_s=None if phase.end_ms is None else phase.end_ms / 1e3,
                phase=True,
            )
            for phase in planned
            if phase.start_ms / 1e3 < self.length_s
        ]

    def _brackets(self, window: FaultWindow) -> tuple[tuple[float, float], ...]:
        """Between which instants this window was applied and healed, in seconds of the run."""
        path = (window.kind, window.group, window.variant)
        calls = [
            *(
                (window.since_ns, answered)
                for answered in self.calls.get((*path, "applied", window.since_ns), [])
            ),
            *(
                (sent, window.healed_ns or 0)
                for sent in self.calls.get((*path, "healed", window.healed_ns), [])
            ),
        ]
        return tuple(
            (max(self.seconds(sent), 0.0), max(self.seconds(answered), 0.0)) for sent, answered in calls
        )

    def active(self, row: StreamRecord) -> list[FaultWindow]:
        """The faults that acted on this stream's path while it was open."""
        path = (row.group, row.variant)
        if path not in self.paths:
            self.paths[path] = [
                window
                for window in self.windows
                if window.group in {None, path[0]} and window.variant in {None, path[1]}
            ]
        found = []
        for window in self.paths[path]:
            if window.since_ns > row.ended.hi_ns:
                break
            if window.healed_ns is None or row.dispatched.lo_ns <= window.healed_ns:
                found.append(window)
        return found


def new_record(history: History, facts: list[Facts], verdict: RunVerdict) -> Record:
    """The record with its time axis."""
    origin = load_began_ns(history)
    ends = [each.record.ended.ns for each in facts] + [row.at_ns for row in history.generator]
    if history.run is not None and history.run.ended_ns is not None and not ends:
        ends = [history.run.ended_ns]
    length = max((end - origin) / _NS_PER_S for end in ends) if ends else 0.0
    windows = sorted(
        fault_windows(history.faults),
        key=lambda each: (each.since_ns, each.kind, each.group or "", each.variant or ""),
    )
    return Record(
        history=history,
        facts=facts,
        verdict=verdict,
        origin_ns=origin,
        length_s=max(length, 0.001),
        windows=windows,
        calls=_calls(history),
        breaks=_breaks(history),
    )


def _breaks(history: History) -> dict[tuple[str | None, int], list[BreakRow]]:
    found: dict[tuple[str | None, int], list[BreakRow]] = {}
    for row in sorted(history.breaks, key=lambda each: each.number):
        found.setdefault((row.variant, row.stream), []).append(row)
    return found


def _calls(history: History) -> dict[tuple[object, ...], list[int]]:
    calls: dict[tuple[object, ...], list[int]] = {}
    for row in history.faults:
        sent, answered = row.call_sent_ns, row.call_answered_ns
        if sent is None or answered is None or row.step not in {"applied", "healed"}:
            continue
        known, other = (sent, answered) if row.step == "applied" else (answered, sent)
        calls.setdefault((row.kind, row.group, row.variant, row.step, known), []).append(other)
    return calls


def _same(one: Band, other: Band, length_s: float) -> bool:
    """Two bands that a reader of a time axis can't tell apart: variants heal one after the other."""
    ends = [length_s if band.until_s is None else band.until_s for band in (one, other)]
    near = max(_APART_S, _APART * length_s)
    return (
        one.name == other.name
        and abs(one.since_s - other.since_s) < near
        and (abs(ends[0] - ends[1]) < near or min(ends) > length_s - near)
    )


def window_name(window: FaultWindow, *, several: bool) -> str:
    """A fault as a reader calls it: its kind, where it acted, and in which variant."""
    name = short(window.kind) or "fault"
    if window.group is not None and window.group != window.kind:
        name += f" in {short(window.group)}"
    if several and window.variant is not None:
        name += f" ({short(window.variant)})"
    return name


def limits(record: Record, metric: str) -> list[int]:
    """The limits that claims set for this metric, in ns, each once."""
    found = {
        verdict.limit_ns
        for verdict in record.verdict.verdicts
        if verdict.metric == metric and verdict.limit_ns is not None
    }
    return sorted(found)[:_MOST_LIMITS]


def ttft_reading(record: Record) -> str:
    """Where TTFT counts from in this run."""
    return "from plan" if any(each.record.intended is not None for each in record.facts) else "from send"


def quantile_text(values: Sequence[int | None], q: float) -> str:
    """The observed quantile as text; a dash where so few values have none."""
    if not has_quantile(len(values), q):
        return NOT_MEASURED
    return duration_text(quantile_ns(values, q))


def of_text(good: int, all_: int) -> str:
    """405 of 412 (98.3 %); a dash of nothing."""
    return f"{good:,} of {all_:,} ({share_text(good / all_)})" if all_ else NOT_MEASURED


def moment_text(ns: int | None) -> str:
    """A moment in UTC, to the second."""
    if ns is None:
        return NOT_MEASURED
    try:
        at = dt.datetime.fromtimestamp(ns / _NS_PER_S, tz=dt.UTC)
    except (ValueError, OverflowError, OSError):  # a damaged document
        return NOT_MEASURED
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def variant_text(variant: str | None) -> str:
    """A variant's name, empty for a run without."""
    return "" if variant is None else short(variant)
