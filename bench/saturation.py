"""As fast as the source sends: events a second that one process records in full, and whether any is lost.

100 streams of numbered events come as fast as they are read, each to its end. The rate counts from the first request to
the last stream's end; every event must be in the rows, none twice. CPU per event is the process's own time over the same
span. The source says how long it had nothing to do because the client was behind: else it was the bottleneck.

    python bench/saturation.py
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import parts

from sseproof.loadtests.settings import Load
from sseproof.rundir.files import GENERATOR, STREAMS, Reading

STREAMS_OPEN: Final = 100
EVENTS_A_STREAM: Final = 20_000
LIMIT_S: Final = 120.0
GOAL_EVENTS_PER_S: Final = 200_000
LEAST_IDLE: Final = 0.1


class SaturationRow(msgspec.Struct):
    """One round."""

    streams: int
    events: int
    """Recorded."""
    events_per_s: float
    cpu_us_per_event: float
    lost: int
    """Written and not recorded, or recorded twice, in all rounds."""
    source_idle_share: float


class _Flooded(msgspec.Struct):
    written: int
    idle_share: float


def measure(rounds: int = 2) -> list[SaturationRow]:
    """The rounds as one row."""
    return [best_of([_round() for _ in range(rounds)])]


def best_of(rounds: list[SaturationRow]) -> SaturationRow:
    """The fastest round, with what was lost in any."""
    best = max(rounds, key=lambda row: row.events_per_s)
    return msgspec.structs.replace(best, lost=sum(row.lost for row in rounds))


def _round() -> SaturationRow:
    source = subprocess.Popen(
        [sys.executable, str(parts.BENCH / "flood_source.py"), str(EVENTS_A_STREAM)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert source.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        try:
            port = int(source.stdout.readline())
            load = Load(model="closed", users=STREAMS_OPEN, streams=STREAMS_OPEN)
            directory = parts.run_directory(Path(folder), port, load, "answer")
            with parts.locust(
                parts.sseproof_command(port), STREAMS_OPEN, parts.plan_environ(directory)
            ) as client:
                client.wait(LIMIT_S)
            source.terminate()
            out, _ = source.communicate(timeout=10)
        finally:
            source.kill()
            source.wait()
        flooded = msgspec.json.decode(out, type=_Flooded)
        return _row(directory, flooded)


def _row(directory: Path, flooded: _Flooded) -> SaturationRow:
    records = list(Reading(directory, STREAMS))
    events = sum(record.events for record in records)
    began_ns = min(record.dispatched.ns for record in records)
    ended_ns = max(record.ended.ns for record in records)
    planned = STREAMS_OPEN * EVENTS_A_STREAM
    doubled = sum(record.doubled or 0 for record in records)
    # CPU of the seconds that lie in the span, in proportion at its ends.
    spent_s = 0.0
    for row in Reading(directory, GENERATOR):
        inside_ns = min(row.at_ns, ended_ns) - max(row.at_ns - row.interval_ns, began_ns)
        spent_s += max(0, inside_ns) / 1e9 * (row.cpu_share or 0.0)
    return SaturationRow(
        streams=len(records),
        events=events,
        events_per_s=events / (ended_ns - began_ns) * 1e9,
        cpu_us_per_event=spent_s / events * 1e6,
        lost=planned - events + doubled,
        source_idle_share=flooded.idle_share,
    )


def missed_goals(rows: list[SaturationRow]) -> list[str]:
    """At least 200,000 events a second in one process, none lost, and the source not the bottleneck."""
    missed = []
    for row in rows:
        if row.source_idle_share < LEAST_IDLE:
            missed.append(
                f"saturation: the source had nothing to do for only {row.source_idle_share:.0%} of the time: it limited"
            )
        if row.events_per_s < GOAL_EVENTS_PER_S:
            missed.append(
                f"saturation: {row.events_per_s:,.0f} events a second were recorded; the goal is {GOAL_EVENTS_PER_S:,}"
            )
        if row.lost:
            missed.append(f"saturation: {row.lost:,} events were lost or doubled; the goal is none")
    return missed


if __name__ == "__main__":
    before = time.monotonic()
    for each in measure():
        print(each)
    print(f"{time.monotonic() - before:.0f} s")
