"""CPU per event, error of the assigned instant and loss: sseproof inside Locust, Locust's own clients, and k6.

Each runs as one process with the same users on the same source, one after the other, several rounds in turn; k6 only where
a k6 with the extension xk6-sse is on PATH.
CPU is the process's own user and system time over a window in the middle, when all streams are open; events are what the
source wrote in it. Over the whole run what each client received is held against what was written, and against what the
source had to leave out because the client was behind: a client that drops its work would look cheap.
"error" is the instant the client assigned to an event minus the send time inside it, of the events in that window. sseproof
records in full (parser, dialect, gaps, ages, rows); its errors are read from the ages in series.hlog, second by second, at
the upper ends of the histogram's steps, which are 1 part in 128 wide.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import parts

from sseproof.loadtests.settings import Load
from sseproof.rundir.files import PLAN_NAME, STREAMS, Reading, read_document
from sseproof.rundir.rows import Plan
from sseproof.rundir.series import last_of_step
from sseproof.rundir.series_file import SeriesReading
from sseproof.rundir.units import Duration

STREAMS_OPEN: Final = 500
RATE: Final = 100
RAMP_S: Final = 6.0
WINDOW_S: Final = 6.0
LENGTH_S: Final = RAMP_S + WINDOW_S + 1
END_LIMIT_S: Final = 60.0
SSEPROOF: Final = "sseproof"
FASTHTTP: Final = "Locust FastHttpUser (readline)"
HTTPUSER: Final = "Locust HttpUser (iter_lines)"
K6: Final = "k6 with xk6-sse"
GOALS: Final = {FASTHTTP: 0.8, K6: 0.6}
"""CPU per event of sseproof over that of the peer, at most."""
GOAL_ERROR_P99_MS: Final = 0.2
"""Of sseproof, where that of FastHttpUser is above the next figure: else the load does not tell the clients apart."""
PEER_ERROR_P99_MS: Final = 5.0
LEAST_RECEIVED: Final = 0.99
"""The rest was in flight when the streams were closed."""
LEAST_RATE: Final = 0.95
"""Of the planned events a second: below it the load was not what the title says."""
SOURCE_LAG_LIMIT_MS: Final = 5.0


class ClientRow(msgspec.Struct, kw_only=True):
    """One client in one round."""

    client: str
    here: bool = True
    """False: the client is not on this machine, and nothing was measured."""
    events_per_s: float = 0.0
    cpu_us_per_event: float = 0.0
    error_p50_ms: float = 0.0
    error_p99_ms: float = 0.0
    within_1ms: float = 0.0
    lost: int = 0
    """Events with a number below the last one received that never came, in all rounds."""
    received_share: float = 0.0
    """Events received over events written, of the worst round; what was in flight when streams were closed is missing."""
    left_out: int = 0
    """Events that the source did not write because the client's buffers were full, in all rounds."""
    source_lag_p99_ms: float = 0.0


def measure(rounds: int = 2) -> list[ClientRow]:
    """The clients in turn, as `best_of` their rounds. sseproof comes first."""
    found: dict[str, list[ClientRow]] = {}
    for _ in range(rounds):
        for client in (_sseproof, _fasthttp, _httpuser, _k6):
            row = client()
            found.setdefault(row.client, []).append(row)
    return [best_of(rows) for rows in found.values()]


def best_of(rounds: list[ClientRow]) -> ClientRow:
    """The round with the least CPU, with what was missing in any: no round's loss is hidden by a better one."""
    best = min(rounds, key=lambda row: row.cpu_us_per_event)
    return msgspec.structs.replace(
        best,
        lost=sum(row.lost for row in rounds),
        left_out=sum(row.left_out for row in rounds),
        received_share=min(row.received_share for row in rounds),
    )


def missed_goals(rows: list[ClientRow]) -> list[str]:
    """CPU per event beside the peers, p99 of the error at most 0.2 ms where FastHttpUser's is above 5 ms, nothing lost."""
    ours = rows[0]
    missed = []
    for row in rows[1:]:
        goal = GOALS.get(row.client)
        ratio = ours.cpu_us_per_event / row.cpu_us_per_event if row.here else 0.0
        if goal is not None and ratio > goal:
            missed.append(f"CPU per event is {ratio:.2f} of that of {row.client}; the goal is {goal}")
        if row.client == FASTHTTP and row.error_p99_ms <= PEER_ERROR_P99_MS:
            missed.append(
                f"p99 of the error of {row.client} is {row.error_p99_ms:.2g} ms, not above {PEER_ERROR_P99_MS:g} ms: the "
                "load is too light to tell the clients apart"
            )
    if ours.error_p99_ms > GOAL_ERROR_P99_MS:
        missed.append(f"p99 of the error is {ours.error_p99_ms:.2g} ms; the goal is {GOAL_ERROR_P99_MS}")
    missed += [
        f"the source was {row.source_lag_p99_ms:.1f} ms late at p99 under {row.client}: it limited"
        for row in rows
        if row.here and row.source_lag_p99_ms > SOURCE_LAG_LIMIT_MS
    ]
    planned = STREAMS_OPEN * RATE
    if ours.events_per_s < LEAST_RATE * planned:
        missed.append(f"{ours.events_per_s:,.0f} of {planned:,} events a second were written for sseproof")
    if ours.lost or ours.left_out or ours.received_share < LEAST_RECEIVED:
        missed.append(
            f"sseproof lost {ours.lost:,} events, received {ours.received_share:.2%} of what was written, and "
            f"{ours.left_out:,} were left out because it was behind"
        )
    return missed


