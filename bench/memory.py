"""Memory a stream: RSS of one process with 1,000, 5,000 and 9,000 quiet streams above the same process without any.

Each level is a Locust process of its own with full recording: first some seconds idle, then the streams open, then all
are held at one event a second, each event with its send time. "error" is the instant that was assigned to an event minus
that time, read from the rows' histograms: p99 is the edge below which 99 % lie.

    python bench/memory.py [LEVEL ...]
"""

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import parts

from sseproof.calibration import quiet_ramp
from sseproof.rundir.files import GENERATOR, STREAMS, Reading
from sseproof.rundir.rows import GeneratorRow
from sseproof.rundir.units import Duration

LEVELS: Final = (1_000, 5_000, 9_000)
IDLE_S: Final = 3.0
HOLD_S: Final = 12.0
DRAIN_S: Final = 10.0
LIMIT_S: Final = 180.0
GOAL_KB_A_STREAM: Final = 18.0
GOAL_ERROR_P99_MS: Final = 0.2
SOURCE_LAG_LIMIT_MS: Final = 20.0
IN_FLIGHT: Final = 2
"""Events of a stream that nobody misses at its end: one on its way, and one that tells the source that it is closed."""
BUSY_SHARE: Final = 0.05


class MemoryRow(msgspec.Struct):
    """One level."""

    streams: int
    most_open: int
    """Together; fewer than the level on a machine that could not open them all in time."""
    idle_mb: float
    """RSS of the process without a stream."""
    rss_mb: float
    """The most while the most streams were held."""
    kb_a_stream: float
    error_p99_ms: float
    read_lag_p99_ms: float
    """Of the worst second with the most streams: what a clock of the process's own would have added."""
    lost: int
    """Events with a number below the last one received that never came."""
    not_received: int
    """Events that the source wrote and no row has."""
    left_out: int
    """Events that the source did not write because the client's buffers were full."""
    source_lag_p99_ms: float
    waiting_share: float
    """Of those seconds, in which the process was ready to run and others had the cores."""


def measure(levels: tuple[int, ...] = LEVELS) -> list[MemoryRow]:
    """A row a level."""
    return [_level(streams) for streams in levels]


def _level(streams: int) -> MemoryRow:
    load = quiet_ramp([(streams, HOLD_S)], idle_s=IDLE_S, drain=Duration(round(DRAIN_S * 1e9)))
    with tempfile.TemporaryDirectory() as folder, parts.PacedSource(1) as source:
        directory = parts.run_directory(Path(folder), source.port, load, "subscription")
        with parts.locust(parts.sseproof_command(source.port), 1, parts.plan_environ(directory)) as client:
            client.wait(LIMIT_S)
        summary = source.stop()
        return _row(streams, directory, summary)


def _row(streams: int, directory: Path, summary: parts.Summary) -> MemoryRow:
    rows = list(Reading(directory, GENERATOR))
    idle = list(itertools.takewhile(lambda row: not row.started, rows))
    most_open = min(
        streams, max((row.open_streams for row in rows), default=0)
    )  # a last start ends the level
    held = [row for row in rows if row.open_streams >= most_open]
    if not idle or not most_open:
        raise AssertionError(f"no second without a stream, or no stream at all: {len(rows)} rows")
    errors: dict[float, int] = {}
    lost = 0
    for record in Reading(directory, STREAMS):
        lost += record.lost or 0
        for edge, count in zip(parts.EDGES_MS, record.ages.hi if record.ages else [], strict=False):
            errors[edge] = errors.get(edge, 0) + count
    before, most = _most(idle), _most(held)
    return MemoryRow(
        streams=streams,
        most_open=most_open,
        idle_mb=before / 1e6,
        rss_mb=most / 1e6,
        kb_a_stream=(most - before) / most_open / 1e3,
        error_p99_ms=parts.percentile(errors, 0.99),
        read_lag_p99_ms=max(row.read_lag_p99_ns or 0 for row in held) / 1e6,
        lost=lost,
        not_received=summary.written - sum(errors.values()),
        left_out=summary.blocked,
        source_lag_p99_ms=summary.lag_p99_ms,
        waiting_share=sum(row.run_queue_share or 0.0 for row in held) / len(held),
    )


def _most(rows: list[GeneratorRow]) -> int:
    return max(row.rss_bytes or 0 for row in rows)


def missed_goals(rows: list[MemoryRow]) -> list[str]:
    """At most 18 KB RSS a stream above the idle process, p99 of the error within 0.2 ms, nothing lost."""
    missed = []
    for row in rows:
        before = len(missed)
        title = f"{row.streams:,} quiet streams"
        if row.most_open < row.streams:
            missed.append(f"{title}: only {row.most_open:,} were open together")
        if row.kb_a_stream > GOAL_KB_A_STREAM:
            missed.append(
                f"{title}: {row.kb_a_stream:.1f} KB RSS a stream; the goal is {GOAL_KB_A_STREAM:.0f}"
            )
        if row.error_p99_ms > GOAL_ERROR_P99_MS:
            missed.append(
                f"{title}: p99 of the error is {row.error_p99_ms:.2g} ms; the goal is {GOAL_ERROR_P99_MS}"
            )
        if row.lost:
            missed.append(f"{title}: {row.lost:,} events were lost; the goal is none")
        if row.left_out:
            missed.append(f"{title}: {row.left_out:,} events were left out because the client was behind")
        if row.not_received > IN_FLIGHT * row.streams:
            missed.append(f"{title}: {row.not_received:,} events were written and never received")
        if row.source_lag_p99_ms > SOURCE_LAG_LIMIT_MS:
            missed.append(f"{title}: the source was {row.source_lag_p99_ms:.0f} ms late at p99: it limited")
        if len(missed) > before and row.waiting_share > BUSY_SHARE:
            missed.append(
                f"{title}: the process waited {row.waiting_share:.0%} of the time for a core: leave the machine alone"
            )
    return missed


if __name__ == "__main__":
    for each in measure(tuple(int(level) for level in sys.argv[1:]) or LEVELS):
        print(each)
