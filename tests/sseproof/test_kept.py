"""Kept runs: what is listed and how, what a trend shows, and that pruning removes runs that are over and nothing else."""

import json
import os
import shutil
import subprocess
import sys

import msgspec
import pytest

from sseproof.cli import invoke
from sseproof.judging import judged
from sseproof.kept import WRITTEN_LATELY_S, KeptRun, keep, kept_runs, prune, read_kept
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import PLAN_NAME, RUN_NAME, VERDICT_NAME, write_document
from sseproof.rundir.layout import LATEST, create_run_directory, new_run_id
from sseproof.rundir.rows import Plan, RunInfo
from sseproof.runs_commands import Point, Series, listed, sparkline, trends
from tests.reports.made_runs import one_variant

S = 1_000_000_000
T0 = 1_790_000_000 * S


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs"


def dead_pid():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def long_ago(directory):
    """As if nobody had written to a run for longer than a run without an end may be silent."""
    for path in directory.iterdir():
        then = path.stat().st_mtime - 2 * WRITTEN_LATELY_S
        os.utime(path, (then, then))


def made(out, scenario="nightly", minute=0, *, how="finished", labels=None, answers=None, pid=None):
    """A run directory by the code that makes them, with a verdict when there are answers: (verdict, k, n, value_ns)."""
    at = T0 + minute * 60 * S
    plan = Plan(run=new_run_id(7, at), scenario=scenario, seed=7, created_ns=at)
    info = RunInfo(run=plan.run, started_ns=at, pid=pid, labels=labels or {})
    directory = create_run_directory(out, plan, info)
    if how != "running":
        info.how, info.ended_ns = how, at + 30 * S
        write_document(directory / RUN_NAME, info)
    if answers is not None:
        document = {
            "schema": "sseproof/verdict",
            "version": 1,
            "verdicts": [
                {"claim": claim, "verdict": verdict, "k": k, "n": n}
                | ({} if value == "share" else {"quantile": {"value_ns": value}})
                for claim, (verdict, k, n, value) in answers.items()
            ],
            "variants": [{"name": None, "judged": True, "summary": {"streams": 100, "good": 98}}],
        }
        (directory / VERDICT_NAME).write_bytes(msgspec.json.encode(document))
    return directory


# --- the list -----------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_with_what_they_said(out):
    older = made(
        out, minute=0, labels={"commit": "a1"}, answers={"success >= 98%": ("pass", 98, 100, "share")}
    )
    newer = made(
        out,
        "release",
        minute=5,
        labels={"commit": "b2"},
        answers={"success >= 98%": ("fail", 90, 100, "share"), "lost = 0": ("unknown", 0, 0, "share")},
    )
    found = listed(out, None, {})
    assert [run.directory for run in found.runs] == [str(newer), str(older)]
    assert found.runs[0].counts == {"pass": 0, "fail": 1, "unknown": 1}
    assert (found.runs[0].good, found.runs[0].streams, found.runs[0].seed) == (98, 100, 7)
    text = found.to_text()
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines if str(out) not in line)
    assert "release" in lines[2]
    assert "✓0 ✕1 ?1" in lines[2]
    assert "98/100" in lines[2]
    assert lines[3].strip() == str(newer)
    assert "seed=7 commit=b2" in lines[4]


def test_the_list_is_filtered_by_scenario_and_by_all_labels(out):
    for minute, (scenario, labels) in enumerate(
        [("a", {"x": "1", "y": "1"}), ("a", {"x": "1", "y": "2"}), ("b", {"x": "1"})]
    ):
        made(out, scenario, minute, labels=labels)
    assert [run.labels for run in listed(out, "a", {"x": "1", "y": "2"}).runs] == [{"x": "1", "y": "2"}]
    assert len(listed(out, None, {"x": "1"}).runs) == 3
    assert listed(out, "b", {"x": "2"}).runs == []
    with pytest.raises(UsageError, match=r"'c' in .*: there are runs of a, b"):
        listed(out, "c", {})
    with pytest.raises(UsageError, match="no folder"):
        listed(out / "nowhere", None, {})


