"""A file of recorded start times, which an open loop repeats.

One start a line, in seconds since any instant, ascending or not: the first column where there are several (CSV). A first
line without a number is taken for the names of the columns; empty lines and lines that begin with # are passed over. All lie
within 7 days, the longest duration.
"""

import math
from pathlib import Path

from sseproof.loadtests.arrivals import MOST_STARTS
from sseproof.rundir.errors import UsageError
from sseproof.rundir.units import LONGEST_NS


def read_replay(path: Path) -> list[int]:
    """The starts in ns since the first, ascending. Raises UsageError, naming the line that can't be read."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    starts: list[tuple[float, int]] = []
    for number, line in enumerate(lines, 1):
        cell = line.split(",")[0].strip()
        if not cell or cell.startswith("#"):
            continue
        try:
            value = float(cell)
        except ValueError:
            if not starts and number == 1:
                continue
            raise UsageError(
                f"{path}, line {number}: {cell[:40]!r} is no start time; write seconds, such as 12.5."
            ) from None
        if not math.isfinite(value):
            raise UsageError(
                f"{path}, line {number}: {cell[:40]!r} is no start time; write seconds, such as 12.5."
            )
        starts.append((value, number))
    if not starts:
        raise UsageError(f"{path} holds no start time; write one a line, in seconds.")
    if len(starts) > MOST_STARTS:
        raise UsageError(f"{path} holds {len(starts):,} starts; {MOST_STARTS:,} are the most of one run.")
    starts.sort()
    (first, first_line), (last, last_line) = starts[0], starts[-1]
    if last - first > LONGEST_NS / 1e9:
        raise UsageError(
            f"{path}, line {last_line}: this start lies more than 7 days after the earliest, which is in line {first_line}; "
            "write seconds since one instant."
        )
    return [round((start - first) * 1e9) for start, _ in starts]
