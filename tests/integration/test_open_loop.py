"""Streams that start by a schedule, with real workers: every planned start is on record, whatever happens to it."""

import math
import os
import signal

import pytest

from sseproof.rundir.files import GENERATOR, STARTS, STREAMS
from tests.integration.suite import (
    claims,
    directory_of,
    gaps_of,
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

MS = 1_000_000
LATE_MS = 10
"""Dispatch lag at p99 that the generator is allowed; above it the report has to say so."""
LARGEST_STEP = 1 / 128
"""By so much the steps of its histogram make a lag less."""


def offsets_of(starts: list) -> dict[int, int]:
    """Number → intended start in ns since that of number 0."""
    first = next(row.intended.ns for row in starts if row.stream == 0)
    return {row.stream: row.intended.ns - first for row in starts}


def test_two_workers_make_every_planned_start_once(tmp_path):
    """200 starts a second: one schedule, one start instant, no start twice and none left out."""
    with served() as url:
        done = sseproof(
            *["run", "--target", f"{url}?events=2&interval_ms=5", "--rate", "200", "--duration", "3s"],
            *["--workers", "2", "--set", "load.warmup=1s", *claims("success >= 98%", "ttft p95 <= 30s")],
            cwd=tmp_path,
        )
    directory = directory_of(tmp_path)
    starts = rows(directory, STARTS)
    assert sorted(row.stream for row in starts) == list(range(600)), done.stdout + done.stderr
    assert {row.stream for row in starts if row.warmup} == set(range(200))
    assert {row.stream % 2 == row.worker for row in starts} == {True}
    assert offsets_of(starts) == {number: number * 5 * MS for number in range(600)}
    records = {row.stream: row for row in rows(directory, STREAMS)}
    assert sorted(records) == list(range(600))
    lags = sorted(row.dispatched.ns - row.intended.ns for row in records.values())
    assert lags[0] >= 0, "no start is early"
    assert all(row.intended.hi_ns == max(row.dispatched.ns, row.intended.ns) for row in records.values())
    verdict = verdict_of(directory)
    assert done.returncode == 0, done.stdout + done.stderr
    success, ttft = verdict.verdicts
    assert (success.n, ttft.n, verdict.totals.warmup) == (400, 400, 200)
    assert ttft.reading == "from plan"
    late_ms = lags[math.ceil(0.99 * len(lags)) - 1] / MS * (1 - LARGEST_STEP)
    indicator = "dispatch lag p99, worst second"
    out_of_limit = {row.indicator for row in verdict.rig if row.within is False}
    if late_ms > LATE_MS:
        assert indicator in out_of_limit, f"{late_ms} ms late, and nobody says so"
        assert f"{indicator}: " in " ".join(done.stdout.split())
    told = [
        row.dispatch_lag_max_ns for row in rows(directory, GENERATOR) if row.dispatch_lag_max_ns is not None
    ]
    assert max(told) == lags[-1], "the generator knows its own lateness"


def test_two_runs_at_once_have_rows_of_their_own(tmp_path):
    """The same folder, scenario and server; the number of events tells whose a row is."""
    with served() as url:
        runs = {
            events: started(
                *[
                    "run",
                    "--target",
                    f"{url}?events={events}&interval_ms=5",
                    "--rate",
                    "10",
                    "--duration",
                    "6s",
                ],
                *["--workers", "2", *claims("success >= 90%")],
                cwd=tmp_path,
            )
            for events in (2, 3)
        }
        said = {events: run.communicate(timeout=90) for events, run in runs.items()}
    assert [run.returncode for run in runs.values()] == [0, 0], said
    folders = [path for path in (tmp_path / "runs" / "run").iterdir() if not path.is_symlink()]
    spans = []
    seen = []
    for directory in folders:
        records = rows(directory, STREAMS)
        assert sorted(row.stream for row in rows(directory, STARTS)) == list(range(60))
        assert sorted(row.stream for row in records) == list(range(60))
        assert {row.worker for row in records} == {0, 1}
        (events,) = {row.events for row in records}
        seen.append(events)
        spans.append((min(row.dispatched.ns for row in records), max(row.dispatched.ns for row in records)))
        (success,) = verdict_of(directory).verdicts
        assert success.n == 60
    assert len(set(seen)) == len(folders) == 2, "each has its own target's answers only"
    assert max(began for began, _ in spans) < min(ended for _, ended in spans), "they were at once"


def test_a_slow_service_does_not_thin_the_load_and_a_full_house_drops(tmp_path):
    """Answers of 2 s at 20 starts a second: 10 may be open, so the others are dropped, and no claim can pass."""
    with served() as url:
        done = sseproof(
            *["run", "--target", f"{url}?first_token_ms=2000&events=1", "--rate", "20", "--duration", "3s"],
            *["--set", "load.max_open=10", *claims("success >= 50%")],
            cwd=tmp_path,
        )
    directory = directory_of(tmp_path)
    starts = rows(directory, STARTS)
    assert sorted(row.stream for row in starts) == list(range(60))
    dropped = {row.stream for row in starts if row.dropped}
    assert set(range(10)) & dropped == set()
    assert set(range(11, 20)) <= dropped, "while ten are open"
    records = rows(directory, STREAMS)
    freed_ns = min(row.ended.ns for row in records)
    assert all(row.dispatched.ns >= freed_ns for row in records if row.stream >= 10)
    assert all(row.intended is not None and row.dispatched is None for row in starts if row.dropped)
    verdict = verdict_of(directory)
    assert verdict.totals.outcomes["dropped"] == len(dropped)
    assert verdict.totals.outcomes["complete"] == 60 - len(dropped)
    (success,) = verdict.verdicts
    assert (success.verdict, success.n, success.dropped) == ("unknown", 60 - len(dropped), len(dropped))
    assert "load.max_open" in success.next, done.stdout
    assert sum(row.dropped for row in rows(directory, GENERATOR)) == len(dropped)


def test_spent_requests_end_the_schedule_and_are_no_drops(tmp_path):
    """Two workers share ten requests of sixty planned starts: ten streams are judged, and the fifty others are said."""
    with served() as url:
        done = sseproof(
            *["run", "--target", f"{url}?events=2&interval_ms=5", "--rate", "20", "--duration", "3s"],
            *["--workers", "2", "--max-requests", "10", *claims("success >= 50%")],
            cwd=tmp_path,
        )
    directory = directory_of(tmp_path)
    starts = rows(directory, STARTS)
    assert {row.stream for row in starts if not row.dropped} == set(range(10)), done.stdout + done.stderr
    assert len(starts) == 10
    verdict = verdict_of(directory)
    (success,) = verdict.verdicts
    assert (success.verdict, success.n, success.dropped, success.unfinished) == ("pass", 10, 0, 0)
    assert done.returncode == 0
    assert any("50 planned streams were not to be started" in problem for problem in verdict.problems)
    assert "load.max_requests was spent" in " ".join(done.stdout.split())
    assert "load.max_open" not in done.stdout


@pytest.mark.timeout(300)  # three runs: on a busy machine each takes half a minute
def test_poisson_arrivals_are_those_of_the_seed(tmp_path):
    """Two runs of one seed intend the same starts; stages and recorded starts are walked as they are written."""
    (tmp_path / "starts.csv").write_text("start_s\n7.0\n7.25\n7.25\n8.5\n")
    options = ["--set", "load.arrivals=poisson", "--seed", "11", "--quiet"]
    stages = 'load.stages=[{duration="1s", rate=5, to=25}, {duration="500ms", rate=10}]'
    found = []
    with served() as url:
        target = f"{url}?events=1&interval_ms=1"
        for number, load in enumerate(
            [["--set", stages], ["--set", stages], ["--set", "load.replay=../starts.csv"]]
        ):
            cwd = tmp_path / str(number)
            cwd.mkdir()
            sseproof("run", "--target", target, *load, *options, cwd=cwd)
            found.append(offsets_of(rows(directory_of(cwd), STARTS)))
    first, again, replayed = found
    assert first == again
    assert 8 <= len(first) <= 35, "20 on average"
    assert replayed == {0: 0, 1: 250 * MS, 2: 250 * MS, 3: 1_500 * MS}


def test_a_dead_workers_slice_is_not_walked_again(tmp_path):
    """Locust hands its user to the worker that is left, after 3 s without a sign of life; the load lasts 8 s."""
    with served() as url:
        run = started(
            *["run", "--target", f"{url}?events=2&interval_ms=5", "--rate", "20", "--duration", "8s"],
            *["--workers", "2", *claims("success >= 90%")],
            cwd=tmp_path,
        )
        directory = wait_for_rows(tmp_path, 10)
        os.kill(worker_of(directory, 1), signal.SIGKILL)
        out, err = run.communicate(timeout=60)
    starts = rows(directory, STARTS)
    numbers = [row.stream for row in starts]
    assert len(numbers) == len(set(numbers)), "none twice"
    assert {row.stream for row in starts if row.worker == 0} == set(range(0, 160, 2)), out + err
    mine = {row.stream for row in starts if row.worker == 1}
    assert mine == set(range(1, 2 * len(mine), 2)), "the dead worker's part ends where it died"
    assert len(mine) < 60
    records = rows(directory, STREAMS)
    living = [record for record in records if record.worker == 0]
    # What the dead one had not reported is lost with it, and nothing else.
    assert gaps_of(living) <= series_counts(directory)["gap"] <= gaps_of(records) + len(mine)
    verdict = verdict_of(directory)
    (success,) = verdict.verdicts
    assert success.unfinished == verdict.totals.outcomes["unfinished"] >= 80 - len(mine)
    assert success.n + success.unfinished == 160
    assert success.verdict == "unknown"
    assert any("not reported as made" in problem for problem in verdict.problems)
    assert any("Worker 1 was lost" in problem for problem in verdict.problems)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["load.rate=0"], "load.rate is 0"),
        (["load.rate=5", "load.think=1s"], "load.think"),
        (["load.model=open"], "load.rate, [[load.stages]] or load.replay"),
        (["load.model=closed", "load.rate=5"], "load.rate belongs to an open loop"),
        (["load.rate=5", "load.max_open=0"], "load.max_open is 0"),
        (["load.rate=5", 'load.stages=[{duration="1s", rate=1}]'], "exclude each other"),
        (['load.stages=[{duration="1s", rate=0}]'], "no stream would ever start"),
        (['load.stages=[{duration="0s", rate=3}]'], "duration of 0"),
        (['load.stages=[{duration="1s", rate=-3}]'], "rate = -3 in stage 1"),
        (["load.replay=nowhere.csv"], "nowhere.csv can't be read"),
        (["load.rate=5", "load.duration=5s", "load.warmup=5s"], "load.warmup (5s) is not below"),
        (["load.streams=5", "load.warmup=1s"], "load.warmup leaves out"),
    ],
)
def test_impossible_schedules_are_refused_before_anything_is_sent(tmp_path, sets, words):
    options = [part for text in sets for part in ("--set", text)]
    done = sseproof("run", "--target", "http://127.0.0.1:9/", *options, cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()
