"""Reading a run directory: whole, torn, cut short, foreign."""

import pytest

from sseproof.loadtests.settings import Load
from sseproof.reports.history import read_history
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import GENERATOR, OPEN, ROW_FILES, STARTS, STREAMS
from sseproof.rundir.rows import OpenRow, PhasePlan
from sseproof.rundir.units import Duration, to_raw
from tests.reports.conftest import S


def test_a_whole_run_has_no_problems(run):
    run.stream()
    run.break_(0)
    run.fault("applied")
    run.generator()
    history = read_history(run.write())
    assert history.problems == []
    assert history.missing == []
    assert history.how == "finished"
    assert (len(history.streams), len(history.breaks), len(history.faults), len(history.generator)) == (
        1,
        1,
        1,
        1,
    )
    assert history.starts == 1


def test_a_start_without_a_record_is_unfinished_and_one_never_made_is_dropped(run):
    run.stream()
    run.start()
    run.start(dropped=True)
    history = read_history(run.write())
    assert [start.stream for start in history.unfinished] == [1]
    assert [start.stream for start in history.dropped] == [2]
    assert history.starts == 2


def test_the_warm_up_is_counted_and_left_out(run):
    run.stream(warmup=True)
    run.break_(0)
    run.start(warmup=True)
    run.stream()
    history = read_history(run.write())
    assert [record.stream for record in history.streams] == [2]
    assert history.warmup == 2
    assert history.unfinished == []
    assert history.breaks == []


def test_a_record_of_the_warm_up_is_left_out_without_its_start_too(run):
    run.stream(warmup=True, started=False)
    history = read_history(run.write())
    assert (history.streams, history.warmup) == ([], 1)


def test_a_second_row_of_a_stream_counts_once_the_first(run):
    run.stream(stream=3, outcome="complete")
    run.stream(stream=3, outcome="cut", started=False)
    run.break_(3, end="rst")
    run.break_(3, end="fin")
    history = read_history(run.write())
    assert [record.outcome for record in history.streams] == ["complete"]
    assert [row.end for row in history.breaks] == ["rst"]
    assert len([text for text in history.problems if "second time" in text]) == 2


def test_the_same_number_in_two_variants_is_two_streams(run):
    run.variant("before")
    run.variant("after")
    run.stream(stream=0, variant="before")
    run.stream(stream=0, variant="after")
    history = read_history(run.write())
    assert len(history.streams) == 2
    assert history.problems == []


def test_a_record_without_a_start_counts_and_is_said(run):
    run.stream(started=False)
    history = read_history(run.write())
    assert len(history.streams) == 1
    assert "1 stream ended without a start row" in " ".join(history.problems)


@pytest.mark.parametrize("file", [file for file in ROW_FILES if file is not OPEN], ids=lambda file: file.name)
def test_a_missing_file_is_said_and_named(run, file):
    run.stream()
    directory = run.write()
    (directory / file.name).unlink()
    history = read_history(directory)
    assert file.schema in history.missing
    assert f"{file.name} is missing." in history.problems


def test_a_torn_record_leaves_its_stream_unfinished(run):
    run.streams(2)
    directory = run.write()
    path = directory / STREAMS.name
    path.write_bytes(path.read_bytes()[:-20])
    history = read_history(directory)
    assert [record.stream for record in history.streams] == [0]
    assert [start.stream for start in history.unfinished] == [1]
    assert any("streams.jsonl is damaged in 1 place" in text for text in history.problems)


def test_any_cut_of_the_file_of_records_is_readable(run):
    run.streams(2)
    directory = run.write()
    path = directory / STREAMS.name
    whole = path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        history = read_history(directory)
        lines = [end for end in ends[1:] if end <= cut]
        assert len(history.streams) == len(lines), cut
        assert len(history.streams) + len(history.unfinished) == 2


def test_a_run_without_an_end_was_killed(run):
    run.stream()
    history = read_history(run.write("running"))
    assert history.how == "killed"
    assert any("no end on record" in text for text in history.problems)


@pytest.mark.parametrize("how", ["interrupted", "terminated"])
def test_how_the_run_ended_is_said(run, how):
    history = read_history(run.write(how))
    assert history.how == how
    assert any(f"The run was {how}" in text for text in history.problems)


def test_a_run_that_the_suite_failed_says_why(run):
    run.info.problem = "The disk is full\x1b[2J."
    history = read_history(run.write("failed"))
    assert history.problems == [r"The suite itself failed: The disk is full\x1b[2J."]


