"""`locust -f loadtests/locustfile.py` without the front door writes a run directory that judges."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sseproof.chaos.processes import PortLease
from sseproof.rundir.files import RUN_NAME, STREAMS, read_document
from sseproof.rundir.rows import RunInfo
from tests.integration.suite import directory_of, numbers, rows, served, sseproof

pytestmark = pytest.mark.integration

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtests" / "locustfile.py"


def locust(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", *arguments],
        cwd=cwd,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_one_process(tmp_path):
    with served() as url:
        address = f"{url}?events=4&interval_ms=20"
        out, _ = locust("--host", address, "-u", "5", "-r", "5", "-t", "5s", cwd=tmp_path).communicate(
            timeout=60
        )
    directory = directory_of(tmp_path)
    began, ended = numbers(directory)
    assert began == ended, out
    assert len(ended) > 20
    outcomes = {row.outcome for row in rows(directory, STREAMS)}
    assert outcomes <= {"complete", "unfinished"}
    assert read_document(directory / RUN_NAME, RunInfo, "run").how == "finished"
    assert "sseproof judge" in out
    judged = sseproof("judge", str(directory), cwd=tmp_path)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_a_master_and_two_workers(tmp_path):
    with served() as url:
        address = f"{url}?events=4&interval_ms=20"
        with PortLease(1) as lease:
            port = str(lease.ports[0])
        master = locust(
            *["--host", address, "-u", "6", "-r", "6", "-t", "6s", "--master", "--expect-workers", "2"],
            *["--master-bind-host", "127.0.0.1", "--master-bind-port", port],
            cwd=tmp_path,
        )
        workers = [locust("--worker", "--master-port", port, cwd=tmp_path) for _ in range(2)]
        out, _ = master.communicate(timeout=60)
        for worker in workers:
            worker.communicate(timeout=30)
    directory = directory_of(tmp_path)
    began, ended = numbers(directory)
    assert began == ended, out
    assert len(set(began)) == len(began), "no number was given twice"
    assert {row.worker for row in rows(directory, STREAMS)} == {0, 1}


def test_without_a_host_it_says_what_to_give(tmp_path):
    process = locust("-u", "1", "-t", "5s", cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 64, out
    assert "--host" in out
    assert not (tmp_path / "runs").exists()
