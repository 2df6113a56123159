"""What the integration tests share: the real server as a child, the real command line, and what a run left behind."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from sseproof.chaos.install import install
from sseproof.reports.judge import RunVerdict
from sseproof.rundir.files import LOG_NAME, PLAN_NAME, STARTS, STREAMS, WITNESS, Reading
from sseproof.rundir.rows import StreamRecord
from sseproof.rundir.series_file import SeriesReading

READY = re.compile(r"(http://127\.0\.0\.1:\d+/\S+)")
RUN_LIMIT_S = 110


@contextlib.contextmanager
def served(*options: str) -> Iterator[str]:
    """The reference server by its own command; gives the address of its stream."""
    with serving(*options) as (url, _):
        yield url


@contextlib.contextmanager
def serving(*options: str) -> Iterator[tuple[str, int]]:
    """As `served`, and the process that serves."""
    command = [sys.executable, "-m", "sseproof", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = READY.search(line)
        assert found, f"the server said {line!r}"
        yield found[1], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


def sseproof(
    *arguments: str, cwd: Path, environ: dict[str, str] | None = None, limit_s: float = RUN_LIMIT_S
) -> subprocess.CompletedProcess[str]:
    """One command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sseproof", *arguments],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def started(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """One command line, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "sseproof", *arguments],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def claims(*texts: str) -> list[str]:
    """As options of `run`."""
    return [word for text in texts for word in ("--claim", text)]


def directory_of(cwd: Path) -> Path:
    """The newest run directory below a working folder."""
    (latest,) = (cwd / "runs").glob("*/latest")
    return latest.resolve()


def verdict_of(directory: Path) -> RunVerdict:
    """What verdict.json says; a traceback in the log, which no verdict shows, fails the test."""
    assert "Traceback" not in (directory / LOG_NAME).read_text("utf-8", "replace")
    return msgspec.json.decode((directory / "verdict.json").read_bytes(), type=RunVerdict)


def verdicts_of(directory: Path) -> dict[str, str]:
    """Metric → pass, fail or unknown."""
    return {verdict.metric: verdict.verdict for verdict in verdict_of(directory).verdicts}


def rows(directory: Path, file: object) -> list:
    """Every whole row of one file."""
    return list(Reading(directory, file))  # type: ignore[arg-type]


def series_counts(directory: Path) -> Counter[str]:
    """Values in each series of series.hlog, by tag."""
    reading = SeriesReading(directory, plan_of(directory)["run"])
    counts: Counter[str] = Counter()
    for interval, steps in reading:
        counts[interval.tag] += sum(steps.values())
    assert not reading.problem
    return counts


def gaps_of(records: Iterable[StreamRecord]) -> int:
    """Gaps in all these rows."""
    return sum(record.gaps.count for record in records if record.gaps is not None)


def numbers(directory: Path) -> tuple[list[int], list[int]]:
    """Stream numbers that started, and that ended."""
    return (
        sorted(row.stream for row in rows(directory, STARTS)),
        sorted(row.stream for row in rows(directory, STREAMS)),
    )


def witnesses(directory: Path) -> list:
    """The server's rows of the run."""
    return rows(directory, WITNESS)


