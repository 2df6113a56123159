"""The percentile spectrum of a series, as HdrHistogram's tools write and read it (.hgrm).

Rules:
- Lines, levels and ranks are those of HdrHistogram's own percentile iterator (the original's, in Java) with five ticks a
  half distance. A value is the last of its step, so none is told shorter than it was.
- For reading, never for judging: claims are decided on the streams' own rows (measurement.md 4).
"""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from sseproof.rundir.series import STEP_BITS, Counts, last_of_step

TICKS: Final = 5
_MS: Final = 1e6
_BUCKETS: Final = 39
"""Powers of two above the first 256 values, up to the highest."""


class Level(NamedTuple):
    """One line of the spectrum: this share of the values is at most so large."""

    value_ns: int
    percent: float
    total: int
    """Values up to here."""


def levels(counts: Counts) -> Iterator[Level]:
    """From the smallest value to the largest, denser towards the end; nothing for an empty series."""
    whole = sum(counts.values())
    reached, percent, value = 0, 0.0, 0
    for value in sorted(counts):
        reached += counts[value]
        while 100 * reached / whole >= percent:
            yield Level(last_of_step(value), percent, reached)
            halves = int(math.log2(100 / (100 - percent))) + 1
            percent += 100 / (TICKS * 2**halves)
            if reached == whole:
                break
    if whole:
        yield Level(last_of_step(value), 100.0, whole)


def hgrm(counts: Counts, out_of_range: int = 0) -> bytes:
    """The file; values in ms."""
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    for level in levels(counts):
        line = f"{level.value_ns / _MS:12.6f} {level.percent / 100:2.12f} {level.total:10d}"
        if level.percent < 100:
            line += f" {1 / (1 - level.percent / 100):14.2f}"
        lines.append(line)
    whole = sum(counts.values())
    middles = {(value + last_of_step(value) + 1) // 2: count for value, count in sorted(counts.items())}
    mean = sum(value * count for value, count in middles.items()) / whole if whole else 0.0
    square = sum((value - mean) ** 2 * count for value, count in middles.items()) / whole if whole else 0.0
    longest = last_of_step(max(counts)) if counts else 0
    lines += [
        f"#[Mean    = {mean / _MS:12.6f}, StdDeviation   = {math.sqrt(square) / _MS:12.6f}]",
        f"#[Max     = {longest / _MS:12.6f}, Total count    = {whole:12d}]",
        f"#[Buckets = {_BUCKETS:12d}, SubBuckets     = {1 << STEP_BITS:12d}]",
        f"#[Values in ms; out of range and not among them: {out_of_range}]",
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii")
