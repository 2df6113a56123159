"""What the integration tests share: the real server as a child, the real command line, and what a run left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sseproof.reports.judge import RunVerdict
from sseproof.rundir.files import STARTS, STREAMS, WITNESS, Reading

READY = re.compile(r"(http://127\.0\.0\.1:\d+/\S+)")
RUN_LIMIT_S = 110


@contextlib.contextmanager
def served(*options: str) -> Iterator[str]:
    """The reference server by its own command; gives the address of its stream."""
    command = [sys.executable, "-m", "sseproof", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = READY.search(line)
        assert found, f"the server said {line!r}"
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


def sseproof(
    *arguments: str, cwd: Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sseproof", *arguments],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )


def started(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """One command line, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "sseproof", *arguments],
        cwd=cwd,
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
    """What verdict.json says."""
    return msgspec.json.decode((directory / "verdict.json").read_bytes(), type=RunVerdict)


def verdicts_of(directory: Path) -> dict[str, str]:
    """Metric → pass, fail or unknown."""
    return {verdict.metric: verdict.verdict for verdict in verdict_of(directory).verdicts}


def rows(directory: Path, file: object) -> list:
    """Every whole row of one file."""
    return list(Reading(directory, file))  # type: ignore[arg-type]


def numbers(directory: Path) -> tuple[list[int], list[int]]:
    """Stream numbers that started, and that ended."""
    return (
        sorted(row.stream for row in rows(directory, STARTS)),
        sorted(row.stream for row in rows(directory, STREAMS)),
    )


def witnesses(directory: Path) -> list:
    """The server's rows of the run."""
    return rows(directory, WITNESS)
