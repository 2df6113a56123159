"""Everything that is rebuilt from a run's rows: verdict.json, report.html, and what else was asked for, from one reading."""

from collections.abc import Callable
from pathlib import Path

from sseproof.reports.facts import Facts, History, all_facts
from sseproof.reports.history import read_history
from sseproof.reports.judge import OnUnknown, RunVerdict, judge, write_verdict
from sseproof.rundir.files import REPORT_NAME, write_bytes

Further = Callable[[RunVerdict, History, list[Facts]], None]


def judged(
    directory: Path, further: Further | None = None, on_unknown: OnUnknown | None = None
) -> RunVerdict:
    """Judges the run and writes its views; the same rows give the same bytes.

    `further` makes more of the same reading; `on_unknown` replaces what the plan says, and every view follows it.

    Raises UsageError when it is no run directory or can't be read, RigError when a view can't be written.
    """
    from sseproof.reports.heats import read_heats
    from sseproof.reports.render import render_history

    history = read_history(directory)
    facts = all_facts(history)
    verdict = judge(history, on_unknown, facts)
    write_verdict(directory, verdict)
    write_bytes(
        directory / REPORT_NAME, render_history(history, verdict, read_heats(directory, history), facts)
    )
    if further is not None:
        further(verdict, history, facts)
    return verdict
