"""Files for other tools, made from a recorded run on request, in its export folder.

hgrm is the percentile spectrum of every series over the whole run, hlog every series in a log of its own without tags
(series.hlog has all of them in one, which some readers can't take apart), csv are the streams, breaks and claims.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from sseproof.reports.facts import Facts, History
from sseproof.reports.judge import RunVerdict
from sseproof.reports.percentiles import hgrm
from sseproof.reports.tables import breaks_csv, claims_csv, streams_csv
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import PLAN_NAME, SERIES_NAME, read_document, write_bytes
from sseproof.rundir.rows import Plan
from sseproof.rundir.series import Interval, head_lines, merged, untagged_line
from sseproof.rundir.series_file import SeriesReading

Export = Literal["csv", "hgrm", "hlog"]

EXPORT_FOLDER: Final = "export"


class Series:
    """One series of a whole run: all its intervals, merged."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.out_of_range = 0


def read_series(directory: Path) -> tuple[Mapping[str, Series], str]:
    """Every series of a run by its tag, and a sentence about what could not be read, empty when all could.

    Raises UsageError when it is no run directory, was recorded without series, or holds another run's.
    """
    plan = read_document(directory / PLAN_NAME, Plan, "plan")
    reading = SeriesReading(directory, plan.run)
    found: dict[str, Series] = {}
    for interval, counts in reading:
        series = found.setdefault(interval.tag, Series())
        series.counts = merged((series.counts, counts))
        series.out_of_range += interval.out_of_range
    if reading.missing:
        raise UsageError(f"{directory} has no {SERIES_NAME}: the run was recorded without series.")
    return dict(sorted(found.items())), reading.problem


def export_hgrm(directory: Path) -> tuple[list[Path], str]:
    """Writes a percentile file a series into the run's export folder; the same log gives the same bytes.

    Gives the files and a sentence as `read_series`. Raises UsageError as that does, RigError when a file can't be written.
    """
    found, problem = read_series(directory)
    files = {f"{tag}.hgrm": [hgrm(series.counts, series.out_of_range)] for tag, series in found.items()}
    return _written(directory, files), problem


def export_hlog(directory: Path) -> tuple[list[Path], str]:
    """Writes a log a series into the run's export folder, without tags and in the order of time.

    Gives the files and a sentence as `read_series`. Raises UsageError as that does, RigError when a file can't be written.
    """
    plan = read_document(directory / PLAN_NAME, Plan, "plan")
    reading = SeriesReading(directory, plan.run)
    found: dict[str, list[Interval]] = {}
    for interval, _ in reading:
        found.setdefault(interval.tag, []).append(interval)
    if reading.missing:
        raise UsageError(f"{directory} has no {SERIES_NAME}: the run was recorded without series.")
    files = {}
    for tag, intervals in sorted(found.items()):
        intervals.sort(key=lambda interval: interval.start_ns)
        files[f"{tag}.hlog"] = [head_lines(intervals[0].start_ns), *map(untagged_line, intervals)]
    return _written(directory, files), reading.problem


def export_csv(
    directory: Path, history: History, facts: Sequence[Facts], verdict: RunVerdict
) -> tuple[list[Path], str]:
    """Writes streams, breaks and claims into the run's export folder. Raises RigError when a file can't be written."""
    files = {
        "streams.csv": streams_csv(history, facts),
        "breaks.csv": breaks_csv(history),
        "claims.csv": claims_csv(verdict.verdicts),
    }
    return _written(directory, files), ""


def _written(directory: Path, files: Mapping[str, Iterable[bytes]]) -> list[Path]:
    folder = directory / EXPORT_FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RigError(f"{folder} can't be made: {error.strerror}.") from error
    paths = []
    for name, pieces in files.items():
        path = folder / name
        write_bytes(path, b"".join(pieces))
        paths.append(path)
    return paths