def test_without_run_json_the_run_counts_as_killed(run):
    run.stream()
    directory = run.write()
    (directory / "run.json").unlink()
    history = read_history(directory)
    assert (history.how, history.run) == ("killed", None)
    assert any("run.json is missing" in text for text in history.problems)


def test_lost_workers_and_rig_errors_are_named(run):
    run.info.workers_lost = [3, 1]
    for _ in range(2):
        run.generator(worker=2, rig_error="256 MiB of unfinished events\x1b[2J")
    problems = " ".join(read_history(run.write()).problems)
    assert "Workers 1, 3 were lost" in problems
    assert "Rig error in worker 2 (2 times): 256 MiB of unfinished events\\x1b[2J" in problems


def fixed(run, streams: int, *, made: int, workers: int = 2) -> None:
    """A closed loop of so many streams, of which the lowest numbers are on record."""
    run.plan.workers = workers
    run.plan.variants[0].load = to_raw(Load(model="closed", users=4, streams=streams))
    for number in range(made):
        run.stream(stream=number, worker=number % workers)


def test_the_streams_of_a_lost_worker_are_unfinished(run):
    """Worker 1 has the odd numbers; what it wrote stays, and what it did not is open."""
    fixed(run, 60, made=36)
    run.start(stream=37, worker=1)
    for number in range(36, 60, 2):
        run.stream(stream=number)
    run.info.workers_lost = [1]
    history = read_history(run.write())
    assert sorted(start.stream for start in history.unfinished) == list(range(37, 60, 2))
    assert history.dropped == []
    assert (
        "11 planned streams were not reported as made: a lost worker had them, and they count as unfinished."
        in (history.problems)
    )


def test_a_run_that_lost_a_worker_does_not_pass_by_the_streams_that_are_left(run):
    """36 of 36 would pass `>= 80%`; with the 24 others bad it is 60 %."""
    fixed(run, 60, made=36)
    run.info.workers_lost = [1]
    verdict = run.one("success >= 80%")
    assert (verdict.verdict, verdict.n, verdict.unfinished, verdict.dropped) == ("unknown", 36, 12, 12)


def test_planned_streams_that_no_worker_made_are_dropped(run):
    fixed(run, 10, made=9)
    run.generator(worker=1, admission_end="stopped")
    history = read_history(run.write())
    assert [(start.stream, start.worker) for start in history.dropped] == [(9, 1)]
    assert "1 planned stream was not made by any worker: they count as dropped." in history.problems


@pytest.mark.parametrize("end", ["requests", "users", "shape"])
def test_a_limit_of_the_users_own_leaves_streams_out_and_is_said(run, end):
    """Of the worker that met it, and of no other."""
    fixed(run, 10, made=6)
    run.generator(worker=1, admission_end=end)
    run.generator(worker=0, admission_end="numbers")
    history = read_history(run.write())
    assert ([start.stream for start in history.dropped], history.unfinished) == ([6, 8], [])
    assert any("2 planned streams were not to be started" in problem for problem in history.problems)


def test_a_killed_run_says_when_its_streams_were_last_seen_open(run):
    """The latest list that has a stream counts, of any worker; one that began since the last list is on none."""
    for _ in range(10):
        run.start(worker=1)
    run.start()
    run.stream()
    for second, worker, streams in (
        (10, 1, [0, 1, 2, 3]),
        (20, 1, list(range(1, 9))),
        (20, 0, [10, 11]),
        (30, 1, [3, 8]),
        (15, 0, [3]),  # workers write when they come to it
    ):
        run.append(OPEN, OpenRow(at_ns=run.t0 + second * S, worker=worker, streams=streams))
    problems = read_history(run.write("running")).problems
    assert (
        "11 streams without an end, last seen open: 2 (3, 8) 30 s after the start; 7 (1, 2, 4, 5, 6, …) 20 s after the "
        "start; 1 (0) 10 s after the start; 1 (9) never, since the open ones are listed every 10 s only."
    ) in problems


def test_what_was_last_seen_is_told_by_variant_and_by_the_masters_clock(run):
    run.variant("before")
    run.variant("after")
    run.start(stream=4, variant="before", worker=0)
    run.start(stream=4, variant="after", worker=1)
    run.generator(worker=1, master_offset_ns=5 * S, master_offset_error_ns=1)
    run.append(OPEN, OpenRow(at_ns=run.t0 + 10 * S, worker=0, variant="before", streams=[4]))
    run.append(OPEN, OpenRow(at_ns=run.t0 + 25 * S, worker=1, variant="after", streams=[4]))
    problems = read_history(run.write("running")).problems
    told = "last seen open: 1 (4 of after) 20 s after the start; 1 (4 of before) 10 s after the start."
    assert any(told in problem for problem in problems), problems


