"""`make bench`: tables for people, JSON for machines; every ratio comes from one run on one machine.

Parts, each with its goals, which are said to be missed when they are: `parser` (against other parsers), `clients` (CPU per
event, error and loss beside Locust's own clients and k6), `saturation` (as fast as the source sends), `memory` (quiet
streams), `server` (the reference server beside a plain handler and sse-starlette), `holding` (streams that it holds),
`judge` (verdicts and report of many streams). Where a source was the bottleneck, that is said too.

    python bench/run.py [--json FILE] [--only PART]...
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

import clients as client_bench
import holding as holding_bench
import judging as judging_bench
import memory as memory_bench
import parser as parser_bench
import saturation as saturation_bench
import server as server_bench

PARTS = ("parser", "clients", "saturation", "memory", "server", "holding", "judge")


class Machine(msgspec.Struct):
    """Where the figures come from."""

    python: str
    kernel: str
    cores: int


class Bench(msgspec.Struct):
    """The JSON document; a part that was not asked for has no rows."""

    machine: Machine
    parser: list[parser_bench.ParserRow] = []
    clients: list[client_bench.ClientRow] = []
    client_cpu_ratios: dict[str, float] = {}
    """CPU per event of sseproof over that of each peer that is here."""
    saturation: list[saturation_bench.SaturationRow] = []
    memory: list[memory_bench.MemoryRow] = []
    server: list[server_bench.ServerRow] = []
    holding: list[holding_bench.HoldRow] = []
    judge: list[judging_bench.JudgingRow] = []
    missed: list[str] = []
    """Goals that this run did not meet."""


def main() -> int:
    """Measures, prints, writes; 0 when the goals are met, 1 when one is missed."""
    options = argparse.ArgumentParser(description="Benchmarks of sseproof beside its peers.")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    options.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        metavar="PART",
        help=f"of {', '.join(PARTS)}; may be repeated",
    )
    chosen = options.parse_args()
    bench = Bench(
        machine=Machine(
            python=platform.python_version(), kernel=platform.release(), cores=os.cpu_count() or 1
        )
    )
    for part in chosen.only or PARTS:
        _PARTS[part](bench)
    if chosen.json is not None:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(bench), indent=1) + b"\n")
    for sentence in bench.missed:
        print(f"missed: {sentence}")
    return 1 if bench.missed else 0


def _parser(bench: Bench) -> None:
    bench.parser = parser_bench.measure()
    table("Parser", bench.parser)
    bench.missed += parser_bench.missed_goals(bench.parser)


def _clients(bench: Bench) -> None:
    bench.clients = client_bench.measure()
    rows = [row for row in bench.clients if row.here]
    away = [row.client for row in bench.clients if not row.here]
    table(
        f"{client_bench.STREAMS_OPEN} streams x {client_bench.RATE} events/s in one process",
        rows,
        without="here",
    )
    ours, *peers = rows
    bench.client_cpu_ratios = {peer.client: ours.cpu_us_per_event / peer.cpu_us_per_event for peer in peers}
    for client, ratio in bench.client_cpu_ratios.items():
        print(f"CPU per event: {ratio:.2f} of {client}'s")
    for client in away:
        print(f"{client}: not here")
    print()
    bench.missed += client_bench.missed_goals(bench.clients)


def _saturation(bench: Bench) -> None:
    bench.saturation = saturation_bench.measure()
    table("As fast as the source sends, in one process", bench.saturation)
    bench.missed += saturation_bench.missed_goals(bench.saturation)


def _memory(bench: Bench) -> None:
    bench.memory = memory_bench.measure()
    table("Quiet streams, one event a second each, in one process", bench.memory)
    bench.missed += memory_bench.missed_goals(bench.memory)


def _server(bench: Bench) -> None:
    bench.server = server_bench.measure()
    table("Streams of the same events, each server one process", bench.server)
    bench.missed += server_bench.missed_goals(bench.server)


def _holding(bench: Bench) -> None:
    bench.holding = holding_bench.measure()
    table("Silent streams of one reference server", bench.holding)
    bench.missed += holding_bench.missed_goals(bench.holding)


def _judge(bench: Bench) -> None:
    bench.judge = judging_bench.measure()
    table("sseproof judge, in a process of its own", bench.judge)
    bench.missed += judging_bench.missed_goals(bench.judge)


_PARTS = dict(zip(PARTS, (_parser, _clients, _saturation, _memory, _server, _holding, _judge), strict=True))


def table(title: str, rows: Sequence[Any], *, without: str = "") -> None:
    """A plain table: one row a struct, one column a field but the one left out."""
    names = [name for name in rows[0].__struct_fields__ if name != without]
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
