"""Files for other tools, made from a recorded run on request."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sseproof.reports.percentiles import hgrm
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import PLAN_NAME, SERIES_NAME, read_document, write_bytes
from sseproof.rundir.rows import Plan
from sseproof.rundir.series import merged
from sseproof.rundir.series_file import SeriesReading

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
    folder = directory / EXPORT_FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RigError(f"{folder} can't be made: {error.strerror}.") from error
    paths = []
    for tag, series in found.items():
        path = folder / f"{tag}.hgrm"
        write_bytes(path, hgrm(series.counts, series.out_of_range))
        paths.append(path)
    return paths, problem
