"""A run that goes on until its claims are decided, by the registered rule, against the real server."""

import pytest

from sseproof.reports.looks import planned_looks
from sseproof.rundir.files import ENOUGH_NAME, GENERATOR, PLAN_NAME, RUN_NAME, read_document
from sseproof.rundir.rows import Plan, RunInfo
from tests.integration.suite import claims, directory_of, numbers, rows, served, sseproof, verdict_of

pytestmark = pytest.mark.integration


def test_it_ends_with_the_look_that_decides_long_before_its_limit(tmp_path):
    """Two in ten streams are cut and not recovered: the floor of 90 % falls at the first look or soon after."""
    with served("--misbehave", "cut", "--misbehave-share", "0.2", "--seed", "7") as url:
        done = sseproof(
            *["run", "--target", f"{url}?events=4&interval_ms=20", "--streams", "200", "--users", "20", "--workers", "2"],
            *["--set", "client.retries=0", "--set", "client.on_cut=give-up", "--seed", "7"],
            *["--until-decided", "--max-duration", "100s", *claims("success >= 90%", "ttft p95 <= 2s")],
            cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    plan = read_document(directory / PLAN_NAME, Plan, "plan")
    assert plan.looks == planned_looks(200)
    success, ttft = verdict_of(directory).verdicts
    assert (success.verdict, success.look.of) == ("fail", 5)
    assert success.n == success.look.streams == plan.looks[success.look.number - 1].streams
    assert success.confidence == pytest.approx(1 - 0.05 * plan.looks[success.look.number - 1].error_share)
    assert (ttft.verdict, ttft.look.number) == ("pass", 1), ttft.sentence
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    assert info.how == "finished"
    assert (info.ended_ns - info.started_ns) / 1e9 < 80
    assert (directory / ENOUGH_NAME).exists()
    assert {row.admission_end for row in rows(directory, GENERATOR)} == {None, "decided"}
    began, ended = numbers(directory)
    assert began == ended, "what was open has drained"
    assert set(range(success.look.streams)) <= set(ended)
    assert "no further one is started" in done.stderr
    before = (directory / "verdict.json").read_bytes()
    assert sseproof("judge", str(directory), cwd=tmp_path).returncode == 1
    assert (directory / "verdict.json").read_bytes() == before


def test_an_open_loop_ends_its_schedule_when_it_is_decided(tmp_path):
    with served() as url:
        done = sseproof(
            *["run", "--target", f"{url}?events=4&interval_ms=20", "--rate", "100", "--duration", "800ms"],
            *["--until-decided", "--max-duration", "100s", *claims("utf8 = 100%")],
            cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    (utf8,) = verdict_of(directory).verdicts
    assert (utf8.verdict, utf8.look.number, utf8.n, utf8.dropped) == ("pass", 1, 80, 0), utf8.sentence
    assert utf8.confidence == 0.95
    assert any("since the claims were decided" in problem for problem in verdict_of(directory).problems)
