"""Interrupts, kills and broken rigs: what is on disk is judged, and nothing stays alive."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sseproof.rundir.files import OPEN, PLAN_NAME, RUN_NAME, STARTS, STREAMS, read_document
from sseproof.rundir.rows import Plan, RunInfo
from tests.integration.suite import (
    carrying,
    claims,
    directory_of,
    gaps_of,
    nobody_listens,
    numbers,
    rows,
    series_counts,
    served,
    sseproof,
    started,
    verdict_of,
    wait_for_rows,
    worker_of,
)

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("SOAK_KILLS", "6"))
"""Few in CI; set it to 50 for a soak."""


@pytest.mark.parametrize(
    ("number", "code", "how"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_judges_what_is_there(tmp_path, number, code, how):
    with served() as url:
        options = ["--users", "20", "--duration", "60s", "--workers", "2"]
        run = started("run", "--target", url, *options, *claims("success >= 50%"), cwd=tmp_path)
        directory = wait_for_rows(tmp_path, 25)
        run.send_signal(number)
        out, err = run.communicate(timeout=30)
    assert run.returncode == code, out + err
    assert read_document(directory / RUN_NAME, RunInfo, "run").how == how
    began, ended = numbers(directory)
    assert began == ended, "the open streams wrote their rows too"
    gaps = gaps_of(rows(directory, STREAMS))
    assert series_counts(directory)["gap"] == gaps > 0, "what was not reported yet came with the last words"
    verdict = verdict_of(directory)
    assert verdict.totals.outcomes["unfinished"] >= 1
    assert "success >= 50%" in out


def test_an_interrupt_before_the_first_row(tmp_path):
    with served() as url:
        run = started(
            "run", "--target", f"{url}?script=endless", "--users", "2", "--duration", "60s", cwd=tmp_path
        )
        while not catches(run.pid, signal.SIGTERM):  # it has taken over both, and has not looked yet
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "Traceback" not in err


def catches(pid: int, number: int) -> bool:
    """Whether the process handles a signal itself, by the kernel's own word."""
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_killed_at_random_moments(tmp_path):
    """SIGKILL of the front process: no process of the run lives on, its ports are free, the directory judges."""
    chance = random.Random(2026)
    found = 0
    with served() as url:
        for round_number in range(KILLS):
            cwd = tmp_path / str(round_number)
            cwd.mkdir()
            marker = f"SSEPROOF_SECRET_MARK=round-{round_number}-{os.getpid()}"
            name, _, value = marker.partition("=")
            # Ten streams are open at the kill and count as failed: too many for 90 % of all that there can be in 9 s.
            options = ["--users", "10", "--duration", "30s", "--workers", "2", *claims("success >= 90%")]
            run = subprocess.Popen(
                [sys.executable, "-m", "sseproof", "run", "--target", url, *options],
                cwd=cwd,
                env={**os.environ, name: value},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if round_number == 0:
                wait_for_rows(cwd, 1)  # at least this kill meets a run that lives, however slow the machine
            else:
                time.sleep(chance.uniform(0.05, 9))
            run.kill()
            run.wait()
            deadline = time.monotonic() + 5
            while carrying(marker) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert carrying(marker) == []
            directories = [
                path for path in (cwd / "runs").glob("*/*") if not path.is_symlink() and path.name[0] != "."
            ]
            found += len(directories)
            for directory in directories:
                port = read_document(directory / PLAN_NAME, Plan, "plan").variants[0].master_port
                assert port is not None
                nobody_listens([port], max(0.0, deadline - time.monotonic()))
                judged = sseproof("judge", str(directory), cwd=cwd)
                assert judged.returncode in {1, 2}, judged.stdout + judged.stderr
                assert "interrupted" in judged.stdout.lower() or "unknown" in judged.stdout.lower()
    assert found, "no kill met a run that had begun"


def test_a_killed_worker_is_named_and_the_run_goes_on(tmp_path):
    with served() as url:
        options = ["--users", "20", "--duration", "12s", "--workers", "2"]
        run = started("run", "--target", url, *options, *claims("success >= 50%"), cwd=tmp_path)
        directory = wait_for_rows(tmp_path, 5)
        while not any(row.worker == 1 for row in rows(directory, STARTS)):  # later than the other, perhaps
            assert run.poll() is None, run.communicate()
            time.sleep(0.02)
        os.kill(worker_of(directory, 1), signal.SIGKILL)
        out, err = run.communicate(timeout=60)
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    assert info.workers_lost == [1], out + err
    began, ended = numbers(directory)
    assert set(ended) < set(began), "the lost worker's open streams have no end"
    verdict = verdict_of(directory)
    assert verdict.totals.outcomes["unfinished"] == len(began) - len(ended)
    assert any("worker" in problem.lower() for problem in verdict.problems)


@pytest.mark.alone
@pytest.mark.slow
def test_four_thousand_open_streams_lose_no_row(tmp_path):
    """4,000 subscriptions held by two workers when the run ends: every row is there."""
    with served() as url:
        address = f"{url}?script=endless&interval_ms=1000"
        options = ["--users", "4000", "--duration", "20s", "--workers", "2"]
        done = sseproof("run", "--target", address, *options, *claims("success >= 99%"), cwd=tmp_path)
    directory = directory_of(tmp_path)
    began, ended = numbers(directory)
    assert began == ended, done.stdout + done.stderr
    outcomes = verdict_of(directory).totals.outcomes
    assert outcomes == {"held": len(began)}, done.stdout
    assert len(began) == 4000
    assert rows(directory, OPEN), "a snapshot of the open streams was taken on the way"
