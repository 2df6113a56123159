"""`sseproof runs`: what the commands that list, follow, keep and prune runs answer, apart from the command line itself.

Rules:
- Of at most 80 columns, but for a folder's own line, so that it can be copied; the same in a terminal, a pipe and a log.
- A trend goes from the oldest run to the newest, in the variant that sets the exit code. Its bars span what was seen, so
  the lowest and the highest stand beside them; what was not measured is a dot, and a time that never came a cross.
"""

import contextlib
import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, Literal

from msgspec import Struct

from sseproof.kept import (
    KeptRun,
    Pruned,
    Reading,
    State,
    chosen,
    keep,
    kept_runs,
    newest_first,
    prune,
    read_kept,
)
from sseproof.reports.words import NOT_MEASURED, count_of, duration_text, share_text
from sseproof.rundir.errors import UsageError
from sseproof.rundir.text import printable

SHOWN: Final = 20
TREND_RUNS: Final = 40
_BARS: Final = "▁▂▃▄▅▆▇█"
_MARKS: Final = {"pass": "✓", "fail": "✕", "unknown": "?"}
_SCENARIO_CELLS: Final = 22
_LONGEST_LABELS_CHARS: Final = 300


class Listed(Struct, kw_only=True):
    """The answer of `sseproof runs`."""

    folder: str
    runs: list[KeptRun]
    """The newest first."""

    def to_text(self, most: int = SHOWN) -> str:
        """What a person reads: the newest `most` runs."""
        from sseproof.reports.summary import wrapped

        if not self.runs:
            return f"No run in {self.folder}."
        lines = [
            f"{'began (UTC)':<17}{'scenario':<{_SCENARIO_CELLS}} {'ended':<13} {'claims':<14}good",
            "-" * 80,
        ]
        for run in self.runs[:most]:
            lines.append(_line(run).rstrip())
            lines.append(f"  {run.directory}")
            if run.labels or run.seed is not None:
                seed = [] if run.seed is None else [f"seed={run.seed}"]
                pairs = [f"{name}={value}" for name, value in sorted(run.labels.items())]
                lines += wrapped(
                    printable(" ".join(seed + pairs), _LONGEST_LABELS_CHARS), first="  ", rest="  "
                )
            if run.sentence:
                lines += wrapped(printable(run.sentence, 1_000), first="  ", rest="  ")
        if len(self.runs) > most:
            lines.append(f"and {len(self.runs) - most:,} older; --last N shows more.")
        return "\n".join(lines)


def _line(run: KeptRun) -> str:
    from rich.cells import set_cell_size

    counts = run.counts
    claims = (
        " ".join(f"{mark}{counts[answer]}" for answer, mark in _MARKS.items())
        if run.readings
        else NOT_MEASURED
    )
    good = NOT_MEASURED
    if run.streams:
        good = f"{run.good:,}/{run.streams:,}"
    scenario = set_cell_size(printable(run.scenario), _SCENARIO_CELLS)
    return f"{_moment(run.started_ns):<17}{scenario} {run.state:<13} {claims:<14}{good}"


def _moment(ns: int | None) -> str:
    if ns is None:
        return NOT_MEASURED
    try:
        return f"{dt.datetime.fromtimestamp(ns / 1e9, tz=dt.UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):  # a damaged document
        return NOT_MEASURED


def listed(folder: Path, scenario: str | None, labels: dict[str, str]) -> Listed:
    """The kept runs of a folder. Raises UsageError when there is no such folder, or no run of that scenario."""
    runs = chosen(kept_runs(folder), scenario, labels, folder)
    return Listed(folder=str(folder), runs=runs)


# --- trends -------------------------------------------------------------------------------------------------------------


class Point(Struct, kw_only=True):
    """One figure of one run."""

    run: str
    measured: bool = False
    value: float | None = None
    """A share from 0 to 1, or ns; None beside `measured` is never."""
    verdict: str | None = None


class Series(Struct, kw_only=True):
    """One figure over the runs."""

    name: str
    """A claim, `streams that succeeded`, or a figure that was asked for."""
    unit: Literal["share", "ns"]
    points: list[Point]