def test_each_way_a_run_can_be_has_its_word(out):
    made(out, minute=0)
    for minute, how in enumerate(("interrupted", "terminated", "failed"), start=1):
        made(out, minute=minute, how=how)
    lives = made(out, minute=4, how="running", pid=os.getpid())
    long_ago(lives)
    crashed = made(out, minute=5, how="running", pid=dead_pid())
    long_ago(crashed)
    elsewhere = made(out, minute=6, how="running", pid=dead_pid())  # rows come: another machine makes it
    damaged = made(out, minute=7)
    (damaged / PLAN_NAME).write_text("{")
    newer = made(out, minute=8)
    plan = json.loads((newer / PLAN_NAME).read_text())
    (newer / PLAN_NAME).write_text(json.dumps(plan | {"version": 99, "shape": {}}))
    without = made(out, minute=9)
    (without / RUN_NAME).unlink()
    found = {run.directory: run for run in kept_runs(out)}
    words = "finished interrupted terminated failed running running crashed damaged damaged newer-version"
    assert sorted(run.state.replace(" ", "-") for run in found.values()) == sorted(words.split())
    for directory, state, said in (
        (lives, "running", ""),
        (crashed, "crashed", "No end is on record"),
        (elsewhere, "running", ""),
        (damaged, "damaged", "is damaged"),
        (newer, "newer version", "newer sseproof"),
        (without, "damaged", "it has no run.json"),
    ):
        assert found[str(directory)].state == state
        assert said in found[str(directory)].sentence
    assert all(word in listed(out, None, {}).to_text() for word in ("crashed", "damaged", "newer version"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "It was not judged"),
        (b"[", "can't be read"),
        (b"\xff\xfe", "can't be read"),
        (b'{"schema": "sseproof/verdict", "version": 2}', "newer sseproof"),
    ],
)
def test_a_verdict_that_can_not_be_read_costs_only_its_figures(out, content, said):
    directory = made(out)
    if content is not None:
        (directory / VERDICT_NAME).write_bytes(content)
    run = read_kept(directory)
    assert (run.state, run.readings, run.streams) == ("finished", [], None)
    assert said in run.sentence


def test_names_and_labels_of_others_can_not_drive_the_terminal(out):
    made(out, labels={"note": "\x1b[2J\u202eevil"})
    text = listed(out, None, {}).to_text()
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_what_a_real_verdict_says_is_read(tmp_path):
    directory = tmp_path / "runs" / "release-check" / "20260921T141320Z-7"
    directory.mkdir(parents=True)
    one_variant(directory, 60)
    verdict = judged(directory)
    run = read_kept(directory)
    assert run.state == "finished"
    assert [reading.claim for reading in run.readings] == [each.claim for each in verdict.verdicts]
    assert [reading.verdict for reading in run.readings] == [each.verdict for each in verdict.verdicts]
    assert (run.streams, run.good) == (verdict.totals.streams, verdict.totals.good)
    timed = {reading.claim for reading in run.readings if reading.timed}
    assert timed == {"ttft p95 <= 1s in group clean", "gap p99 <= 250ms in group clean", "reconnect p95 < 1s"}


# --- trends -------------------------------------------------------------------------------------------------------------


def test_a_trend_follows_each_claim_from_the_oldest_run(out):
    values = (("pass", 100_000_000), ("pass", 200_000_000), ("fail", None))
    for minute, (verdict, value) in enumerate(values):
        made(out, minute=minute, answers={"ttft p95 <= 1s": (verdict, 90, 100, value)})
    made(out, minute=3, answers={"success >= 98%": ("unknown", 0, 0, "share")})
    made(out, minute=4, how="interrupted")
    (trend,) = trends(out, None, {}).trends
    by_name = {series.name: series for series in trend.series}
    assert [point.value for point in by_name["ttft p95 <= 1s"].points] == [1e8, 2e8, None, None]
    assert [point.measured for point in by_name["ttft p95 <= 1s"].points] == [True, True, True, False]
    assert [point.measured for point in by_name["success >= 98%"].points] == [False] * 4
    assert [point.value for point in by_name["streams that succeeded"].points] == [0.98] * 4
    assert trend.left_out == {"interrupted": 1}
    text = trends(out, None, {}).to_text()
    assert "▁█✗· last never, median 150 ms, 100 ms to 200 ms, 1 never, ✓2, ✕1" in " ".join(
        text.split("\n      ")
    )
    assert max(map(len, text.splitlines())) <= 80
    assert [run.rpartition("/")[2] for run in trends(out, None, {}, 2).trends[0].runs] == [
        run.rpartition("/")[2] for run in trend.runs[-2:]
    ]


