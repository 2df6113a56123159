"""`sseproof compare` on recorded runs: which runs are meant, exit codes, JSON, and the page that it leaves."""

import json
import shutil

import msgspec
import pytest

from sseproof.cli import invoke
from sseproof.compare_commands import REPORT
from sseproof.judging import judged
from sseproof.rundir.files import PLAN_NAME, RUN_NAME, STREAMS, write_document
from sseproof.rundir.rows import Aborted, Plan, RunInfo
from sseproof.runs_commands import kept_as_baseline
from tests.reports.made_runs import one_variant, two_variants
from tests.reports.made_sets import made_run, made_sides


def compared(capsys, *arguments, code=0):
    """The answer in JSON of a command line that ends with this code."""
    assert invoke(["compare", "--json", *map(str, arguments)]) == code, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def calls(answer):
    return {row["key"]: row["call"] for row in answer["comparison"]["rows"] if row["may_call"]}


def test_two_runs_in_text(tmp_path, capsys):
    before = made_run(tmp_path / "a", 1, streams=300)
    after = made_run(tmp_path / "b", 2, streams=300, bad=0.10, slower=1.3)
    assert invoke(["compare", str(before), str(after)]) == 1
    text = capsys.readouterr().out
    flat = " ".join(text.split())
    assert "Worse: success 294 of 300 (98 %) → 270 of 300 (90 %)." in flat
    assert "TTFT is slower in this pair, which one pair can't put down to the service." in flat
    assert "the unit is the run" in flat
    assert "seed: 1 | 2" in text
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 80
    page = (after / REPORT).read_text("utf-8")
    assert str(after / REPORT) in text
    assert "✕ worse" in page
    assert invoke(["compare", str(after), str(before)]) == 0
    assert "Better: success" in capsys.readouterr().out


def test_two_sets_of_runs(tmp_path, capsys):
    before, after = made_sides(tmp_path, 5, slower=1.3)
    answer = compared(capsys, *before, "--with", *after, code=1)
    assert calls(answer) == {"success": "none shown", "ttft p50": "worse", "ttft p95": "worse"}
    assert answer["comparison"]["mode"] == "sets"
    assert len(answer["comparison"]["before"]) == len(answer["comparison"]["after"]) == 5
    again = compared(capsys, tmp_path / "a", "--with", tmp_path / "b", code=1)
    assert calls(again) == calls(answer)
    assert [head["run"] for head in again["comparison"]["before"]] == [f"made-{seed}" for seed in range(5)]
    written = [f"--with={after[0]}", *after[1:3], "--gate", "success", *after[3:]]
    mixed = compared(capsys, *before, *written)["comparison"]
    assert (len(mixed["before"]), len(mixed["after"])) == (5, 5)
    repeated = [word for path in after for word in ("--with", path)]
    assert calls(compared(capsys, *before, *repeated, "--gate", "ttft p50", code=1)) == {"ttft p50": "worse"}
    assert compared(capsys, *before, "--with", *after, "--ratio", "50%")["comparison"]["exit_code"] == 0
    few = compared(capsys, *before[:3], "--with", *after[:3], "--gate", "ttft p95", code=2)
    assert (
        "can't decide"
        in next(row for row in few["comparison"]["rows"] if row["key"] == "ttft p95")["sentence"]
    )


def test_a_run_against_its_baselines(tmp_path, capsys):
    baseline = tmp_path / "baseline"
    for seed in range(19):
        kept_as_baseline(made_run(tmp_path / "runs" / f"r{seed}", seed, minute=seed), baseline)
    slow = made_run(tmp_path / "runs" / "slow", 99, slower=1.3, minute=60)
    answer = compared(capsys, slow, "--baseline", baseline, code=1)
    assert calls(answer)["ttft p95"] == "worse"
    assert [head["run"] for head in answer["comparison"]["before"]] == [f"made-{seed}" for seed in range(19)]
    last = compared(capsys, slow, "--baseline", baseline, "--last", "5", code=2)
    assert [head["run"] for head in last["comparison"]["before"]] == [
        f"made-{seed}" for seed in range(14, 19)
    ]
    assert set(calls(last).values()) == {"undecided"}
    one = compared(capsys, tmp_path / "runs" / "r3", "--baseline", baseline / "release-check", code=2)
    assert len(one["comparison"]["before"]) == 18, "a run is not held against itself"