def test_many_moments_are_not_all_named(run):
    for number in range(6):
        run.start()
        run.append(OPEN, OpenRow(at_ns=run.t0 + (60 - 10 * number) * S, worker=0, streams=[number]))
    problems = " ".join(read_history(run.write("running")).problems)
    assert "1 (2) 40 s after the start; 3 (3, 4, 5) before that." in problems


@pytest.mark.parametrize(
    ("end", "dropped"), [("requests", 0), ("stopped", 4), ("users", 4), ("shape", 4), (None, 4)]
)
def test_a_schedule_ends_early_by_its_limit_of_requests_alone(run, end, dropped):
    run.plan.variants[0].load = to_raw(Load(model="open", rate=10, streams=10, max_requests=6))
    run.streams(6)
    run.generator(admission_end=end)
    history = read_history(run.write())
    assert (len(history.dropped), history.unfinished) == (dropped, [])
    assert any("load.max_requests was spent" in problem for problem in history.problems) == (not dropped)


STOPPED = pytest.mark.parametrize("how", ["interrupted", "terminated", "failed", "running"])


@STOPPED
def test_what_a_stopped_run_did_not_come_to_is_unfinished(run, how):
    fixed(run, 10, made=6)
    history = read_history(run.write(how))
    assert history.dropped == []
    assert [(start.stream, start.worker) for start in history.unfinished] == [(6, 0), (7, 1), (8, 0), (9, 1)]
    said = "4 planned streams were not on record as started when the run stopped: they count as unfinished."
    assert said in history.problems


@STOPPED
@pytest.mark.parametrize(
    "load",
    [Load(model="closed", users=4, streams=200), Load(model="open", rate=20, duration=Duration(10 * S))],
)
def test_a_run_is_not_made_a_pass_by_stopping_it_when_it_looks_well(run, how, load):
    """60 of 60 would pass `>= 95%`; the plan fixed 200 streams, and of these 190 have to be on record and good."""
    run.plan.variants[0].load = to_raw(load)
    run.streams(60)
    verdict = run.one("success >= 95%", how=how)
    assert (verdict.verdict, verdict.code, verdict.n, verdict.unfinished) == (
        "unknown",
        "interrupted",
        60,
        140,
    )
    assert verdict.next.startswith("Run again to its end: sseproof run --seed 7 (about ")


@STOPPED
@pytest.mark.parametrize(
    ("good", "bad", "verdict"), [(197, 0, "pass"), (140, 30, "fail"), (140, 5, "unknown")]
)
def test_what_the_rest_can_not_change_is_decided_by_a_stopped_run(run, how, good, bad, verdict):
    fixed(run, 200, made=good)
    for _ in range(bad):
        run.failed()
    assert run.one("success >= 95%", how=how).verdict == verdict


def test_a_stopped_run_by_duration_has_no_number_to_come_to(run):
    run.streams(60)
    history = read_history(run.write("interrupted"))
    assert (history.dropped, history.unfinished) == ([], [])


@STOPPED
def test_a_limit_of_the_users_own_is_no_stop(run, how):
    run.plan.variants[0].load = to_raw(Load(model="open", rate=10, streams=10, max_requests=6))
    run.streams(6)
    run.generator(admission_end="requests")
    history = read_history(run.write(how))
    assert (history.dropped, history.unfinished) == ([], [])


@STOPPED
def test_the_generator_is_not_accused_of_what_a_stopped_run_did_not_come_to(run, how):
    run.plan.variants[0].load = to_raw(Load(model="open", rate=20, duration=Duration(10 * S)))
    run.streams(60)
    run.generator()
    assert [row for row in run.judge(how).rig if row.within is False] == []


@pytest.mark.parametrize("is_open", [True, False])
def test_a_phase_that_was_over_does_not_wait_for_what_a_stopped_run_did_not_come_to(run, is_open):
    """100 starts in each of two phases of 5 s; stopped in the second one."""
    load = Load(model="open", rate=20, duration=Duration(10 * S))
    run.plan.variants[0].load = to_raw(load if is_open else Load(model="closed", users=4, streams=200))
    run.plan.phases = [
        PhasePlan(name="first", start_ms=0, end_ms=5_000),
        PhasePlan(name="second", start_ms=5_000),
    ]
    for number in range(160):
        at_ms = number * 50.0
        told = {"intended": run.at(at_ms)} if is_open else {}
        run.stream(stream=number, start_ms=at_ms, phase="first" if number < 100 else "second", **told)
    run.claims("success >= 95% in phase first", "success >= 90% in phase second", "success >= 90%")
    found = [(each.verdict, each.code, each.n, each.unfinished) for each in run.judge("interrupted").verdicts]
    assert found == [
        ("pass", None, 100, 0),
        ("unknown", "interrupted", 60, 40),
        ("unknown", "interrupted", 160, 40),
    ]