class Trend(Struct, kw_only=True):
    """The figures of one scenario over its runs, the oldest first."""

    scenario: str
    runs: list[str]
    """Their folders."""
    first_ns: int | None
    last_ns: int | None
    left_out: dict[State, int]
    """Runs of the scenario that have no verdict to show, by how they ended."""
    series: list[Series]


class Trends(Struct, kw_only=True):
    """The answer of `sseproof runs trend`."""

    folder: str
    trends: list[Trend]

    def to_text(self) -> str:
        """What a person reads."""
        if not self.trends:
            return f"No run in {self.folder} was judged: there is no trend to show."
        return "\n\n".join(_trend_text(trend) for trend in self.trends)


def trends(
    folder: Path,
    scenario: str | None,
    labels: dict[str, str],
    last: int = TREND_RUNS,
    figures: Sequence[str] = (),
) -> Trends:
    """What each scenario's newest `last` judged runs said, claim by claim; and these figures, from the runs' rows.

    Raises UsageError as `listed`, and for a name that is no figure.
    """
    if figures:
        from sseproof.compare_commands import check_figures

        check_figures("--figure", figures)
    runs = chosen(kept_runs(folder), scenario, labels, folder)
    found = [
        trend
        for name in sorted({run.scenario for run in runs})
        if (trend := _trend(name, [run for run in runs if run.scenario == name], last, figures)) is not None
    ]
    return Trends(folder=str(folder), trends=found)


def _trend(scenario: str, runs: Sequence[KeptRun], last: int, figures: Sequence[str]) -> Trend | None:
    judged = [run for run in newest_first(runs) if run.streams is not None][:last][::-1]
    if not judged:
        return None
    names = list(dict.fromkeys(_name(reading) for run in reversed(judged) for reading in run.readings))
    series = [Series(name="streams that succeeded", unit="share", points=[_succeeded(run) for run in judged])]
    for name in names:
        readings = [next((each for each in run.readings if _name(each) == name), None) for run in judged]
        timed = any(reading is not None and reading.timed for reading in readings)
        points = [_point(run, reading, timed=timed) for run, reading in zip(judged, readings, strict=True)]
        series.append(Series(name=name, unit="ns" if timed else "share", points=points))
    if figures:
        series += _measured(judged, figures)
    return Trend(
        scenario=scenario,
        runs=[run.directory for run in judged],
        first_ns=judged[0].started_ns,
        last_ns=judged[-1].started_ns,
        left_out=dict(Counter(run.state for run in runs if run.streams is None)),
        series=series,
    )


def _measured(runs: Sequence[KeptRun], names: Sequence[str]) -> list[Series]:
    """Figures of `sseproof compare`, which no claim has to have asked for; a run that can't be read has none."""
    from sseproof.compare_commands import figures_of
    from sseproof.reports.compare import specs, value_of

    wanted = [spec for spec in specs() if spec.key in names]
    series = [
        Series(name=spec.key, unit="share" if spec.kind == "share" else "ns", points=[]) for spec in wanted
    ]
    for run in runs:
        found = None
        with contextlib.suppress(UsageError):
            found = figures_of(Path(run.directory), None)
        for spec, each in zip(wanted, series, strict=True):
            value = None if found is None else value_of(found, spec)
            point = Point(run=run.directory)
            if value is not None:
                point.measured = True
                point.value = value.seen if math.isfinite(value.seen) else None
            each.points.append(point)
    return series


def _name(reading: Reading) -> str:
    return reading.claim if reading.variant is None else f"{reading.claim} [{reading.variant}]"


def _succeeded(run: KeptRun) -> Point:
    if not run.streams:
        return Point(run=run.directory)
    return Point(run=run.directory, measured=True, value=(run.good or 0) / run.streams)


def _point(run: KeptRun, reading: Reading | None, *, timed: bool) -> Point:
    if reading is None or (reading.share is None and not reading.timed):
        return Point(run=run.directory, verdict=None if reading is None else reading.verdict)
    value = reading.value_ns if timed else reading.share
    return Point(run=run.directory, measured=True, value=value, verdict=reading.verdict)