def _sseproof() -> ClientRow:
    with tempfile.TemporaryDirectory() as folder, parts.PacedSource(RATE) as source:
        load = Load(model="closed", users=STREAMS_OPEN, duration=Duration(round(LENGTH_S * 1e9)))
        directory = parts.run_directory(Path(folder), source.port, load, "subscription")
        planned = _Window.from_now()
        with parts.locust(
            parts.sseproof_command(source.port), STREAMS_OPEN, parts.plan_environ(directory)
        ) as process:
            window = _watched(process, source, planned)
        summary = source.stop()
        records = list(Reading(directory, STREAMS))
        return _row(
            SSEPROOF,
            window,
            _ages_ms(directory, planned),
            received=sum(record.events for record in records),
            lost=sum(record.lost or 0 for record in records),
            summary=summary,
        )


def _ages_ms(directory: Path, window: "_Window") -> dict[float, int]:
    """Of the events in the seconds that lie in the window."""
    ages: dict[float, int] = {}
    run = read_document(directory / PLAN_NAME, Plan, "plan").run
    for interval, counts in SeriesReading(directory, run):
        if (
            interval.tag == "age"
            and interval.start_ns >= window.begins_s * 1e9
            and interval.end_ns <= window.ends_s * 1e9
        ):
            for value, count in counts.items():
                top = last_of_step(value) / 1e6
                ages[top] = ages.get(top, 0) + count
    return ages


def _fasthttp() -> ClientRow:
    return _peer(FASTHTTP, lambda port: _locust_of("fasthttp_locustfile.py", port))


def _httpuser() -> ClientRow:
    return _peer(HTTPUSER, lambda port: _locust_of("httpuser_locustfile.py", port))


def _locust_of(name: str, port: int) -> list[str]:
    command = parts.locust_command(
        [str(parts.BENCH / name), "--host", f"http://127.0.0.1:{port}"], STREAMS_OPEN
    )
    return [*command, "--run-time", f"{LENGTH_S:.0f}s"]


def _k6() -> ClientRow:
    k6 = shutil.which("k6")
    if k6 is None or not _has_sse(k6):
        return ClientRow(client=K6, here=False)
    script = str(parts.BENCH / "k6_sse.js")
    return _peer(
        K6,
        lambda port: [
            *(
                k6,
                "run",
                "--quiet",
                "--no-usage-report",
                "--vus",
                str(STREAMS_OPEN),
                "--duration",
                f"{LENGTH_S:.0f}s",
            ),
            *("-e", f"URL=http://127.0.0.1:{port}/", "-e", f"LENGTH_S={LENGTH_S}", script),
        ],
    )


def _has_sse(k6: str) -> bool:
    """Whether this k6 was built with the extension."""
    said = subprocess.run([k6, "version"], capture_output=True, text=True, timeout=30, check=False)
    return "xk6-sse" in said.stdout


def _peer(name: str, command: Callable[[int], list[str]]) -> ClientRow:
    """A client that writes ages in ms with their counts, and how many events it lost, to BENCH_RESULT."""
    with tempfile.TemporaryDirectory() as folder, parts.PacedSource(RATE) as source:
        result = Path(folder) / "result.json"
        planned = _Window.from_now()
        environ = {
            **os.environ,
            "BENCH_RESULT": str(result),
            "BENCH_WINDOW": f"{planned.begins_s} {planned.ends_s}",
        }
        with parts.silent(command(source.port), environ) as process:
            window = _watched(process, source, planned)
        summary = source.stop()
        found = json.loads(result.read_text("ascii"))
        ages = {float(ms): count for ms, count in found["ages_ms"].items()}
        return _row(name, window, ages, received=found["received"], lost=found["lost"], summary=summary)


class _Window(msgspec.Struct):
    """The seconds in the middle, since the epoch."""

    begins_s: float
    ends_s: float

    @classmethod
    def from_now(cls) -> "_Window":
        begins_s = time.time() + RAMP_S
        return cls(begins_s, begins_s + WINDOW_S)


class _Watched(msgspec.Struct):
    cpu_s: float
    seconds: float
    events: int
    source_lag_p99_ms: float


def _watched(process: "subprocess.Popen[bytes]", source: parts.PacedSource, window: _Window) -> _Watched:
    """Waits for the client's end; its CPU time over the window, the events written in it and how late they were."""
    time.sleep(window.begins_s - time.time())
    before, said, began = parts.cpu_s(process.pid), source.said(), time.monotonic()
    time.sleep(window.ends_s - time.time())
    cpu_s, ended, seconds = parts.cpu_s(process.pid) - before, source.said(), time.monotonic() - began
    process.wait(END_LIMIT_S)
    return _Watched(
        cpu_s=cpu_s,
        seconds=seconds,
        events=ended.written - said.written,
        source_lag_p99_ms=ended.lag_p99_ms,
    )


def _row(
    name: str,
    window: _Watched,
    errors_ms: dict[float, int],
    *,
    received: int,
    lost: int,
    summary: parts.Summary,
) -> ClientRow:
    return ClientRow(
        client=name,
        events_per_s=window.events / window.seconds,
        cpu_us_per_event=window.cpu_s / window.events * 1e6,
        error_p50_ms=parts.percentile(errors_ms, 0.5),
        error_p99_ms=parts.percentile(errors_ms, 0.99),
        within_1ms=sum(count for ms, count in errors_ms.items() if ms <= 1) / sum(errors_ms.values()),
        lost=lost,
        received_share=received / summary.written,
        left_out=summary.blocked,
        source_lag_p99_ms=window.source_lag_p99_ms,
    )
