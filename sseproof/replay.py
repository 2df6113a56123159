"""A file of recorded start times, which an open loop repeats.

One start a line, in seconds since any instant, ascending or not: the first column where there are several (CSV). A first
line without a number is taken for the names of the columns; empty lines and lines that begin with # are passed over.
"""

import math
from pathlib import Path

from sseproof.loadtests.arrivals import MOST_STARTS
from sseproof.rundir.errors import UsageError


def read_replay(path: Path) -> list[int]:
    """The starts in ns since the first, ascending. Raises UsageError, naming the line that can't be read."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    starts: list[float] = []
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
        starts.append(value)
    if not starts:
        raise UsageError(f"{path} holds no start time; write one a line, in seconds.")
    if len(starts) > MOST_STARTS:
        raise UsageError(f"{path} holds {len(starts):,} starts; {MOST_STARTS:,} are the most of one run.")
    starts.sort()
    return [round((start - starts[0]) * 1e9) for start in starts]
