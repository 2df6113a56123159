"""`make bench`: tables for people, JSON for machines; every ratio comes from one run on one machine.

python bench/run.py [--json FILE] [--only parser|clients]
"""

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

import clients as client_bench
import parser as parser_bench

SOURCE_LAG_LIMIT_MS = 5.0
LEAST_RECEIVED = 0.99
"""The rest was in flight when the streams were closed."""
LEAST_RATE = 0.95
"""Of the planned events a second: below it the load was not what the title says."""


class Machine(msgspec.Struct):
    """Where the figures come from."""

    python: str
    kernel: str
    cores: int


class Bench(msgspec.Struct):
    """The JSON document."""

    machine: Machine
    parser: list[parser_bench.ParserRow] = []
    clients: list[client_bench.ClientRow] = []
    client_cpu_ratio: float | None = None
    """CPU per event of sseproof over that of FastHttpUser."""
    missed: list[str] = []
    """Goals that this run did not meet."""


def main() -> int:
    """Measures, prints, writes; 0 when the goals are met, 1 when one is missed."""
    options = argparse.ArgumentParser(description="Benchmarks of sseproof beside its peers.")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    options.add_argument("--only", choices=["parser", "clients"])
    chosen = options.parse_args()
    bench = Bench(
        machine=Machine(
            python=platform.python_version(), kernel=platform.release(), cores=os.cpu_count() or 1
        )
    )
    missed = bench.missed
    if chosen.only in {None, "parser"}:
        bench.parser = parser_bench.measure()
        table("Parser", bench.parser)
        missed += parser_goals(bench.parser)
    if chosen.only in {None, "clients"}:
        bench.clients = client_bench.measure()
        table(
            f"{client_bench.STREAMS_OPEN} streams x {client_bench.RATE} events/s in one Locust process",
            bench.clients,
        )
        ours, theirs = bench.clients
        bench.client_cpu_ratio = ours.cpu_us_per_event / theirs.cpu_us_per_event
        print(f"CPU per event: {bench.client_cpu_ratio:.2f} of {theirs.client}'s\n")
        missed += client_goals(ours, theirs, bench.client_cpu_ratio)
    if chosen.json is not None:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(bench), indent=1) + b"\n")
    for sentence in missed:
        print(f"missed: {sentence}")
    return 1 if missed else 0


def client_goals(ours: client_bench.ClientRow, theirs: client_bench.ClientRow, ratio: float) -> list[str]:
    """CPU per event at most 0.8 of FastHttpUser's; p99 of the error within 1 ms where FastHttpUser's is not."""
    missed = []
    if ratio > 0.8:
        missed.append(f"CPU per event is {ratio:.2f} of FastHttpUser's; the goal is 0.8")
    if ours.within_1ms < 0.99:
        missed.append(f"{ours.within_1ms:.2%} of the instants are within 1 ms; the goal is 99 %")
    if theirs.within_1ms >= 0.99:
        missed.append(
            "FastHttpUser is within 1 ms at p99 too: the load is too light to tell the clients apart"
        )
    missed += [
        f"the source was {row.source_lag_p99_ms:.1f} ms late at p99 under {row.client}: it limited"
        for row in (ours, theirs)
        if row.source_lag_p99_ms > SOURCE_LAG_LIMIT_MS
    ]
    planned = client_bench.STREAMS_OPEN * client_bench.RATE
    if ours.events_per_s < LEAST_RATE * planned:
        missed.append(f"{ours.events_per_s:,.0f} of {planned:,} events a second were written for sseproof")
    if ours.left_out or ours.received_share < LEAST_RECEIVED:
        missed.append(
            f"sseproof received {ours.received_share:.2%} of what was written, and {ours.left_out:,} events were left out "
            "because it was behind"
        )
    return missed


def parser_goals(rows: list[parser_bench.ParserRow]) -> list[str]:
    """At least twice httpx-sse at one event a chunk; not slower with CR LF or 64 KiB chunks."""
    return parser_bench.missed_goals(rows)


def table(title: str, rows: list[Any]) -> None:
    """A plain table: one row a struct, one column a field."""
    names = rows[0].__struct_fields__
    cells = [[_cell(getattr(row, name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(names)]
    print(title)
    print("  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)))
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    print()


def _cell(value: Any) -> str:
    """Three significant digits for small figures, whole numbers for large ones."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