def _trend_text(trend: Trend) -> str:
    from sseproof.reports.summary import wrapped

    since = f"{_moment(trend.first_ns)} to {_moment(trend.last_ns)} UTC"
    lines = wrapped(f"{printable(trend.scenario)}: {count_of(len(trend.runs), 'run')}, {since}")
    left = ", ".join(f"{count} {state}" for state, count in sorted(trend.left_out.items()))
    if left:
        lines += wrapped(f"Without a verdict, left out: {left}.", first="  ", rest="  ")
    for each in trend.series:
        lines += wrapped(printable(each.name), first="  ", rest="    ")
        lines += wrapped(f"{sparkline(each)}  {_said(each)}", first="    ", rest="      ")
    return "\n".join(lines)


def sparkline(series: Series) -> str:
    """A bar a run between the lowest and the highest value; a dot where nothing was measured, a cross for never."""
    values = [point.value for point in series.points if point.measured and point.value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)

    def bar(point: Point) -> str:
        if not point.measured:
            return "·"
        if point.value is None:
            return "✗"
        share = (point.value - low) / (high - low) if high > low else 0.5
        return _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]

    return "".join(map(bar, series.points))


def _said(series: Series) -> str:
    text: Callable[[float | None], str] = duration_text if series.unit == "ns" else share_text
    measured = [point.value for point in series.points if point.measured]
    if not measured:
        return "not measured"
    known = [value for value in measured if value is not None]
    verdicts = Counter(point.verdict for point in series.points if point.verdict is not None)
    parts = [f"last {text(measured[-1])}"]
    if known:
        parts.append(f"median {text(median(known))}")
        parts.append(f"{text(min(known))} to {text(max(known))}")
    if len(known) < len(measured):
        parts.append(f"{len(measured) - len(known)} never")
    parts += [f"{mark}{verdicts[answer]}" for answer, mark in _MARKS.items() if verdicts[answer]]
    return ", ".join(parts)


# --- pruning ------------------------------------------------------------------------------------------------------------


class PruneAnswer(Struct, kw_only=True):
    """The answer of `sseproof runs prune`."""

    folder: str
    dry_run: bool
    done: Pruned

    def to_text(self) -> str:
        """What a person reads."""
        done = self.done
        verb = "Would remove" if self.dry_run else "Removed"
        lines = [
            f"{verb} {count_of(len(done.removed), 'run')} from {self.folder}; {count_of(done.kept, 'run')} stay."
        ]
        lines += [f"  {directory}" for directory in done.removed]
        lines += [f"Left alone: {printable(sentence, 1_000)}" for sentence in done.left_alone]
        return "\n".join(lines)


def pruned(folder: Path, scenario: str | None, keep_n: int, *, dry_run: bool) -> PruneAnswer:
    """Removes all but the newest runs of each scenario. Raises UsageError as `listed`, RigError when it can't."""
    runs = chosen(kept_runs(folder), scenario, {}, folder)
    return PruneAnswer(folder=str(folder), dry_run=dry_run, done=prune(runs, keep_n, dry_run=dry_run))


class KeepAnswer(Struct, kw_only=True):
    """The answer of `sseproof runs keep`."""

    directory: str
    scenario: str
    baselines: int
    """How many runs of the scenario that folder holds now."""

    def to_text(self) -> str:
        """What a person reads."""
        return (
            f"Kept as {self.directory}: {count_of(self.baselines, 'baseline')} of {printable(self.scenario)}."
        )


def kept_as_baseline(run: Path, baseline: Path) -> KeepAnswer:
    """Copies a run that is over into the folder of baselines. Raises UsageError and RigError as `kept.keep`."""
    place = keep(run, baseline)
    scenario = read_kept(place).scenario
    return KeepAnswer(
        directory=str(place),
        scenario=scenario,
        baselines=sum(each.scenario == scenario for each in kept_runs(baseline)),
    )