def test_the_part_of_a_lost_worker_in_a_second_variant_is_that_variants(run):
    """Worker numbers run through the variants: 3 is the second one of the second."""
    run.variant("before")
    run.variant("after")
    run.plan.workers = 2
    for variant in run.plan.variants:
        variant.load = to_raw(Load(model="closed", users=4, streams=4))
    for number in range(4):
        run.stream(stream=number, variant="before", worker=number % 2)
        if number % 2 == 0:
            run.stream(stream=number, variant="after", worker=2)
    run.info.workers_lost = [3]
    history = read_history(run.write())
    assert [(start.variant, start.stream, start.worker) for start in history.unfinished] == [
        ("after", 1, 3),
        ("after", 3, 3),
    ]


def test_witness_rows_are_found_by_stream_in_the_order_of_connections(run):
    run.witnessed((1, 42))
    first = run.stream(truth_id="t")
    spec = read_history(run.write()).witness[f"{run.plan.run}/-/0"][0].script
    assert spec is not None
    run.witness(first.truth_id, spec, connection=2)
    run.witness(first.truth_id, spec, connection=1)
    rows = read_history(run.directory).witness["t"]
    assert [row.connection for row in rows] == [1, 2]


def test_no_run_directory_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="is not a run directory"):
        read_history(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has no plan\.json"):
        read_history(tmp_path)


def test_a_newer_file_is_left_out_and_said(run):
    run.stream()
    directory = run.write()
    path = directory / STARTS.name
    head, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(head.replace(b'"version":1', b'"version":99') + b"\n" + rest)
    history = read_history(directory)
    (problem,) = history.problems
    assert problem.startswith(
        "starts.jsonl was written by a newer sseproof (schema 99, this one reads up to 1)"
    )
    assert (history.missing, len(history.streams)) == (["starts"], 1)


def test_a_foreign_file_is_left_out_and_said(run):
    run.generator()
    directory = run.write()
    path = directory / GENERATOR.name
    path.write_bytes(path.read_bytes().replace(b"sseproof/generator", b"something/else"))
    history = read_history(directory)
    assert history.missing == ["generator"]
    assert "it is not part of a run. Judged without it." in history.problems[0]


MS = 1_000_000


def broken(run, well_ms: int, known_ms: int, again_ms: int | None = None) -> None:
    """The fault engine was last well at one moment, known to be gone at another, and for both groups again at a third."""
    for group in ("a", "clean"):
        spans = {"call_sent_ns": run.t0 + well_ms * MS, "call_answered_ns": run.t0 + known_ms * MS}
        run.fault("failed", group=group, ok=False, at_ns=run.t0 + known_ms * MS, **spans)
    for group in ("a", "clean") if again_ms is not None else ():
        spans = {"call_sent_ns": run.t0 + known_ms * MS, "call_answered_ns": run.t0 + again_ms * MS}
        run.fault("healed", group=group, ok=True, at_ns=run.t0 + again_ms * MS, **spans)


def test_what_ran_while_the_fault_engine_was_broken_is_unfinished(run):
    for start_ms in (0, 3_000, 5_500, 6_500):
        run.stream(start_ms=start_ms, outcome="cut", end="fin")
    run.break_(1)
    run.break_(3)
    broken(run, 4_000, 5_000, 6_000)
    history = read_history(run.write())
    assert [record.stream for record in history.streams] == [0, 3]
    assert [start.stream for start in history.unfinished] == [1, 2]
    assert [row.stream for row in history.breaks] == [3]
    assert any("2 streams ran" in problem for problem in history.problems)


def test_an_engine_that_never_came_back_leaves_all_later_streams_unfinished(run):
    for start_ms in (0, 3_000, 90_000):
        run.stream(start_ms=start_ms)
    broken(run, 4_000, 5_000)
    history = read_history(run.write())
    assert [start.stream for start in history.unfinished] == [1, 2]
    assert len(history.outages) == 1


def test_a_fault_that_could_not_be_set_before_the_load_is_no_outage(run):
    run.stream()
    run.fault("failed", ok=False)
    history = read_history(run.write())
    assert (history.outages, history.unfinished) == ([], [])
