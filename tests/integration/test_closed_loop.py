"""Streams of a closed loop, with real workers: as many as planned in each stage, pauses kept, no figure from a plan."""

import json
import os
import signal
from collections.abc import Sequence

import pytest

from sseproof.rundir.files import REPORT_NAME, STREAMS
from sseproof.rundir.rows import StreamRecord
from tests.integration.suite import (
    claims,
    directory_of,
    rows,
    served,
    sseproof,
    started,
    verdict_of,
    wait_for_rows,
    worker_of,
)

pytestmark = pytest.mark.integration

S = 1_000_000_000


def most_at_once(records: Sequence[StreamRecord], since_ns: int, until_ns: int) -> int:
    """The most streams that were open at one instant of the window."""
    edges = sorted(
        [(max(row.dispatched.ns, since_ns), 1) for row in records if row.ended.ns > since_ns]
        + [(row.ended.ns, -1) for row in records if row.ended.ns > since_ns]
    )
    most = held = 0
    for at, change in edges:
        if at >= until_ns:
            break
        held += change
        most = max(most, held)
    return most


def held_on_average(records: Sequence[StreamRecord], since_ns: int, until_ns: int) -> float:
    """Stream-seconds within the window, over its length."""
    spans = (min(row.ended.ns, until_ns) - max(row.dispatched.ns, since_ns) for row in records)
    return sum(max(span, 0) for span in spans) / (until_ns - since_ns)


@pytest.mark.alone
def test_each_stage_holds_its_users_and_lets_running_answers_end(tmp_path):
    """Two, then seven, then three users in two workers; answers of 0.3 s, one after the other."""
    (tmp_path / "steps.toml").write_text(
        """
claims = ["success >= 90%"]
[load]
stages = [{duration = "1500ms", users = 2}, {duration = "1500ms", users = 7}, {duration = "1500ms", users = 3}]
"""
    )
    with served() as url:
        target = f"{url}?events=11&first_token_ms=0&interval_ms=30"
        done = sseproof("run", "steps.toml", "--target", target, "--workers", "2", cwd=tmp_path)
    records = rows(directory_of(tmp_path), STREAMS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row.outcome for row in records} == {"complete"}, "nobody is cut off at the end of a stage"
    start = min(row.dispatched.ns for row in records)
    for began, planned in ((0.0, 2), (1.5, 7), (3.0, 3)):
        # On a busy machine answers of the stage before end later than in 0.3 s, and the first stream begins late.
        window = start + round((began + 0.7) * S), start + round((began + 1.2) * S)
        assert most_at_once(records, *window) == planned
        assert held_on_average(records, *window) > planned / 2
    assert max(row.dispatched.ns for row in records) < start + round(4.5 * S), "and then nobody starts"


@pytest.mark.alone
def test_a_ramp_of_subscriptions_opens_and_closes_them_one_by_one(tmp_path):
    """Places 0 to 3 open a second apart less than the next; a place that closes ends its subscription, which was held."""
    with served() as url:
        stages = (
            'load.stages=[{duration="2s", users=0, to=4}, {duration="1s", users=4}, {duration="1s", users=1}]'
        )
        done = sseproof(
            *["run", "--target", f"{url}?script=endless&interval_ms=50", "--set", stages],
            *claims("success >= 40%"),
            cwd=tmp_path,
        )
    records = sorted(rows(directory_of(tmp_path), STREAMS), key=lambda row: row.dispatched.ns)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row.outcome for row in records] == ["held"] * 4
    happened = [row.dispatched.ns / S for row in records] + [row.ended.ns / S for row in records]
    planned = [0.0, 0.5, 1.0, 1.5, 4.0, 3.0, 3.0, 3.0]
    start = min(at - due for at, due in zip(happened, planned, strict=True))  # nothing is early
    assert [at - start for at in happened] == pytest.approx(planned, abs=0.45)
    assert [row.detail for row in records[1:]] == ["end of its stage"] * 3