def test_baselines_that_can_not_stand_beside_the_run_are_left_out_and_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        made_run(tmp_path / "baseline" / "release-check" / str(seed), seed)
    gave_up = tmp_path / "baseline" / "release-check" / "3"
    info = msgspec.json.decode((gave_up / RUN_NAME).read_bytes(), type=RunInfo)
    info.aborted = Aborted(when="success < 50%", stop="load", at_ns=1, load_ns=1, n=10, k=1, over_ns=1)
    write_document(gave_up / RUN_NAME, info)
    unfinished = tmp_path / "baseline" / "release-check" / "0"
    info = msgspec.json.decode((unfinished / RUN_NAME).read_bytes(), type=RunInfo)
    info.how = "interrupted"
    write_document(unfinished / RUN_NAME, info)
    (tmp_path / "baseline" / "release-check" / "1" / PLAN_NAME).write_text("{")
    made_run(tmp_path / "baseline" / "other" / "7", 7)
    plan = msgspec.json.decode((tmp_path / "baseline" / "other" / "7" / PLAN_NAME).read_bytes(), type=Plan)
    plan.scenario = "other"
    write_document(tmp_path / "baseline" / "other" / "7" / PLAN_NAME, plan)
    answer = compared(capsys, made_run(tmp_path / "new", 50), code=2)
    assert [head["run"] for head in answer["comparison"]["before"]] == ["made-2"]
    assert any("was not taken: interrupted" in each for each in answer["left_out"])
    assert any("was not taken: aborted" in each for each in answer["left_out"])
    shutil.rmtree(tmp_path / "baseline" / "release-check" / "2")
    assert invoke(["compare", "new"]) == 64
    assert "holds no other run of the scenario release-check" in capsys.readouterr().err


def test_variants_of_one_run_and_times_that_never_came(tmp_path, capsys):
    directory = two_variants(tmp_path, 120)
    answer = compared(capsys, directory, directory, "--variant", "before", "--variant", "after")
    assert calls(answer)["success"] == "better"
    rows = {row["key"]: row for row in answer["comparison"]["rows"]}
    assert rows["reconnect p50"]["before"]["value"] == "never"
    assert rows["reconnect p50"]["before"]["each"] == ["never"]
    assert (directory / REPORT).exists()


def test_the_same_runs_give_the_same_page_anywhere(tmp_path, capsys):
    before, after = made_run(tmp_path / "a", 1), made_run(tmp_path / "b", 2)
    pages = []
    for name in ("one.html", "two.html"):
        compared(capsys, before, after, "--report", tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert not (after / REPORT).exists()
    assert pages[0].replace(b"one.html", b"") == pages[1].replace(b"two.html", b"")


def test_hostile_text_stays_text(tmp_path, capsys):
    before, after = made_run(tmp_path / "a", 1, hostile=True), made_run(tmp_path / "b", 2, hostile=True)
    assert invoke(["compare", str(before), str(after)]) == 0
    text = capsys.readouterr().out
    page = (after / REPORT).read_text("utf-8")
    for shown in (text, page):
        assert "\u202e" not in shown
    assert "<script>" not in page
    assert "{{ 7*7 }}" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b", "c"], "Name two runs"),
        (["a"], "no folder of baselines"),
        (["a", "nowhere"], "not a run directory"),
        (["a", "a"], "one and the same run"),
        (["a", "--with", "a"], "one and the same run"),
        (["a", "b", "--gate", "sucess"], "do you mean 'success'"),
        (["a", "b", "--gate", "zzz"], "there are success"),
        (["a", "b", "--variant", "before"], "has no variant 'before'"),
        (["a", "b", "--variant", "x", "--variant", "y", "--variant", "z"], "at most twice"),
        (["a", "b", "--ratio", "much"], "--ratio wants a share"),
        (["a", "b", "--ratio", "nan"], "--ratio wants a share"),
        (["a", "b", "--points", "101%"], "--points wants a share"),
        (["a", "b", "--baseline", "a"], "Name two runs"),
        (["a", "b", "--last", "0"], "--last"),
        (["a", "empty"], "not one finished stream"),
        (["a", "going"], "still goes on"),
        (["a", "b", "--report", "nowhere/x.html"], "another place with --report"),
        ([], "RUN"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        made_run(tmp_path / name, seed, streams=5)
    (tmp_path / "empty").mkdir()
    one_variant(tmp_path / "empty", 0, faults=False)
    going = made_run(tmp_path / "going", 9, streams=5)
    info = msgspec.json.decode((going / RUN_NAME).read_bytes(), type=RunInfo)
    info.how, info.ended_ns = "running", None
    write_document(going / RUN_NAME, info)
    assert invoke(["compare", *arguments]) == (70 if "another place" in said else 64)
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert not list(tmp_path.glob(f"*/{REPORT}"))


def test_a_trend_of_what_no_claim_asked_for(tmp_path, capsys):
    folder = tmp_path / "runs" / "release-check"
    for seed in range(4):
        judged(made_run(folder / str(seed), seed, slower=3.0 if seed == 3 else 1.0, minute=seed))
    (folder / "1" / STREAMS.name).write_text('{"schema":"sseproof/streams","version":99,"run":"made-1"}\n')
    options = ["--out", str(tmp_path / "runs"), "--figure", "ttft p95", "--figure", "success", "--json"]
    assert invoke(["runs", "trend", *options]) == 0
    (trend,) = json.loads(capsys.readouterr().out)["trends"]
    by_name = {series["name"]: series for series in trend["series"]}
    points = by_name["ttft p95"]["points"]
    assert [point["measured"] for point in points] == [True, False, True, True]
    assert points[3]["value"] > 2 * points[2]["value"]
    assert by_name["success"]["unit"] == "share"
    assert invoke(["runs", "trend", "--out", str(tmp_path / "runs"), "--figure", "ttft"]) == 64
    assert "--figure 'ttft' is no figure" in capsys.readouterr().err
