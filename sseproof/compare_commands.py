"""`sseproof compare`: which runs are meant, their figures, the answer in text and JSON, and the page.

Rules:
- Two runs are a pair, one run stands against its baselines, and with `--with` two sets stand against each other. A folder of
  runs stands for all runs in it.
- A run that still goes on is refused: it is not what it will be. Of baselines only those that finished count.
- Times that never came are "never" in JSON, which knows no infinity.
"""

import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from sseproof.kept import KeptRun, newest_first, read_kept, run_directories, runs_in
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import PLAN_NAME, document_bytes, why_not_written, write_bytes
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.compare import Comparison, Row
    from sseproof.reports.figures import RunFigures

REPORT: Final = "compare.html"
LAST: Final = 40
_FIGURE_CELLS: Final = 15
_VALUE_CELLS: Final = 17
_CHANGE_CELLS: Final = 14
_MARKS: Final = {
    "worse": "✕ worse",
    "better": "✓ better",
    "none shown": "= none shown",
    "undecided": "? undecided",
}


class Runs(Struct, kw_only=True):
    """What the command line names."""

    before: list[Path]
    after: list[Path] = []
    """Behind --with."""
    baseline: Path | None = None
    last: int | None = None
    variants: list[str] = []
    """One for both sides, or one for each."""


class Compared(Struct, kw_only=True):
    """The answer of `sseproof compare`."""

    comparison: Any
    """reports.compare.Comparison"""
    left_out: list[str]
    """Baselines that were not taken, a sentence each."""
    report: str

    @property
    def exit_code(self) -> int:
        """1 for a regression, 2 where a figure could not be decided that had to be."""
        return int(self.comparison.exit_code)

    def to_text(self) -> str:
        """What a person reads."""
        return _text(self.comparison, self.left_out, self.report)

    def to_json(self) -> bytes:
        """The same for a program."""
        plain = _without_infinity(msgspec.to_builtins(self))
        return document_bytes(plain)


def compared(
    runs: Runs,
    *,
    gate: Sequence[str],
    ratio: float,
    points: float,
    command: Sequence[str],
    report: Path | None,
) -> Compared:
    """Compares what is named and writes the page.

    Raises UsageError for what can't be compared, RigError when the page can't be written.
    """
    from sseproof.reports.compare import (
        Asked,
        IncomparableError,
        compare_baseline,
        compare_pair,
        compare_sets,
    )
    from sseproof.reports.render import render_comparison

    asked = Asked(gate=tuple(dict.fromkeys(gate)), ratio=ratio, points=points)
    check_figures("--gate", asked.gate)
    variants = _variants(runs.variants)
    left_out: list[str] = []
    try:
        if runs.after:
            before, after = list(_expanded(runs.before)), list(_expanded(runs.after))
            sides = (
                [figures_of(path, variants[0]) for path in before],
                [figures_of(path, variants[1]) for path in after],
            )
            if len(before) == len(after) == 1:
                comparison = compare_pair(sides[0][0], sides[1][0], asked)
            else:
                comparison = compare_sets(*sides, asked)
        elif len(runs.before) == 2 and runs.baseline is None:
            sides = [figures_of(runs.before[0], variants[0])], [figures_of(runs.before[1], variants[1])]
            comparison = compare_pair(sides[0][0], sides[1][0], asked)
        elif len(runs.before) == 1:
            new = figures_of(runs.before[0], variants[1])
            kept = _baselines(runs, new, variants[0], left_out)
            sides = kept, [new]
            comparison = compare_baseline(kept, new, asked)
        else:
            raise UsageError(
                "Name two runs (A B), one run to hold against its baselines, or two sets of runs (A1 A2 … --with B1 B2 …)."
            )
    except IncomparableError as error:
        raise UsageError(str(error)) from None
    place = report or Path(sides[1][-1].place) / REPORT
    page = render_comparison(comparison, *sides, left_out=left_out, command=list(command))
    _write(place, page)
    return Compared(comparison=comparison, left_out=left_out, report=str(place))


def _write(place: Path, page: bytes) -> None:
    """Raises RigError when it can't be written."""
    try:
        write_bytes(place, page)
    except RigError as error:
        raise RigError(
            f"{place} can't be written: {why_not_written(error)}; name another place with --report."
        ) from error


