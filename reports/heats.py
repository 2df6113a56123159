"""The gaps of a run by second and length, from its series: what the heat map of the report is drawn from.

Histograms of all workers and seconds are added into rows of a picture; what can't be read is said, and the rest shown.
"""

from pathlib import Path
from typing import Final

from sseproof.reports.charts.heat import Heat, add
from sseproof.reports.facts import History, load_began_ns
from sseproof.rundir.errors import UsageError
from sseproof.rundir.series import tag_of
from sseproof.rundir.series_file import SeriesReading

_NS_PER_S: Final = 1_000_000_000


def read_heats(directory: Path, history: History) -> tuple[list[Heat], str]:
    """One a variant in the order of the plan, and a sentence about what could not be read, empty when all could."""
    heats = {
        tag_of("gap", variant.name): Heat(name=variant.name or "", cells={})
        for variant in history.plan.variants
    }
    origin_ns = load_began_ns(history)
    reading = SeriesReading(directory, history.plan.run)
    try:
        for interval, counts in reading:
            heat = heats.get(interval.tag)
            if heat is not None:
                middle_ns = (interval.start_ns + interval.end_ns) // 2
                add(heat.cells, max(0, (middle_ns - origin_ns) // _NS_PER_S), counts)
    except UsageError as error:
        return [], f"Gaps over time are not shown: {error}"
    if reading.missing:
        return [], "Gaps over time are not shown: the run was recorded without series."
    return list(heats.values()), reading.problem
