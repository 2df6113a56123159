"""What the benches share: a run directory to record in, child processes, their processor time, percentiles."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from sseproof.loadtests import LOCUSTFILE
from sseproof.loadtests.settings import Client, Load, Target
from sseproof.rundir.clock import now_ns
from sseproof.rundir.files import PLAN_NAME
from sseproof.rundir.layout import PLAN_VARIABLE, create_run_directory, new_run_id
from sseproof.rundir.rows import GAP_GRID_NS, AddressPlan, Plan, RunInfo, StreamKind, VariantPlan
from sseproof.rundir.units import to_raw

BENCH: Final = Path(__file__).resolve().parent
EDGES_MS: Final = [*(edge / 1e6 for edge in GAP_GRID_NS), float("inf")]
"""Upper edges of the buckets of a row's histogram."""


def run_directory(root: Path, port: int, load: Load, kind: StreamKind) -> Path:
    """A run directory with a plan for streams from a bench source, recorded in full."""
    created_ns = now_ns()
    run = new_run_id(1, created_ns)
    target = Target(
        url=f"http://127.0.0.1:{port}/",
        kind=kind,
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


def sseproof_command(port: int) -> list[str]:
    """What Locust needs to run ours; with `plan_environ`."""
    return [str(LOCUSTFILE), "--host", f"http://127.0.0.1:{port}"]


def plan_environ(directory: Path) -> dict[str, str]:
    """The environment of a Locust process that works for this run directory."""
    return {**os.environ, PLAN_VARIABLE: str(directory / PLAN_NAME)}


@contextlib.contextmanager
def locust(
    arguments: list[str], users: int, environ: Mapping[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    """One Locust process, headless and silent; gone afterwards."""
    with silent(locust_command(arguments, users), environ) as process:
        yield process


def locust_command(arguments: list[str], users: int) -> list[str]:
    """One Locust process, headless; `arguments` begin with the locustfile."""
    command = [sys.executable, "-m", "locust", "-f", *arguments, "--headless", "--only-summary"]
    return [*command, "--users", str(users), "--spawn-rate", str(users), "--loglevel", "ERROR"]


@contextlib.contextmanager
def silent(command: list[str], environ: Mapping[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    """A child whose words are nobody's; gone afterwards."""
    process = subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(counts: Mapping[float, int], share: float) -> float:
    """The smallest value that at least this share of the counted ones do not exceed."""
    total = sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * total:
            return value
    return float("nan")


class Summary(msgspec.Struct):
    """What a paced source says: what it did in all, and how late it was since it said so last."""

    written: int
    blocked: int
    lag_p99_ms: float


class PacedSource:
    """bench/source.py as a child: so many events a second in every stream, each with its send time."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(BENCH / "source.py"), str(self._rate)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def said(self) -> Summary:
        """So far."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGUSR1)
        return msgspec.json.decode(self._process.stdout.readline(), type=Summary)

    def stop(self) -> Summary:
        """Ends it; what it did."""
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=10)
        return msgspec.json.decode(out, type=Summary)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
