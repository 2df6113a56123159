"""`locust -f loadtests/locustfile.py` without the front door writes a run directory that judges."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sseproof.chaos.processes import PortLease
from sseproof.rundir.files import GENERATOR, PLAN_NAME, RUN_NAME, STREAMS, lines_of, read_document
from sseproof.rundir.machine import host_facts, versions
from sseproof.rundir.rows import Plan, RunInfo
from tests.integration.suite import directory_of, numbers, rows, served, sseproof, wait_for_rows

pytestmark = pytest.mark.integration

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtests" / "locustfile.py"


def locust(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", *arguments],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended_by_hand(process: subprocess.Popen[str]) -> str:
    """As Locust's own time limit ends it, when a test has what it needs: on a busy machine a time may not be enough."""
    process.terminate()
    return process.communicate(timeout=60)[0]


def test_one_process(tmp_path):
    secret = "pw-5b20e8d4-secret"
    with served() as url:
        address = f"{url}?events=4&interval_ms=20".replace("//", "//me:{env:PLANTED}@")
        options = ["--host", address, "-u", "5", "-r", "5", "-t", "90s"]
        environ = {"PLANTED": secret, "SSEPROOF_SEED": "11"}
        process = locust(*options, cwd=tmp_path, environ=environ)
        try:
            directory = wait_for_rows(tmp_path, 21)
            while not rows(directory, GENERATOR):
                assert process.poll() is None
                time.sleep(0.05)
            out = ended_by_hand(process)
        finally:
            process.kill()
    began, ended = numbers(directory)
    assert began == ended, out
    outcomes = {row.outcome for row in rows(directory, STREAMS)}
    assert outcomes <= {"complete", "unfinished"}
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    assert info.how == "finished"
    at_the_end = lines_of(directory)
    assert info.lines.keys() == at_the_end.keys()
    assert all(0 < lines <= at_the_end[schema] for schema, lines in info.lines.items())
    assert info.command == ["locust", "-f", str(LOCUSTFILE), "--headless", *options]
    assert (info.versions, info.host) == (versions(), host_facts())
    assert read_document(directory / PLAN_NAME, Plan, "plan").seed == 11
    assert "sseproof judge" in out
    assert secret not in out
    for path in directory.iterdir():
        assert secret.encode() not in path.read_bytes(), path.name
    judged = sseproof("judge", str(directory), cwd=tmp_path)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_a_master_and_two_workers(tmp_path):
    with served() as url:
        address = f"{url}?events=4&interval_ms=20"
        with PortLease(1) as lease:  # held until the end: another test's run would take a port that is let go
            port = str(lease.ports[0])
            master = locust(
                *["--host", address, "-u", "6", "-r", "6", "-t", "90s", "--master", "--expect-workers", "2"],
                *["--master-bind-host", "127.0.0.1", "--master-bind-port", port],
                cwd=tmp_path,
            )
            workers = [locust("--worker", "--master-port", port, cwd=tmp_path) for _ in range(2)]
            try:
                enough = 10
                while {row.worker for row in rows(wait_for_rows(tmp_path, enough), STREAMS)} != {0, 1}:
                    enough += 1
                out = ended_by_hand(master)
                for worker in workers:
                    worker.communicate(timeout=30)
            finally:
                for process in (master, *workers):
                    process.kill()
    began, ended = numbers(directory_of(tmp_path))
    assert began == ended, out
    assert len(set(began)) == len(began), "no number was given twice"


@pytest.mark.parametrize(
    ("host", "environ", "words"),
    [
        ("http://192.0.2.1/stream", {}, ["192.0.2.1 is not this machine", "--allow-target 192.0.2.1"]),
        ("http://me:pa55-word@127.0.0.1:9/s", {}, ["--host", "password", "{env:NAME}"]),
        ("http://k3y-value@127.0.0.1:9/s", {}, ["--host", "user", "{env:NAME}"]),
        ("http://127.0.0.1:9/s?q=1&api_key=k3y-value", {}, ["--host", "api_key", "{env:NAME}"]),
        ("http://127.0.0.1:bad/s", {}, ["--host", "not an http:// or https:// address"]),
        ("http://127.0.0.1:9/s", {"SSEPROOF_SEED": "abc"}, ["SSEPROOF_SEED", "'abc'", "whole number"]),
        ("http://127.0.0.1:9/s", {"SSEPROOF_SEED": "-1"}, ["SSEPROOF_SEED", "'-1'"]),
    ],
    ids=["consent", "password", "user", "query", "port", "seed", "negative seed"],
)
def test_what_it_refuses(tmp_path, host, environ, words):
    process = locust("--host", host, "-u", "1", "-t", "5s", cwd=tmp_path, environ=environ)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 64, out
    (sentence,) = [line for line in out.splitlines() if line.startswith("sseproof: ")]
    for word in words:
        assert word in sentence
    for secret in ("pa55-word", "k3y-value"):
        assert secret not in sentence
    assert "Traceback" not in out
    assert not (tmp_path / "runs").exists()


def test_without_a_host_it_says_what_to_give(tmp_path):
    process = locust("-u", "1", "-t", "5s", cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 64, out
    assert "--host" in out
    assert not (tmp_path / "runs").exists()
