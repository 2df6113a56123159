"""From the workers' series to series.hlog: what travels in Locust's worker reports, merged by second and written.

Rules (design.md "Run directory"):
- A worker's intervals travel as they are in its next report (every 3 s), the last ones in a message of ours before it says
  that it drained: Locust loses what is in flight when it quits. A worker that is killed takes at most those 3 s with it.
- One line a second and tag: the intervals that begin in the same second are merged, exactly. What comes too late for that
  has a line of its own; readers of the log add.
- What a worker sends is checked before it is written.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError
from sseproof.rundir.rows import Plan
from sseproof.rundir.series import Interval, decoded, encoded, merged
from sseproof.rundir.series_file import SeriesFile

REPORT_KEY: Final = "sseproof-series"
"""Where a worker's intervals stand in its reports and messages."""
HOLD_NS: Final = 8_000_000_000
"""From the beginning of a second until it is written: its own length, Locust's report interval, and delays."""
_SECOND_NS: Final = 1_000_000_000


def to_report(intervals: Iterable[Interval]) -> list[object]:
    """As a message of Locust's can carry them."""
    wire: list[object] = msgspec.to_builtins(list(intervals))
    return wire


class SeriesLog:
    """Writes the series of all workers of one Locust master (or of the only process) to series.hlog."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        """Raises RigError when the folder can't be written."""
        self._file = SeriesFile(directory, plan.run, plan.created_ns)
        self._waiting: dict[tuple[int, str], list[Interval]] = {}

    def take(self, report: object) -> None:
        """Intervals out of a worker's report; writes the seconds that are complete.

        Raises RigError when the report is damaged or the disk is full.
        """
        try:
            intervals = msgspec.convert(report, list[Interval])
        except msgspec.ValidationError as error:
            raise RigError(f"A worker's report of its series is damaged: {error}.") from None
        for interval in intervals:
            self._waiting.setdefault((interval.start_ns // _SECOND_NS, interval.tag), []).append(interval)
        self.write((now_ns() - HOLD_NS) // _SECOND_NS)

    def write(self, before_second: int | None = None) -> None:
        """Writes the seconds before this one, None: all; later intervals are welcome. Raises RigError as `take`."""
        ready = sorted(key for key in self._waiting if before_second is None or key[0] < before_second)
        self._file.append(_merged(self._waiting.pop(key)) for key in ready)


def _merged(parts: list[Interval]) -> Interval:
    """Intervals of one series that begin in the same second, as one. Raises RigError for a damaged one."""
    if len(parts) == 1:
        return parts[0]
    try:
        payloads = [decoded(part.payload) for part in parts if part.payload]
    except ValueError as error:
        raise RigError(f"A worker's series {parts[0].tag!r} is damaged: {error}.") from None
    return Interval(
        parts[0].tag,
        min(part.start_ns for part in parts),
        max(part.end_ns for part in parts),
        encoded(merged(payloads)) if payloads else "",
        sum(part.out_of_range for part in parts),
    )