@pytest.mark.parametrize(
    ("values", "bars"),
    [([0.0, 0.5, 1.0], "▁▅█"), ([0.98, 0.98], "▅▅"), ([None], "✗"), ([], "")],
)
def test_bars_span_what_was_seen(values, bars):
    points = [Point(run="", measured=True, value=value) for value in values]
    assert sparkline(Series(name="", unit="share", points=points)) == bars


def test_without_a_verdict_there_is_no_trend(out):
    made(out)
    assert trends(out, None, {}).trends == []
    assert "no trend" in trends(out, None, {}).to_text()


# --- pruning ------------------------------------------------------------------------------------------------------------


def test_pruning_keeps_the_newest_of_each_scenario(out):
    a = [made(out, "a", minute) for minute in range(5)]
    b = [made(out, "b", minute) for minute in range(2)]
    planned = prune(kept_runs(out), 2, dry_run=True)
    assert sorted(planned.removed) == [str(path) for path in a[:3]]
    assert all(path.exists() for path in a + b)
    done = prune(kept_runs(out), 2, dry_run=False)
    assert (sorted(done.removed), done.kept, done.left_alone) == ([str(path) for path in a[:3]], 4, [])
    assert [path.exists() for path in a] == [False] * 3 + [True] * 2
    assert all(path.exists() for path in b)
    assert (out / "a" / LATEST).resolve() == a[-1].resolve()
    assert not list(out.glob("*/.pruned-*"))
    assert prune(kept_runs(out), 2, dry_run=False).removed == []


def test_pruning_leaves_what_goes_on_and_what_may_be_no_run(out):
    lives = made(out, minute=0, how="running", pid=os.getpid())
    elsewhere = made(out, minute=1, how="running", pid=dead_pid())
    damaged = made(out, minute=2)
    (damaged / RUN_NAME).write_text("?")
    foreign = made(out, minute=3)
    (foreign / PLAN_NAME).write_text('{"schema": "other/plan", "version": 1}')
    notes = out / "nightly" / "notes"
    notes.mkdir()
    (notes / "kept.txt").write_text("mine")
    crashed = made(out, minute=4, how="running", pid=dead_pid())
    long_ago(crashed)
    old = made(out, minute=5)
    newest = made(out, minute=6)
    done = prune(kept_runs(out), 1, dry_run=False)
    assert sorted(done.removed) == sorted([str(old), str(crashed)])
    assert len(done.left_alone) == 4
    for path in (lives, elsewhere, damaged, foreign, notes, newest):
        assert path.exists()


def test_pruning_never_follows_a_link(out, tmp_path):
    elsewhere = made(tmp_path / "mine", "kept", 0)
    inner = made(out, minute=0)
    made(out, minute=1)
    (out / "nightly" / "linked").symlink_to(elsewhere)
    (out / "kept").symlink_to(elsewhere.parent)
    (inner / "out").symlink_to(elsewhere, target_is_directory=True)
    assert len(kept_runs(out)) == 2
    assert prune(kept_runs(out), 1, dry_run=False).removed == [str(inner)]
    assert (elsewhere / PLAN_NAME).exists()
    assert (out / "nightly" / "linked").is_symlink()


def test_the_run_that_latest_names_stays_and_a_link_into_nothing_is_repaired(out):
    runs = [made(out, minute=minute) for minute in range(3)]
    link = out / "nightly" / LATEST
    link.unlink()
    link.symlink_to(runs[0].name)
    assert prune(kept_runs(out), 1, dry_run=False).removed == [str(runs[1])]
    assert link.resolve() == runs[0].resolve()
    shutil.rmtree(runs[0])
    prune(kept_runs(out), 1, dry_run=False)
    assert link.resolve() == runs[2].resolve()


def test_what_a_killed_prune_left_is_removed_by_the_next(out):
    made(out)
    left = out / "nightly" / ".pruned-20260101T000000Z-1"
    left.mkdir()
    assert len(kept_runs(out)) == 1
    prune(kept_runs(out), 1, dry_run=True)
    assert left.exists()
    prune(kept_runs(out), 1, dry_run=False)
    assert not left.exists()


# --- keeping ------------------------------------------------------------------------------------------------------------


