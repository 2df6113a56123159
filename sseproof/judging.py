"""Everything that is rebuilt from a run's rows: verdict.json and report.html, from one reading of the history."""

from pathlib import Path

from sseproof.reports.history import read_history
from sseproof.reports.judge import OnUnknown, RunVerdict, judge, write_verdict
from sseproof.rundir.files import REPORT_NAME, write_bytes


def judged(directory: Path, on_unknown: OnUnknown | None = None) -> RunVerdict:
    """Judges the run and writes its views; the same rows give the same bytes.

    `on_unknown` replaces what the plan says; every view follows it.

    Raises UsageError when it is no run directory or can't be read, RigError when a view can't be written.
    """
    from sseproof.reports.heats import read_heats
    from sseproof.reports.render import render_history

    history = read_history(directory)
    verdict = judge(history, on_unknown)
    write_verdict(directory, verdict)
    write_bytes(directory / REPORT_NAME, render_history(history, verdict, read_heats(directory, history)))
    return verdict