def share_of(option: str, text: str) -> float:
    """A share such as 5% or 0.05. Raises UsageError for what is none between 0 and 1."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        value = math.nan
    if rest or not 0.0 <= value <= 1.0:
        raise UsageError(f"{option} wants a share such as 5%, not {printable(text, 40)!r}.")
    return value


def check_figures(option: str, names: Sequence[str]) -> None:
    """Raises UsageError, with the nearest name, for one that is no figure."""
    from sseproof.reports.compare import FIGURES

    for name in names:
        if name not in FIGURES:
            close = get_close_matches(name, FIGURES, 1)
            hint = f"do you mean {close[0]!r}?" if close else f"there are {', '.join(FIGURES)}."
            raise UsageError(f"{option} {printable(name, 40)!r} is no figure: {hint}")


def _variants(names: Sequence[str]) -> tuple[str | None, str | None]:
    if len(names) > 2:
        raise UsageError(
            "--variant names one variant for both sides, or one for each: give it at most twice."
        )
    if not names:
        return None, None
    return names[0], names[-1]


def _expanded(paths: Sequence[Path]) -> Iterator[Path]:
    """A folder of runs becomes its runs, the oldest first."""
    for path in paths:
        inside = [] if (path / PLAN_NAME).exists() else runs_in(path)
        if inside:
            yield from (Path(run.directory) for run in reversed(newest_first(map(read_kept, inside))))
        else:
            yield path


def figures_of(directory: Path, variant: str | None) -> "RunFigures":
    """The figures of one variant of a run, the judged one without a name.

    Raises UsageError when it can't be read, still goes on, or has no such variant.
    """
    from sseproof.reports.facts import all_facts
    from sseproof.reports.figures import run_figures
    from sseproof.reports.history import read_history

    real = directory.resolve()
    if read_kept(real).state == "running":
        raise UsageError(f"The run in {directory} still goes on: compare it when it is over.")
    history = read_history(real)
    plans = history.plan.variants
    names = [each.name for each in plans]
    if variant is None:
        judged = [each for each in plans if each.judged] or plans
        found = judged[-1] if judged else None
    else:
        found = next((each for each in plans if each.name == variant), None)
    if found is None:
        has = (
            f"it has {', '.join(printable(name) for name in names if name)}" if any(names) else "it has none"
        )
        raise UsageError(f"{directory} has no variant {printable(variant or '')!r}: {has}.")
    return run_figures(history, all_facts(history), found, str(directory))


def _baselines(runs: Runs, new: "RunFigures", variant: str | None, left_out: list[str]) -> "list[RunFigures]":
    """The newest kept runs of the same scenario that can stand beside the new one, the oldest first."""
    from sseproof.reports.compare import comparable

    folder = runs.baseline or Path("baseline")
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder of baselines {folder}: keep runs with sseproof runs keep RUN, or name one with "
            "--baseline DIR; two runs are compared by A B."
        )
    found = newest_first(map(read_kept, [*run_directories(folder), *runs_in(folder)]))
    same = [run for run in found if run.scenario == new.scenario and run.run != new.run]
    chosen: list[RunFigures] = []
    for run in same:
        if len(chosen) == (runs.last or LAST):
            break
        why = _why_not(run)
        if why:
            left_out.append(f"{run.directory} {why}.")
            continue
        try:
            figures = figures_of(Path(run.directory), variant)
        except UsageError as error:
            left_out.append(str(error))
            continue
        if comparable(new, figures):
            chosen.append(figures)
        else:
            left_out.append(f"{run.directory} had another kind of load or streams, or no stream at all.")
    if not chosen:
        more = f" {left_out[0]}" if left_out else ""
        raise UsageError(
            f"{folder} holds no other run of the scenario {printable(new.scenario)} to compare with: keep some with "
            f"sseproof runs keep RUN.{more}"
        )
    return chosen[::-1]


def _why_not(run: KeptRun) -> str:
    if run.aborted:
        return "was not taken: aborted"
    return "" if run.state == "finished" else f"was not taken: {run.state}"


def _without_infinity(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return "never"
    if isinstance(value, dict):
        return {key: _without_infinity(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(each) for each in value]
    return value


# --- the answer in text -------------------------------------------------------------------------------------------------


def _text(comparison: "Comparison", left_out: Sequence[str], report: str) -> str:
    from sseproof.reports.summary import wrapped

    lines = wrapped(comparison.decision)
    lines += ["", *_heads("before", comparison.before), *_heads("after", comparison.after), ""]
    lines.append(
        f"{'figure':<{_FIGURE_CELLS}}{'before':>{_VALUE_CELLS}}{'after':>{_VALUE_CELLS}}{'change':>{_CHANGE_CELLS}}   call"
    )
    lines.append("-" * 80)
    for row in comparison.rows:
        lines += _row_lines(row)
    if comparison.differing:
        lines += ["", "Not the same on both sides:"]
        for each in comparison.differing[:20]:
            lines += wrapped(
                f"{each.name}: {_values(each.before)} | {_values(each.after)}", first="- ", rest="  "
            )
        if len(comparison.differing) > 20:
            lines.append(f"- and {len(comparison.differing) - 20} more (see the report)")
    notes = [*comparison.warnings, *left_out]
    if notes:
        lines += ["", "To know:"]
        for sentence in notes[:20]:
            lines += wrapped(printable(sentence, 1_000), first="- ", rest="  ")
    lines += ["", f"Report: {report}"]
    return "\n".join(line.rstrip() for line in lines)


def _heads(side: str, heads: Sequence[Any]) -> list[str]:
    from sseproof.reports.words import count_of

    if len(heads) > 3:
        streams = sum(head.streams for head in heads)
        return [f"{side + ':':<8}{count_of(len(heads), 'run')}, {count_of(streams, 'stream')}"]
    return [
        f"{side + ':':<8}{head.place}"
        + (f" [{printable(head.variant)}]" if head.variant else "")
        + f", {count_of(head.streams, 'stream')}"
        for head in heads
    ]


def _row_lines(row: "Row") -> list[str]:
    from sseproof.reports.compare import change_text, side_text
    from sseproof.reports.summary import wrapped

    call = _MARKS[row.call] if row.may_call or row.call == "none shown" else "  shown only"
    figures = (
        f"{row.key:<{_FIGURE_CELLS}}{side_text(row, row.before):>{_VALUE_CELLS}}"
        f"{side_text(row, row.after):>{_VALUE_CELLS}}{change_text(row):>{_CHANGE_CELLS}}"
    )
    lines = [f"{figures}   {call}"]
    if row.sentence and (row.may_call or row.leans):
        lines += wrapped(row.sentence, first="    ", rest="    ")
    return lines


def _values(values: Sequence[str]) -> str:
    if not values:
        return "–"  # noqa: RUF001  # an en dash, as in all tables
    shown = ", ".join(printable(value, 80) for value in values[:4])
    return f"{shown}, …" if len(values) > 4 else shown
