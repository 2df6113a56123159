"""CPU per event and error of the assigned instant: sseproof inside Locust against Locust's FastHttpUser.

Both run as one Locust process with the same users on the same source, one after the other, several rounds in turn;
CPU is the process's own user and system time over a window in the middle, events are what the source wrote in it; over the
whole run what each client received is held against what was written, and against what the source had to leave out because
the client was behind: a client that drops its work would look cheap.
"error" is the instant the client assigned to an event minus the send time inside it. sseproof records in full (parser,
dialect, gaps, ages, rows); its errors are read from the rows' histograms, so p99 is the edge below which 99 % lie.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self

import msgspec

from sseproof.loadtests.settings import Client, Load, Target
from sseproof.rundir.clock import now_ns
from sseproof.rundir.files import PLAN_NAME, STREAMS, Reading
from sseproof.rundir.layout import PLAN_VARIABLE, create_run_directory, new_run_id
from sseproof.rundir.rows import GAP_GRID_NS, AddressPlan, Plan, RunInfo, VariantPlan
from sseproof.rundir.units import Duration, to_raw

STREAMS_OPEN: Final = 500
RATE: Final = 100
RAMP_S: Final = 6.0
WINDOW_S: Final = 6.0
BENCH: Final = Path(__file__).resolve().parent
LOCUSTFILE: Final = BENCH.parent / "loadtests" / "locustfile.py"


class ClientRow(msgspec.Struct):
    """One client in one round."""

    client: str
    events_per_s: float
    cpu_us_per_event: float
    error_p50_ms: float
    error_p99_ms: float
    within_1ms: float
    received_share: float
    """Events received over events written, of the whole run; what was in flight when streams were closed is missing."""
    left_out: int
    """Events that the source did not write because the client's buffers were full."""
    source_lag_p99_ms: float


def measure(rounds: int = 2) -> list[ClientRow]:
    """Both clients in turn; the best (least CPU) round of each."""
    rows: dict[str, ClientRow] = {}
    for _ in range(rounds):
        for row in (_sseproof(), _fasthttp()):
            best = rows.get(row.client)
            if best is None or row.cpu_us_per_event < best.cpu_us_per_event:
                rows[row.client] = row
    return list(rows.values())


def _sseproof() -> ClientRow:
    with tempfile.TemporaryDirectory() as folder, _Source() as source:
        directory = _plan(Path(folder), source.port)
        environ = {**os.environ, PLAN_VARIABLE: str(directory / PLAN_NAME)}
        window = _watched([str(LOCUSTFILE), "--host", f"http://127.0.0.1:{source.port}"], environ, source)
        summary = source.stop()
        errors = [0] * (len(GAP_GRID_NS) + 1)
        for record in Reading(directory, STREAMS):
            for bucket, count in enumerate(record.ages.hi if record.ages else []):
                errors[bucket] += count
        edges_ms = [edge / 1e6 for edge in GAP_GRID_NS] + [float("inf")]
        return _row("sseproof", window, dict(zip(edges_ms, errors, strict=True)), summary)


def _plan(root: Path, port: int) -> Path:
    created_ns = now_ns()
    run = new_run_id(1, created_ns)
    load = Load(users=STREAMS_OPEN, duration=Duration(round((RAMP_S + WINDOW_S + 1) * 1e9)))
    target = Target(
        url=f"http://127.0.0.1:{port}/",
        kind="subscription",
        terminal="none",
        sequence="id",
        text="json:text",
        sent_at="json:sent_at",
    )
    variant = VariantPlan(
        target=to_raw(target),
        load=to_raw(load),
        client=to_raw(Client()),
        addresses=[AddressPlan(host="127.0.0.1", port=port)],
    )
    plan = Plan(
        run=run,
        scenario="bench",
        seed=1,
        created_ns=created_ns,
        variants=[variant],
        gap_edges_ns=list(GAP_GRID_NS),
    )
    return create_run_directory(root, plan, RunInfo(run=run, started_ns=created_ns))


def _fasthttp() -> ClientRow:
    with tempfile.TemporaryDirectory() as folder, _Source() as source:
        result = Path(folder) / "ages.json"
        environ = {**os.environ, "BENCH_RESULT": str(result)}
        arguments = [
            str(BENCH / "fasthttp_locustfile.py"),
            *["--host", f"http://127.0.0.1:{source.port}", "--run-time", f"{RAMP_S + WINDOW_S + 1:.0f}s"],
        ]
        window = _watched(arguments, environ, source)
        summary = source.stop()
        ages = {int(us) / 1000: count for us, count in json.loads(result.read_text("ascii")).items()}
        return _row("Locust FastHttpUser (readline)", window, ages, summary)


class _Window(msgspec.Struct):
    cpu_s: float
    seconds: float
    events: int


def _watched(arguments: list[str], environ: dict[str, str], source: "_Source") -> _Window:
    """Runs one Locust process to its end; its CPU time over the window and the events written in it."""
    command = [sys.executable, "-m", "locust", "-f", *arguments, "--headless", "--only-summary"]
    command += ["--users", str(STREAMS_OPEN), "--spawn-rate", str(STREAMS_OPEN), "--loglevel", "ERROR"]
    process = subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(RAMP_S)
        before, written, began = _cpu_s(process.pid), source.written(), time.monotonic()
        time.sleep(WINDOW_S)
        window = _Window(
            cpu_s=_cpu_s(process.pid) - before,
            events=source.written() - written,
            seconds=time.monotonic() - began,
        )
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    return window


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Summary(msgspec.Struct):
    """What the source says at its end."""

    written: int
    blocked: int
    lag_p99_ms: float


class _Source:
    """The event source as a child."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(BENCH / "source.py"), str(RATE)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def written(self) -> int:
        """Events written so far."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGUSR1)
        return int(self._process.stdout.readline())

    def stop(self) -> "_Summary":
        """Ends it; what it wrote, and how late."""
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=10)
        return msgspec.json.decode(out, type=_Summary)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _row(name: str, window: _Window, errors_ms: dict[float, int], summary: _Summary) -> ClientRow:
    total = sum(errors_ms.values())
    return ClientRow(
        client=name,
        events_per_s=window.events / window.seconds,
        cpu_us_per_event=window.cpu_s / window.events * 1e6,
        error_p50_ms=_percentile(errors_ms, total, 0.5),
        error_p99_ms=_percentile(errors_ms, total, 0.99),
        within_1ms=sum(count for ms, count in errors_ms.items() if ms <= 1) / total,
        received_share=total / summary.written,
        left_out=summary.blocked,
        source_lag_p99_ms=summary.lag_p99_ms,
    )


def _percentile(errors_ms: dict[float, int], total: int, share: float) -> float:
    seen = 0
    for value in sorted(errors_ms):
        seen += errors_ms[value]
        if seen >= share * total:
            return value
    return float("nan")