def test_a_kept_run_is_whole_and_survives_its_original(out, tmp_path):
    directory = made(out, answers={"success >= 98%": ("pass", 98, 100, "share")})
    (directory / "export").mkdir()
    (directory / "export" / "gap.hgrm").write_text("x")
    (directory / "elsewhere").symlink_to(tmp_path)
    place = keep(out / "nightly" / LATEST, tmp_path / "baseline")
    assert place == tmp_path / "baseline" / "nightly" / directory.name
    names = {path.name for path in directory.iterdir()} - {"elsewhere"}
    assert {path.name for path in place.iterdir()} == names
    for name in names - {"export"}:
        assert (place / name).read_bytes() == (directory / name).read_bytes()
    shutil.rmtree(directory)
    assert read_kept(place).counts == {"pass": 1, "fail": 0, "unknown": 0}
    assert [run.state for run in kept_runs(tmp_path / "baseline")] == ["finished"]


def test_keeping_twice_is_one_baseline_and_another_run_is_never_overwritten(out, tmp_path):
    directory = made(out)
    baseline = tmp_path / "baseline"
    assert keep(directory, baseline) == keep(directory, baseline)
    other = made(tmp_path / "others", minute=1)
    renamed = other.parent / directory.name
    other.rename(renamed)
    with pytest.raises(UsageError, match="another run of that name"):
        keep(renamed, baseline)


def test_what_is_no_finished_run_is_not_kept(out, tmp_path):
    with pytest.raises(UsageError, match="still goes on"):
        keep(made(out, how="running", pid=os.getpid()), tmp_path / "baseline")
    with pytest.raises(UsageError, match="not a run directory"):
        keep(tmp_path, tmp_path / "baseline")
    directory = made(out, minute=1)
    plan = msgspec.json.decode((directory / PLAN_NAME).read_bytes(), type=Plan)
    write_document(directory / PLAN_NAME, msgspec.structs.replace(plan, scenario="../../elsewhere"))
    with pytest.raises(UsageError, match="no name for a folder"):
        keep(directory, tmp_path / "baseline")
    assert not (tmp_path / "baseline").exists()


# --- the command line ---------------------------------------------------------------------------------------------------


def test_the_commands_answer_in_text_and_in_json(out, tmp_path, capsys):
    for minute in range(3):
        made(out, minute=minute, answers={"success >= 98%": ("pass", 98, 100, "share")})
    folder = ["--out", str(out)]
    assert invoke(["runs", *folder, "--last", "2"]) == 0
    assert "and 1 older" in capsys.readouterr().out
    assert invoke(["runs", *folder, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3
    assert invoke(["runs", "trend", *folder, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trends"][0]["series"]) == 2
    baseline = tmp_path / "baseline"
    assert invoke(["runs", "keep", str(out / "nightly" / LATEST), "--baseline", str(baseline)]) == 0
    assert "1 baseline of nightly" in capsys.readouterr().out
    assert invoke(["runs", "prune", "--keep", "1", *folder, "--dry-run"]) == 0
    assert "Would remove 2 runs" in capsys.readouterr().out
    assert len(kept_runs(out)) == 3
    assert invoke(["runs", "prune", "--keep", "1", *folder]) == 0
    assert "Removed 2 runs" in capsys.readouterr().out
    assert len(kept_runs(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prune"], "--keep"),
        (["prune", "--keep", "0"], "--keep"),
        (["--out", "elsewhere", "prune", "--keep", "1"], "Put --out behind prune"),
        (["--label", "commit"], "--label wants"),
        (["--scenario", "other"], "no run of the scenario 'other'"),
        (["prune", "--keep", "1", "--scenario", "other"], "no run of the scenario"),
        (["keep", "nowhere"], "not a run directory"),
    ],
)
def test_bad_input_is_one_sentence_and_removes_nothing(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "runs", minute=0)
    made(tmp_path / "runs", minute=1)
    assert invoke(["runs", *arguments]) == 64
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "Traceback" not in told.err
    assert len(kept_runs(tmp_path / "runs")) == 2


def test_states_are_those_of_the_rows():
    """A run ends in one of the ways that run.json knows, and each has its word."""
    ways = set(msgspec.json.schema(RunInfo)["$defs"]["RunInfo"]["properties"]["how"]["enum"]) - {"running"}
    assert ways < set(msgspec.json.schema(KeptRun)["$defs"]["KeptRun"]["properties"]["state"]["enum"])
