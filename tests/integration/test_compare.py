"""`sseproof compare` and `sseproof runs` on real runs: a healthy service, a worse one, and a run that goes on meanwhile."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sseproof.cli import invoke
from sseproof.rundir.files import PLAN_NAME
from tests.integration.suite import directory_of, served, sseproof, started, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SHORT = "events=4&interval_ms=5"
LOAD = ("--streams", "160", "--users", "20", "--claim", "success >= 98%", "--claim", "ttft p95 <= 1s")


def loaded(cwd: Path, url: str) -> Path:
    done = sseproof("run", "--target", f"{url}?{SHORT}", *LOAD, "--quiet", cwd=cwd)
    assert done.returncode in {0, 1, 2}, done.stdout + done.stderr
    return directory_of(cwd)


@pytest.fixture
def answered(tmp_path, monkeypatch, capsys):
    """The answer in JSON of a command line that ends with a code; in this process, which costs less than one of its own."""
    monkeypatch.chdir(tmp_path)

    def answer(code: int, *arguments: str) -> Any:
        assert invoke([*arguments, "--json"]) == code, capsys.readouterr()
        return json.loads(capsys.readouterr().out)

    return answer


def test_a_worse_service_is_told_from_a_healthy_one(tmp_path, answered, capsys):
    with served() as healthy, served("--misbehave", "slow,truncate", "--misbehave-share", "0.6") as worse:
        first = loaded(tmp_path, healthy)
        bad = loaded(tmp_path, worse)
        running = started("run", "--target", f"{healthy}?{SHORT}", *LOAD, "--quiet", cwd=tmp_path)
        try:
            while directory_of(tmp_path) == bad:
                assert running.poll() is None, running.communicate()
                time.sleep(0.05)
            again = directory_of(tmp_path)
            running.send_signal(signal.SIGSTOP)  # it waits until all has been seen of it
            # It goes on: it is listed so, it is refused, and pruning leaves it alone.
            listed = answered(0, "runs")
            assert [run["state"] for run in listed["runs"]] == ["running", "finished", "finished"]
            assert invoke(["compare", str(first), str(again)]) == 64
            assert "still goes on" in capsys.readouterr().err
            pruned = answered(0, "runs", "prune", "--keep", "2")
            assert pruned["done"]["removed"] == []
            assert len(pruned["done"]["left_alone"]) == 1
            running.send_signal(signal.SIGCONT)
            running.communicate(timeout=60)
        finally:
            running.kill()
            running.communicate()
    told = sseproof("compare", str(first), str(bad), "--json", cwd=tmp_path)
    assert told.returncode == 1, told.stderr
    answer = json.loads(told.stdout)
    rows = {row["key"]: row for row in answer["comparison"]["rows"]}
    counted = {verdict.metric: verdict for verdict in verdict_of(bad).verdicts}
    assert rows["success"]["call"] == "worse"
    assert (rows["success"]["after"]["k"], rows["success"]["after"]["n"]) == (counted["success"].k, 160)
    assert (rows["success"]["before"]["k"], rows["success"]["before"]["n"]) == (160, 160)
    assert rows["ttft p95"]["after"]["value"] == counted["ttft"].quantile.value_ns
    assert (rows["ttft p50"]["call"], rows["ttft p50"]["leans"]) == ("undecided", "worse")
    assert "target.url" in {each["name"] for each in answer["comparison"]["differing"]}
    assert "Worse: success" in (bad / "compare.html").read_text("utf-8")
    assert answered(2, "compare", str(again), str(bad), "--gate", "ttft p95")

    alike = answered(0, "compare", str(first), str(again))
    assert {row["call"] for row in alike["comparison"]["rows"] if row["may_call"]} <= {
        "none shown",
        "undecided",
    }

    kept = answered(0, "runs", "keep", str(first))
    assert kept["baselines"] == 1
    against = answered(2, "compare", str(bad))
    assert {row["call"] for row in against["comparison"]["rows"]} == {"undecided"}
    trend = answered(0, "runs", "trend")["trends"][0]
    ttft = next(series for series in trend["series"] if series["name"] == "ttft p95 <= 1s")
    assert [point["verdict"] == "fail" for point in ttft["points"]] == [False, True, False]
    assert answered(0, "runs", "prune", "--keep", "1")["done"]["removed"] == [
        str(path.relative_to(tmp_path)) for path in (bad, first)
    ]
    assert not bad.exists()
    assert (again / PLAN_NAME).exists()
    assert (tmp_path / kept["directory"] / PLAN_NAME).exists()
    assert directory_of(tmp_path) == again