def test_a_closed_loop_has_no_plan_to_be_late_of_and_keeps_its_pauses(tmp_path):
    """What would count from a planned start is a dash; a user pauses between two streams, and nobody else does."""
    with served() as url:
        done = sseproof(
            *["run", "--target", f"{url}?events=3&interval_ms=5", "--users", "2", "--duration", "3s"],
            *["--set", "load.think=600ms", *claims("ttft p95 <= 5s")],
            cwd=tmp_path,
        )
    directory = directory_of(tmp_path)
    records = sorted(rows(directory, STREAMS), key=lambda row: row.dispatched.ns)
    assert 4 <= len(records) <= 10, done.stdout + done.stderr
    assert most_at_once(records, records[0].dispatched.ns, records[-1].ended.ns) <= 2
    for earlier, record in enumerate(records):
        paused = [row for row in records if row.ended.ns + 0.6 * S - 1e6 <= record.dispatched.ns]
        assert len(paused) >= earlier - 1, "all but the other user's last one are a pause ago"
    assert {row.intended for row in records} == {None}
    verdict = verdict_of(directory)
    (ttft,) = verdict.verdicts
    assert (ttft.reading, ttft.beside) == ("from send", None)
    lags = [row.value for row in verdict.rig if row.indicator.startswith("dispatch lag")]
    assert lags == [None] * len(lags) != []
    assert "From send; from plan: –." in done.stdout
    page = (directory / REPORT_NAME).read_text("utf-8")
    assert "From send; from plan: –" in page


def test_a_dead_workers_numbers_stay_in_the_count_of_a_fixed_number(tmp_path):
    """Its users are given to nobody's numbers: what it had not made is open, so what is left can't pass alone."""
    with served() as url:
        run = started(
            *["run", "--target", f"{url}?events=4&interval_ms=60", "--users", "4", "--streams", "60"],
            *["--workers", "2", *claims("success >= 80%")],
            cwd=tmp_path,
        )
        directory = wait_for_rows(tmp_path, 8)
        os.kill(worker_of(directory, 1), signal.SIGKILL)
        out, err = run.communicate(timeout=90)
    made = {row.stream for row in rows(directory, STREAMS)}
    assert {number for number in range(60) if number % 2 == 0} <= made, out + err
    assert len(made) < 48, "`>= 80%` of 60 can't hold by these alone"
    (success,) = verdict_of(directory).verdicts
    assert (success.verdict, success.n, success.unfinished) == ("unknown", len(made), 60 - len(made))
    assert success.dropped == 0
    assert run.returncode == 2
    assert "a lost worker had them" in " ".join(out.split())


def test_flags_stand_for_the_stages_of_a_file(tmp_path):
    """--users and --rate each give their own load instead of the file's; --duration ends the stages earlier."""
    (tmp_path / "ramp.toml").write_text(
        '[load]\nmodel = "closed"\nstages = [{duration = "20s", users = 1, to = 50}]\n'
    )
    planned = {}
    for flags in ("--users 3", "--rate 40", "--duration 2s", "--rate 40 --duration 2s"):
        done = sseproof(
            *["run", "ramp.toml", "--target", "http://127.0.0.1:9/", "--dry-run", "--json", *flags.split()],
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        needs = json.loads(done.stdout)["needs"]
        planned[flags] = (needs["by_schedule"], needs["staged"], needs["users"], needs["duration_s"])
    assert planned["--users 3"] == (False, False, 3, 30.0)
    assert planned["--rate 40"][::3] == (True, 30.0)
    assert planned["--duration 2s"] == (False, True, 50, 2.0)
    assert planned["--rate 40 --duration 2s"][::3] == (True, 2.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--users", "3", "--rate", "5"], "load.users and load.rate exclude each other"),
        (
            ["--duration", "30s"],
            "(30s) is longer than the stages together (20s): it can only end them earlier",
        ),
        (["--streams", "9"], "load.streams and stages of users exclude each other"),
        (["--set", "load.model=open"], "is of an open loop, and stage 1 must say rate = N, and not users"),
        (["--set", 'load.stages=[{duration="1s", users=1.5}]'], "load.stages.users"),
        (["--set", 'load.stages=[{duration="1s", users=1, to=1.5}]'], "has to = 1.5 in stage 1"),
        (["--set", 'load.stages=[{duration="1s", users=1, to=nan}]'], "has to = nan in stage 1"),
        (["--set", 'load.stages=[{duration="1s", users=1, rate=1}]'], "must say"),
        (["--set", 'load.stages=[{duration="1s"}]'], "must say rate = N"),
        (["--set", 'load.stages=[{duration="1s", users=0}]'], "no stage with users above 0"),
        (["--set", 'load.stages=[{duration="0s", users=4}]'], "duration of 0"),
        (["--set", "load.warmup=20s"], "load.warmup (20s) is not below the stages together (20s)"),
    ],
)
def test_contradictions_are_refused_before_anything_is_sent(tmp_path, options, words):
    (tmp_path / "ramp.toml").write_text('[load]\nstages = [{duration = "20s", users = 1, to = 50}]\n')
    done = sseproof("run", "ramp.toml", "--target", "http://127.0.0.1:9/", *options, cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()