def wait_for_rows(cwd: Path, count: int, limit_s: float = 80) -> Path:
    """Until that many streams have ended."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(ValueError, FileNotFoundError):
            directory = directory_of(cwd)
            if len(rows(directory, STREAMS)) >= count:
                return directory
        time.sleep(0.02)
    raise AssertionError("no rows came")


def stock_server(folder: Path) -> Path:
    """A program that says it is a stock one."""
    program = folder / "stock"
    found = install(print)
    program.write_text(
        '#!/bin/sh\n[ "$1" = -version ] && { echo toxiproxy-server version 2.12.0; exit; }\n'
        f'exec {found.path} "$@"\n'
    )
    program.chmod(0o755)
    return program


# --- the plan ---

TIMES_AND_PORTS = {
    "run",
    "created_ns",
    "port",
    "master_port",
    "url",
    "upstream",
    "connect_ns",
    "queue_ns",
    "ttft_ns",
    "length_ns",
    "looked_ns",
    "address",
}


def plan_of(directory: Path) -> dict:
    """plan.json, as it lies there."""
    return json.loads((directory / PLAN_NAME).read_bytes())


def stripped(value):
    """The plan without ports and times (the run's id is a time)."""
    if isinstance(value, dict):
        return {
            key: "-" if key in {"name", "proxy"} and str(each).startswith("sseproof-") else stripped(each)
            for key, each in value.items()
            if key not in TIMES_AND_PORTS
        }
    return [stripped(each) for each in value] if isinstance(value, list) else value


# --- what is left of a run ---


def ports_of(directory: Path) -> list[int]:
    """Every port that the plan of a run of our own parts names: proxies, hops, servers, masters."""
    plan = plan_of(directory)
    proxies = (plan["faults"] or {"proxies": []})["proxies"]
    variants = plan["variants"]
    found = {
        *(proxy["port"] for proxy in proxies),
        *(int(proxy["upstream"].rpartition(":")[2]) for proxy in proxies),
        *(address["port"] for variant in variants for address in variant["addresses"]),
        *(urlsplit(variant["target"]["url"]).port for variant in variants),
        *(variant["master_port"] for variant in variants),
    }
    return sorted(found)


def listening(port: int) -> bool:
    """Whether anybody accepts connections there."""
    with socket.socket() as probe:
        # A connect from a port to itself succeeds too, without anybody there.
        return probe.connect_ex(("127.0.0.1", port)) == 0 and probe.getsockname() != probe.getpeername()


def has_ipv6() -> bool:
    """Whether this machine has a loopback of IPv6: many a container has none."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def listened_by(pids: Iterable[int]) -> list[int]:
    """The TCP ports of IPv4 on which these processes accept connections, by the kernel's own tables."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(str(entry.readlink()))
    found = set()
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            found.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(found)


def nobody_listens(ports: Sequence[int], limit_s: float = 0) -> None:
    """Each of them refuses, at once or within the limit, or a test that runs beside this one has it by now.

    After a kill it takes a moment: a dying process loses its memory first, which takes it out of the lists of the living,
    and its sockets last.
    """
    assert ports
    deadline = time.monotonic() + limit_s
    while (open_ports := _still_open(ports)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert open_ports == []


def _still_open(ports: Iterable[int]) -> list[int]:
    """Those that somebody accepts connections on, but what runs for other workers of pytest-xdist."""
    found = [port for port in ports if listening(port)]
    if found:
        theirs = listened_by(beside_us())
        # Asked once more: a neighbour may have ended between the two looks.
        found = [port for port in found if port not in theirs and listening(port)]
    return found


def beside_us() -> set[int]:
    """Live processes that descend from other workers of pytest-xdist: what a port of a run that is over may belong to."""
    if "PYTEST_XDIST_WORKER" not in os.environ or os.getppid() == 1:  # whose children all orphans become
        return set()
    # What a run left behind has lost its parents, so it is never taken for a neighbour.
    parents = {pid: parent_of(entry) for pid, entry in _processes()}
    found = {pid for pid, parent in parents.items() if parent == os.getppid() and pid != os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def carrying(marker: str) -> list[int]:
    """Live processes that carry the marker in their environment: whatever a run started."""
    return [
        pid
        for pid, entry in _processes()
        if marker.encode() in _read(entry / "environ") and state(entry) not in {"Z", ""}
    ]


def worker_of(directory: Path, number: int) -> int:
    """The process of one worker of a run that lives."""
    wanted = f"SSEPROOF_WORKER={number}\0".encode()
    return next(
        pid
        for pid in carrying(str(directory / PLAN_NAME))
        if wanted in Path(f"/proc/{pid}/environ").read_bytes()
    )


def living_in(folder: Path) -> dict[int, str]:
    """Live processes that work in a folder or below, with their command lines.

    nginx overwrites its environment with its title; the folder it was started in stays.
    """
    found = {}
    for pid, entry in _processes():
        with contextlib.suppress(OSError):
            place = (entry / "cwd").readlink()
            if place.is_relative_to(folder) and state(entry) not in {"Z", ""}:
                found[pid] = _read(entry / "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def gone_from(folder: Path, limit_s: float = 5) -> dict[int, str]:
    """The processes of a folder that are still there after the limit; none, as soon as there are none."""
    deadline = time.monotonic() + limit_s
    while (left := living_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def state(entry: Path) -> str:
    """The letter of a process's state; empty when it is gone."""
    return _read(entry / "stat").decode(errors="replace").rpartition(")")[2].strip()[:1]


def parent_of(entry: Path) -> int:
    """The process above; 0 when it is gone."""
    fields = _read(entry / "stat").decode(errors="replace").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _processes() -> Iterator[tuple[int, Path]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name), entry


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""
